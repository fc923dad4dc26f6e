"""A world for the tests of escrow: gateways that reserve, lose answers and die; lines that come late."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
from mesh_contracts.metering import Period
from metering.domain import escrow
from metering.domain.escrow import Account
from metering.domain.scopes import Scope, Span, start_of

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
