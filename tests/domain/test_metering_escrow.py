"""Money lent before it is spent: whatever is lost, late or dead, a hard budget is never passed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.metering import Period
from metering.domain import escrow
from metering.domain.escrow import Account
from metering.domain.scopes import Scope, Span, end_of, start_of

START = datetime(2026, 11, 30, 23, 59, 0, tzinfo=UTC)
SKEWS = (-3, 0, 4)
"""Seconds by which the gateways' clocks are off."""


class Request(msgspec.Struct):
    """A request that a gateway has admitted: what it reserved of which period, or nothing."""

    gateway: int
    epoch: int
    started_at: datetime
    reserved: int
    counted: bool


class Gateway:
    """What a gateway knows: what it heard of its grants, and what it did with them."""

    def __init__(self) -> None:
        self.epoch = 1
        self.forget()

    def forget(self) -> None:
        self.hard = False
        self.granted: dict[Span, int] = {}
        self.returned: dict[Span, int] = {}
        self.used: dict[Span, int] = {}
        """Reserved by requests in flight, or settled."""

    def free(self, span: Span) -> int:
        return self.granted.get(span, 0) - self.returned.get(span, 0) - self.used.get(span, 0)


class World:
    """Three gateways, one budget, and the lines on their way between them."""

    def __init__(self, amount: int, period: Period) -> None:
        self.now = START
        self.scope = Scope(
            scope_id="project_1",
            scope_kind="project",
            budget_id="budget_1",
            amount_microeur=amount,
            period=period,
            hard=True,
            hardened=1,
        )
        self.gateways = [Gateway() for _ in SKEWS]
        self.accounts: dict[tuple[Span, int, int], Account] = {}
        self.spent: dict[Span, int] = {}
        self.flying: list[Request] = []
        self.coming: list[tuple[Request, int]] = []

    def span(self, at: datetime) -> Span:
        return self.scope.scope_id, start_of(self.scope.period, at)

    def clock(self, gateway: int) -> datetime:
        return self.now + timedelta(seconds=SKEWS[gateway])

    def admit(self, gateway: int, size: int) -> None:
        """A request comes: it is reserved where the gateway knows of a hard budget, or refused."""
        it, at = self.gateways[gateway], self.clock(gateway)
        span = self.span(at)
        if it.hard:
            if it.free(span) < size:
                return
            it.used[span] = it.used.get(span, 0) + size
        self.flying.append(Request(gateway, it.epoch, at, size, it.hard))

    def end(self, which: int, size: int) -> None:
        """A request ends, and costs at most what was reserved."""
        if self.flying:
            request = self.flying.pop(which % len(self.flying))
            cost, it = min(size, request.reserved), self.gateways[request.gateway]
            if request.counted:
                it.used[self.span(request.started_at)] -= request.reserved - cost
            self.coming.append((request, cost))

    def arrive(self, which: int, _size: int) -> None:
        """A line comes to the ledger, in any order."""
        if not self.coming:
            return
        request, cost = self.coming.pop(which % len(self.coming))
        span = self.span(request.started_at)
        self.spent[span] = self.spent.get(span, 0) + cost
        key = span, request.gateway, request.epoch
        account = self.accounts.get(key)
        if account is not None and account.covers(self.scope, request.started_at):
            self.accounts[key] = escrow.charge(account, cost)

    def give_back(self, gateway: int, size: int) -> None:
        """A gateway returns some of what it does not need."""
        it, span = self.gateways[gateway], self.span(self.clock(gateway))
        it.returned[span] = it.returned.get(span, 0) + max(0, min(size, it.free(span)))

    def learn(self, gateway: int, _size: int) -> None:
        """A gateway sees in the bucket whether the budget is hard."""
        self.gateways[gateway].hard = self.scope.hard

    def renew(self, gateway: int, wanted: int, *, lost: bool = False) -> None:
        """A gateway asks; its answer may be lost."""
        it, now = self.gateways[gateway], self.span(self.now)
        for span, returned in it.returned.items():
            key = span, gateway, it.epoch
            if key in self.accounts:
                self.accounts[key] = escrow.give_back(self.accounts[key], returned)
        rows = [one for one, _ in self.coming] + self.flying
        if not any(row.gateway == gateway and row.epoch < it.epoch for row in rows):
            for key in [key for key in self.accounts if key[1] == gateway and key[2] < it.epoch]:
                del self.accounts[key]
        if self.scope.hard:
            key = now, gateway, it.epoch
            asked_at = self.clock(gateway)
            mine = self.accounts.get(key) or Account(
                scope_id=now[0],
                period_start=now[1],
                producer=str(gateway),
                epoch=it.epoch,
                since=asked_at,
                hardened=self.scope.hardened,
            )
            after, left = escrow.renew(
                self.scope,
                mine,
                spent=self.spent.get(now, 0),
                others=self.held(now) - mine.outstanding,
                wanted=wanted if it.hard else 0,
                gateways=len(SKEWS),
                asked_at=asked_at,
            )
            assert left >= 0
            if after != mine:
                self.accounts[key] = after
                assert self.spent.get(now, 0) + self.held(now) <= self.amount
            if not lost:
                it.granted[now] = after.granted
        if not lost:
            it.hard = self.scope.hard

    def lose(self, gateway: int, wanted: int) -> None:
        self.renew(gateway, wanted, lost=True)

    def die(self, gateway: int, size: int) -> None:
        """A gateway is killed: what was in flight is in its journal, and is billed when it is back."""
        for request in [one for one in self.flying if one.gateway == gateway]:
            self.flying.remove(request)
            self.coming.append((request, min(size, request.reserved)))
        self.gateways[gateway].epoch += 1
        self.gateways[gateway].forget()

    def change(self, hard: int, amount: int) -> None:
        """The budget is changed: another amount, and seldom another kind."""
        now_hard = hard > 0
        self.scope = msgspec.structs.replace(
            self.scope,
            amount_microeur=amount,
            hard=now_hard,
            hardened=self.scope.hardened + (now_hard and not self.scope.hard),
        )

    @property
    def amount(self) -> int:
        assert self.scope.amount_microeur is not None
        return self.scope.amount_microeur

    def held(self, span: Span) -> int:
        """What metering believes to be held."""
        return sum(one.outstanding for (of, _, _), one in self.accounts.items() if of == span)

    def truly_held(self, span: Span) -> int:
        """What may be spent of it: free at a gateway, in flight, or on its way to the ledger."""
        free = sum(max(0, one.free(span)) for one in self.gateways)
        flying = [(one, one.reserved) for one in self.flying]
        return free + sum(
            cost
            for request, cost in [*flying, *self.coming]
            if request.counted and self.span(request.started_at) == span
        )


