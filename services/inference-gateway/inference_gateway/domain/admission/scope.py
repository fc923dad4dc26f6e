"""One scope as this gateway knows it: its ceiling, its lease, what is taken, what was asked for lately."""

import math
from collections.abc import Iterator
from datetime import datetime

from mesh_contracts.metering import Ceiling, Lease, LeaseWish

from inference_gateway.domain.admission import refusals
from inference_gateway.domain.admission.demand import Demand
from inference_gateway.domain.admission.estimate import Estimate
from inference_gateway.domain.admission.gcra import MINUTE_NS, Bucket
from inference_gateway.domain.admission.money import FOREVER, Account
from inference_gateway.domain.faults import Fault

PROVISIONAL_PART = 8
"""Before its first lease a gateway goes by this part of a ceiling (hard money apart: by none of it)."""

FLOAT_PART = 256
"""The part of a hard budget that a gateway holds for a scope though nobody asks."""

COUNT_MAX = 2**53

Taken = tuple["Scope", Bucket | None, Account | None, int | None, int | None, int | None, int | None]
"""Where a request is counted: scope, tokens, money; then what was left of each limit (buckets' units)."""


class Scope:
    """What one organisation, project, key or endpoint may still take from this gateway."""

    __slots__ = (
        "account",
        "active",
        "alone",
        "ceiling",
        "confirmed_until",
        "demand",
        "hard",
        "hopeful",
        "id",
        "parallel",
        "requests",
        "spent",
        "suspect",
        "tokens",
        "touched",
    )

    def __init__(self, ceiling: Ceiling, *, suspect: bool = False) -> None:
        self.id = ceiling.scope_id
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.parallel: int | None = None
        self.active = 0
        self.account: Account | None = None
        self.confirmed_until = -math.inf
        """Monotonic time until which the account may be spent from."""
        self.hopeful = True
        """Whether asking for money again, before the next beat, may help."""
        self.alone = False
        self.suspect = suspect
        """Whether this epoch may have had money here that is no longer remembered."""
        self.demand = Demand()
        self.touched = False
        """Whether it stands in the line of those whose lease is renewed next."""
        self.heed(ceiling)

    def heed(self, ceiling: Ceiling) -> None:
        """Go by a ceiling; shares that are larger shrink to it at once, larger ones come with a lease."""
        self.ceiling = ceiling
        self.hard = ceiling.hard and ceiling.budget_microeur is not None
        self.spent = self.hard and ceiling.crossed == "hard"
        self.hopeful = True
        self.requests = _under(self.requests, ceiling.requests_per_minute)
        self.tokens = _under(self.tokens, ceiling.tokens_per_minute)
        limit = ceiling.parallel_requests
        if limit is None:
            self.parallel = None
        else:
            self.parallel = min(limit, _provisional(limit) if self.parallel is None else self.parallel)

    def lease(self, lease: Lease, asked_at: float, until: float, *, alone: bool = False) -> None:
        """Go by a lease that was asked for at ``asked_at`` and stands until ``until``.

        ``alone`` says that no other gateway holds leases now, so that none can give anything back.
        """
        self.alone = alone
        asked_ns = int(asked_at * 1e9)
        _share(self.requests, lease.requests_per_minute, self.ceiling.requests_per_minute, asked_ns)
        _share(self.tokens, lease.tokens_per_minute, self.ceiling.tokens_per_minute, asked_ns)
        limit, share = self.ceiling.parallel_requests, lease.parallel_requests
        if limit is not None and share is not None:
            self.parallel = min(share, limit)
        if lease.granted_microeur is None or lease.period_start is None:
            return
        account = self.account
        if account is None or account.start != lease.period_start:
            account = self.account = Account(lease.period_start, lease.period_end)
            if self.suspect:
                # What was granted before is taken as spent: better little than too much.
                account.granted = lease.granted_microeur
                self.suspect = False
        account.end = lease.period_end or FOREVER
        account.left = lease.left_microeur
        self.hopeful = lease.granted_microeur > account.granted or account.left != 0
        account.grant(lease.granted_microeur)
        self.confirmed_until = until

    @property
    def leases(self) -> bool:
        """Whether there is anything to ask a lease for."""
        bounded = self.requests is not None or self.tokens is not None or self.parallel is not None
        return bounded or self.hard or self.account is not None

    def fits(self, raw: int, cost: int | None, now_ns: int, now: float, at: datetime) -> bool:
        """Tell whether a request fits everything here; its tokens are in buckets' units. Takes nothing."""
        bucket = self.requests
        if bucket is not None and bucket.raw_at(now_ns) < MINUTE_NS:
            return False
        bucket = self.tokens
        if bucket is not None and bucket.raw_at(now_ns) < raw:
            return False
        if self.parallel is not None and self.active >= self.parallel:
            return False
        if not self.hard:
            return True
        account = self.account
        return (
            account is not None
            and cost is not None
            and account.at_hand >= cost
            and now < self.confirmed_until
            and account.start <= at < account.end
            and not self.spent
        )

    def take(self, tokens: int, raw: int, cost: int) -> Taken:
        """Count in a request that ``fits``; return where."""
        self.active = active = self.active + 1
        demand = self.demand
        demand.requests += 1
        demand.tokens += tokens
        if active > demand.peak:  # noqa: PLR1730 - faster, on the hot path
            demand.peak = active
        if cost > demand.cost:  # noqa: PLR1730 - same
            demand.cost = cost
        requests_left = tokens_left = parallel_left = money_left = None
        bucket = self.requests
        if bucket is not None:
            bucket.raw = requests_left = bucket.raw - MINUTE_NS
        bucket = self.tokens
        if bucket is not None:
            bucket.raw = tokens_left = bucket.raw - raw
        if self.parallel is not None:
            parallel_left = self.parallel - active
        # Metering charges nothing of a soft budget: what is not reserved needs not be settled.
        account = self.account if self.hard else None
        if account is not None:
            account.reserved += cost
            account.at_hand = money_left = account.at_hand - cost
        return self, bucket, account, requests_left, tokens_left, parallel_left, money_left

    def refusals(
        self, estimate: Estimate, cost: int | None, now: float, at: datetime, soon_ms: int
    ) -> Iterator[tuple[Fault, bool]]:
        """Yield why a request does not fit, and whether asking for a lease at once may help.

        ``soon_ms`` is when the answer to such an ask is expected.
        """
        ceiling, tokens, now_ns = self.ceiling, estimate.tokens, int(now * 1e9)
        bucket = self.requests
        if bucket is not None and bucket.raw_at(now_ns) < MINUTE_NS:
            wait = bucket.wait_ns(1, now_ns)
            yield refusals.too_many_requests(ceiling, bucket.share, wait), bucket.assumed
        bucket = self.tokens
        if bucket is not None and tokens > (ceiling.tokens_per_minute or 0):
            yield (
                refusals.never_fits(ceiling, estimate.prompt_tokens, estimate.answer_tokens),
                False,
            )
        elif bucket is not None and bucket.raw_at(now_ns) < tokens * MINUTE_NS:
            wait, left = bucket.wait_ns(tokens, now_ns), bucket.left(now_ns)
            fault = refusals.too_many_tokens(ceiling, bucket.share, left, tokens, wait)
            yield fault, bucket.assumed
        if self.parallel is not None and self.active >= self.parallel:
            yield refusals.too_many_at_once(ceiling, self.parallel), False
        if self.hard:
            yield from self._money_refusals(cost, now, at, soon_ms)

    def _money_refusals(
        self, cost: int | None, now: float, at: datetime, soon: int
    ) -> Iterator[tuple[Fault, bool]]:
        ceiling, account = self.ceiling, self.account
        if self.spent:
            yield refusals.budget_spent(ceiling), False
        elif cost is not None and cost > (ceiling.budget_microeur or 0):
            yield refusals.budget_never_fits(ceiling, cost), False
        elif account is None:
            yield refusals.budget_unconfirmed(ceiling, "no lease has come yet", soon), True
        elif not account.holds(at):
            why = f"the lease is not for the {ceiling.period} of this request"
            yield refusals.budget_unconfirmed(ceiling, why, soon), True
        elif now >= self.confirmed_until:
            why = "the last lease has run out, and none has come since"
            yield refusals.budget_unconfirmed(ceiling, why, refusals.BEAT_MS), True
        elif cost is None:
            why = "no price of the model is known"
            yield refusals.budget_unconfirmed(ceiling, why, refusals.BEAT_MS), False
        elif account.at_hand < cost:
            self.demand.cost = max(self.demand.cost, cost)
            self.demand.short += cost
            if self.alone and account.left == 0 and not self.active:
                yield refusals.budget_rest(ceiling, account.at_hand, cost), False
                return
            wait_ms = soon if self.hopeful else refusals.BEAT_MS
            yield refusals.budget_short(ceiling, account.at_hand, cost, wait_ms), self.hopeful

    def wish(self, now: float, at: datetime, lease_s: float) -> LeaseWish:
        """Return what to ask for; what is not needed is given back here first."""
        demand, account = self.demand, self.account
        short = demand.short
        demand.peak = max(demand.peak, self.active)
        demand.look(now)
        target = 0
        if self.hard and not self.spent and not (demand.idle and account and account.left == 0):
            # The last of a budget is not held by whom nobody asks.
            amount = self.ceiling.budget_microeur or 0
            target = min(demand.money(lease_s, amount // FLOAT_PART) + short, amount)
        at_hand = 0
        if account is not None and (at < account.end or account.asked_past):
            at_hand = account.at_hand
            if at_hand > (target if demand.idle else 2 * target):
                account.give_back(at_hand - target)
                at_hand = target
        elif account is not None:
            # Once only: where our clock is ahead it is the old period's money that comes.
            account.asked_past = True
        return LeaseWish(
            scope_id=self.id,
            requests_per_minute=_count(demand.requests_per_minute),
            tokens_per_minute=_count(demand.tokens_per_minute),
            parallel=_count(demand.parallel),
            parallel_active=self.active,
            wanted_microeur=_count(max(target - max(at_hand, 0), 0)),
            returned_microeur=account.returned if account is not None else 0,
            period_start=account.start if account is not None else None,
        )


def _provisional(limit: int) -> int:
    return max(limit // PROVISIONAL_PART, 1)


def _under(bucket: Bucket | None, limit: int | None) -> Bucket | None:
    if limit is None:
        return None
    if bucket is None:
        return Bucket(_provisional(limit), assumed=True)
    if bucket.share > limit:
        # Time that has passed is counted later, by the smaller share: never too much.
        bucket.reshare(limit, 0, assumed=bucket.assumed)
    return bucket


def _share(bucket: Bucket | None, share: int | None, limit: int | None, asked_ns: int) -> None:
    if bucket is not None and share is not None and limit is not None:
        bucket.reshare(min(share, limit), asked_ns)


def _count(number: float) -> int:
    return min(math.ceil(number), COUNT_MAX)
