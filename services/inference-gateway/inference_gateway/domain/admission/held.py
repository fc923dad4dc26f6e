"""What one admitted request holds of every limit, until it is settled."""

from datetime import datetime

from mesh_contracts.inference import Counted

from inference_gateway.domain.admission.estimate import Estimate
from inference_gateway.domain.admission.gcra import MINUTE_NS
from inference_gateway.domain.admission.left import Headers, said_after
from inference_gateway.domain.admission.money import Account, PriceBook
from inference_gateway.domain.admission.scope import Scope, Taken

Scopes = tuple[str, str, str, str]
"""Organisation, project, key and endpoint of a request."""

Asked = tuple[Scopes, str, datetime]
"""The four scopes of a request, its model, and when it started."""


class Held:
    """Tokens, money and a place among those in progress. ``settle`` it once, whatever happens."""

    __slots__ = ("_asked", "_cost", "_entries", "_known", "_opened", "_settled", "estimate")

    def __init__(
        self, known: "Known", asked: "Asked", estimate: Estimate, entries: list[Taken], cost: int
    ) -> None:
        self._known = known
        self._opened = known.opened
        self._asked = asked
        self._entries = entries
        self._cost = cost
        self._settled = False
        self.estimate = estimate

    def settle(self, prompt_tokens: int | None, completion_tokens: int | None, now: float) -> None:
        """Count what the request took instead of what it might have; give back the rest.

        Tokens that are unknown count as many as they might have been; money as much as the ledger will
        charge for them, which is nothing. (0, 0) says that nothing was asked of any engine.
        """
        assert not self._settled, "a request is settled once"
        self._settled = True
        estimate = self.estimate
        # Seldom an account was opened since; nobody looks for one where there was none.
        late = [] if self._opened == self._known.opened else self._late()
        reserved, cost = self._cost, None
        unused = estimate.prompt_tokens + estimate.answer_tokens
        unused -= estimate.prompt_tokens if prompt_tokens is None else prompt_tokens
        unused -= estimate.answer_tokens if completion_tokens is None else completion_tokens
        raw, now_ns = unused * MINUTE_NS, int(now * 1e9)
        for scope, bucket, account, _, _, _, _ in self._entries:
            scope.active -= 1
            if bucket is not None:
                bucket.give_back(raw, now_ns)
            if account is not None:
                if cost is None:
                    cost = self._charged(prompt_tokens, completion_tokens)
                account.settle(reserved, cost)
                scope.demand.spent += cost
        for account in late:
            account.settle(0, self._charged(prompt_tokens, completion_tokens))

    def _charged(self, prompt_tokens: int | None, completion_tokens: int | None) -> int:
        """Return what the ledger will charge at most; all that was set aside where no price is known any more."""
        _, model, at = self._asked
        known = self._known.prices.cost(model, prompt_tokens or 0, completion_tokens or 0, at)
        return self._cost if known is None else known

    def _late(self) -> list[Account]:
        """Return the accounts that were opened since: the ledger's line will count against them, too."""
        scopes, _, at = self._asked
        known = [entry[2] for entry in self._entries]
        return [
            scope.account
            for scope in map(self._known.scopes.get, scopes)
            if scope is not None
            and scope.account is not None
            and scope.account not in known
            and scope.account.holds(at)
        ]

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
                requests_left=None if requests is None else requests // MINUTE_NS,
                tokens_left=None if tokens is None else tokens // MINUTE_NS,
                parallel_left=parallel,
                microeur_left=microeur,
            )
            for scope, _, _, requests, tokens, parallel, microeur in self._entries
        ]

    def headers(self) -> Headers:
        """Return what was left right after this request (``said_after``)."""
        return said_after(self._entries)


class Known:
    """What requests are settled by: the scopes there are, and the price book."""

    __slots__ = ("opened", "prices", "scopes")

    def __init__(self) -> None:
        self.scopes: dict[str, Scope] = {}
        self.prices = PriceBook()
        self.opened = 0
        """How many accounts were ever opened."""
