"""What one admitted request holds of every limit, until it is settled."""

from collections.abc import Callable
from datetime import datetime

from mesh_contracts.inference import Counted

from inference_gateway.domain.admission.estimate import Estimate
from inference_gateway.domain.admission.gcra import Bucket
from inference_gateway.domain.admission.money import Account, PriceBook
from inference_gateway.domain.admission.scope import Scope, Taken, left_of

Headers = list[tuple[bytes, bytes]]


class Held:
    """Tokens, money and a place among those in progress. ``settle`` it once, whatever happens."""

    __slots__ = ("_at", "_cost", "_entries", "_known", "_model", "_scopes", "_settled", "estimate")

    def __init__(
        self,
        *,
        known: "Known",
        scopes: tuple[str, str, str, str],
        model: str,
        estimate: Estimate,
        at: datetime,
        entries: list[Taken],
        cost: int,
    ) -> None:
        self._known = known
        self._scopes = scopes
        self._model = model
        self._at = at
        self._entries = entries
        self._cost = cost
        self._settled = False
        self.estimate = estimate

    def settle(self, prompt_tokens: int | None, completion_tokens: int | None, now: float) -> None:
        """Count what the request took instead of what it might have; give back the rest.

        What is unknown counts as much as it might have been. (0, 0) says that nothing was asked of
        any engine.
        """
        assert not self._settled, "a request is settled once"
        self._settled = True
        estimate = self.estimate
        prompt = estimate.prompt_tokens if prompt_tokens is None else prompt_tokens
        answer = estimate.answer_tokens if completion_tokens is None else completion_tokens
        accounts = self._accounts()
        cost = self._cost
        if accounts:
            known = self._known.prices.cost(self._model, prompt, answer, self._at)
            cost = cost if known is None else known
        if self._entries:
            taken, used, now_ns = estimate.tokens, prompt + answer, int(now * 1e9)
            for scope, bucket, account, *_ in self._entries:
                scope.active -= 1
                if bucket is not None:
                    bucket.settle(taken, used, now_ns)
                if account is not None:
                    scope.demand.spent += cost
        for account, reserved in accounts:
            account.settle(reserved, cost)

    def _accounts(self) -> list[tuple[Account, int]]:
        """Return what the cost is charged to, and what was reserved there.

        Also an account that was opened since: the ledger's line will count against it.
        """
        accounts = [(entry[2], self._cost) for entry in self._entries if entry[2] is not None]
        find = self._known.scopes.get
        for scope_id in self._scopes:
            scope = find(scope_id)
            if scope is not None and scope.account is not None:
                late = scope.account
                if late.holds(self._at) and all(late is not known for known, _ in accounts):
                    accounts.append((late, 0))
        return accounts

    @property
    def cap(self) -> int | None:
        """How long the engine must be told that one answer may be, where tokens or money are limited at all."""
        cap = self.estimate.cap
        if cap is None or not any(entry[1] is not None or entry[0].hard for entry in self._entries):
            return None
        return cap

    @property
    def counted(self) -> list[Counted]:
        """What the request was counted against, and what was left of it right after."""
        return [
            Counted(
                scope=scope.id,
                requests_left=left_of(requests),
                tokens_left=left_of(tokens),
                parallel_left=parallel,
                microeur_left=None if microeur is None else max(microeur, 0),
            )
            for scope, _, _, requests, tokens, parallel, microeur in self._entries
        ]

    def headers(self, now: float) -> Headers:
        """Return what is left now, at the scope where the least is; nothing for what is unlimited.

        The limit is the scope's, what is left and its reset are this gateway's share of it.
        """
        if not self._entries:
            return []
        scopes = [entry[0] for entry in self._entries]
        now_ns = int(now * 1e9)
        said: Headers = []
        for name, bucket_of, limit_of in (
            (b"requests", _requests, lambda scope: scope.ceiling.requests_per_minute),
            (b"tokens", _tokens, lambda scope: scope.ceiling.tokens_per_minute),
        ):
            said += _headers(name, scopes, bucket_of, limit_of, now_ns)
        return said


class Known:
    """What requests are settled by: the scopes there are, and the price book."""

    __slots__ = ("prices", "scopes")

    def __init__(self) -> None:
        self.scopes: dict[str, Scope] = {}
        self.prices = PriceBook()


def _requests(scope: Scope) -> Bucket | None:
    return scope.requests


def _tokens(scope: Scope) -> Bucket | None:
    return scope.tokens


def _headers(
    name: bytes,
    scopes: list[Scope],
    bucket_of: Callable[[Scope], Bucket | None],
    limit_of: Callable[[Scope], int | None],
    now_ns: int,
) -> Headers:
    tightest: tuple[int, int, int] | None = None
    for scope in scopes:
        bucket = bucket_of(scope)
        limit = limit_of(scope)
        if bucket is not None and limit is not None:
            found = (bucket.left(now_ns), limit, bucket.full_ns(now_ns))
            if tightest is None or found < tightest:
                tightest = found
    if tightest is None:
        return []
    left, limit, full_ns = tightest
    return [
        (b"x-ratelimit-limit-" + name, b"%d" % limit),
        (b"x-ratelimit-remaining-" + name, b"%d" % left),
        (b"x-ratelimit-reset-" + name, _duration(full_ns)),
    ]


def _duration(ns: int) -> bytes:
    """Return a time as OpenAI writes it: 0s, 250ms, 12s, 1m0s; the larger ones rounded up."""
    ms = -(-ns // 1_000_000)
    if 0 < ms < 1_000:
        return b"%dms" % ms
    minutes, seconds = divmod(-(-ms // 1_000), 60)
    return b"%dm%ds" % (minutes, seconds) if minutes else b"%ds" % seconds