ACTS = {
    "admit": 8,
    "end": 7,
    "arrive": 7,
    "renew": 6,
    "lose": 2,
    "give_back": 2,
    "learn": 2,
    "die": 1,
}
SIZES = (1, 20_000, 60_000, 150_000)
SECONDS = (0, 0, 1, 2, 20)
ACTS_EACH = 100

chances = st.integers(0, 2**32).map(Random)
amounts = st.sampled_from([0, 90_000, 400_000, 2_000_000])
periods = st.sampled_from(["total", "day", "month"])


def everybody_knows(world: World) -> None:
    for one in range(len(SKEWS)):
        world.learn(one, 0)


def play(world: World, chance: Random, changes: int = 0) -> Iterator[None]:
    """Let things happen, and pause after each. ``changes`` is how often the budget is another one."""
    acts, weights = [*ACTS, "change"], [*ACTS.values(), changes]
    for _ in range(ACTS_EACH):
        (act,) = chance.choices(acts, weights)
        if act == "change":
            world.change(chance.randrange(3), chance.choice((90_000, 400_000, 2_000_000)))
        else:
            getattr(world, act)(chance.randrange(len(SKEWS)), chance.choice(SIZES))
        world.now += timedelta(seconds=chance.choice(SECONDS))
        yield


@given(amounts, periods, chances)
def test_settled_spend_never_passes_a_hard_budget(amount: int, period: Period, chance: Random) -> None:
    world = World(amount, period)
    everybody_knows(world)
    for _ in play(world, chance):
        everybody_knows(world)
    while world.flying:
        world.end(0, 10**9)
    while world.coming:
        world.arrive(0, 0)
    assert all(spent <= amount for spent in world.spent.values()), "whatever was lost or died"


@given(amounts, periods, chances)
def test_what_is_believed_to_be_held_covers_all_that_may_be_spent_whatever_changes(
    amount: int, period: Period, chance: Random
) -> None:
    world = World(amount, period)
    for _ in play(world, chance, changes=1):
        for span in {span for one in world.gateways for span in one.granted}:
            assert world.held(span) >= world.truly_held(span)


def test_a_request_from_before_the_gateway_asked_frees_nothing_of_what_it_holds() -> None:
    world = World(100_000, "total")
    world.admit(0, 30_000)
    world.learn(0, 0)
    world.now += timedelta(seconds=1)
    world.renew(0, 100_000)
    world.end(0, 30_000)
    world.arrive(0, 0)
    world.renew(1, 100_000)
    (span,) = world.spent
    assert (world.spent[span], world.held(span), world.truly_held(span)) == (30_000, 100_000, 100_000)


def test_what_was_admitted_while_the_budget_was_soft_frees_nothing_once_it_is_hard_again() -> None:
    world = World(200_000, "total")
    world.learn(0, 0)
    world.renew(0, 100_000)
    world.change(0, 200_000)
    world.learn(0, 0)
    for _ in range(2):
        world.now += timedelta(seconds=1)
        world.admit(0, 50_000)
        world.end(0, 50_000)
    world.arrive(0, 0)
    world.change(1, 200_000)
    world.learn(0, 0)
    world.arrive(0, 0)
    (span,) = world.spent
    assert (world.spent[span], world.held(span), world.truly_held(span)) == (100_000, 100_000, 100_000)
    # Granted anew, it counts again what is reserved from then on.
    world.change(1, 300_000)
    world.renew(0, 50_000)
    world.admit(0, 60_000)
    world.end(0, 60_000)
    world.arrive(0, 0)
    assert (world.spent[span], world.held(span), world.truly_held(span)) == (160_000, 90_000, 90_000)


def test_a_grant_leaves_something_for_others_and_the_last_money_can_be_used() -> None:
    given = {"amount": 10_000_000, "spent": 0, "held": 0, "gateways": 3}
    assert escrow.grant(**given, wanted=10**9) == 10_000_000 // 6
    assert escrow.grant(**given, wanted=5) == 5
    last = {**given, "spent": 9_000_000, "held": 950_000}
    assert escrow.grant(**last, wanted=10**9) == 50_000
    assert escrow.grant(**{**last, "amount": 1_000}, wanted=10**9) == 0


def scope(amount: int = 1_000_000, *, hard: bool = True) -> Scope:
    return Scope(
        scope_id="key_1",
        scope_kind="key",
        budget_id="b",
        amount_microeur=amount,
        hard=hard,
        warn_percent=80,
    )


@pytest.mark.parametrize("hard", [True, False])
def test_a_budget_is_crossed_at_its_warning_and_at_its_amount(hard: bool) -> None:
    budget = scope(hard=hard)
    told = [
        escrow.crossed(budget, spent) for spent in (0, 799_999, 800_000, 999_999, 1_000_000, 2_000_000)
    ]
    assert told == ["none", "none", "soft", "soft", "hard", "hard"]
    assert escrow.crossed(scope(0, hard=hard), 0) == "hard", "nothing may be spent at all"


def test_a_hard_budget_is_crossed_too_where_the_last_hundredth_is_asked_for_in_vain() -> None:
    assert escrow.crossed(scope(), 990_001, in_vain=True) == "hard"
    assert escrow.crossed(scope(), 990_000, in_vain=True) == "soft"
    assert escrow.crossed(scope(), 100, in_vain=True) == "none", "it is held, not spent"
    assert escrow.crossed(scope(hard=False), 990_001, in_vain=True) == "soft"
    # A hundredth of it would serve many requests.
    assert escrow.crossed(scope(100_000_000), 99_500_000, in_vain=True) == "soft"


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from(["day", "month"]))
def test_a_moment_lies_in_one_period_and_periods_touch(at: datetime, period: Period) -> None:
    if at.year == 9999:
        return
    start = start_of(period, at)
    end = end_of(period, start)
    assert end is not None
    assert start <= at < end
    assert start_of(period, end) == end
    assert start_of(period, end - timedelta(microseconds=1)) == start


def test_a_period_is_by_utc_and_all_time_has_no_end() -> None:
    evening = datetime.fromisoformat("2026-12-01T00:30:00+02:00")
    assert start_of("day", evening) == datetime(2026, 11, 30, tzinfo=UTC)
    assert start_of("month", evening) == datetime(2026, 11, 1, tzinfo=UTC)
    assert end_of("total", start_of("total", evening)) is None
