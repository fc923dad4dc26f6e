"""Three gateways ask and bill at once: the database never lends what is not there."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from mesh_contracts.metering import LeaseWish

from tests.adapters.purses import KEY, ORGANIZATION, PROJECT, Purses, purses
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

SCOPES = (ORGANIZATION, PROJECT, KEY)
AMOUNT = 2_000_000
ROUNDS = 15
PARALLEL = 7


@pytest.fixture
async def here(postgres: PostgresServer) -> AsyncIterator[Purses]:
    async with purses(postgres.dsn("metering")) as made:
        yield made


class Gateway:
    """Spends what it was granted of all its scopes, in requests that cost less than what they reserved."""

    def __init__(self, here: Purses, name: str, chance: Random) -> None:
        self.here, self.name, self.chance = here, name, chance
        self.granted = dict.fromkeys(SCOPES, 0)
        self.gone = dict.fromkeys(SCOPES, 0)
        self.returned = dict.fromkeys(SCOPES, 0)
        self.period_start = None
        self.shares: dict[str, int] = {}
        self.cost = 0

    def free(self, scope: str) -> int:
        return self.granted[scope] - self.gone[scope] - self.returned[scope]

    async def ask(self) -> None:
        wishes = [
            LeaseWish(
                scope_id=scope,
                wanted_microeur=self.chance.randrange(300_000),
                returned_microeur=self.returned[scope],
                period_start=self.period_start,
                parallel=self.chance.randrange(10),
            )
            for scope in self.chance.sample(SCOPES, len(SCOPES))
        ]
        for lease in (await self.here.leases(self.name, wishes=wishes)).items:
            self.granted[lease.scope_id] = lease.granted_microeur or 0
            self.period_start = lease.period_start
            self.shares[lease.scope_id] = lease.parallel_requests or 0

    async def serve(self) -> None:
        rows = []
        for _ in range(self.chance.randrange(6)):
            cost = min(self.chance.randrange(1, 60_000), *(self.free(scope) for scope in SCOPES))
            if cost > 0:
                for scope in SCOPES:
                    self.gone[scope] += cost
                self.cost += cost
                rows.append(self.here.row(cost, admitted_epoch=1))
        if rows:
            await self.here.bill(self.name, *rows)

    async def work(self) -> None:
        for _ in range(ROUNDS):
            await asyncio.gather(self.ask(), self.serve())
            if self.chance.random() < 0.3:
                for scope in SCOPES:
                    self.returned[scope] += self.free(scope) // 2


async def checked(here: Purses, working: asyncio.Future[list[None]]) -> int:
    """Look at the committed tables again and again: what is spent and held stays within the amount."""
    looks = 0
    while not working.done():
        async with here.store.transaction() as tx:
            rows = await tx.rows(
                "SELECT c.scope_id, c.amount_microeur, c.parallel_requests,"
                " coalesce((SELECT sum(spent_microeur) FROM spend s WHERE s.scope_id = c.scope_id), 0)"
                " + coalesce((SELECT sum(granted - returned - charged) FROM account a"
                " WHERE a.scope_id = c.scope_id), 0) AS taken,"
                " (SELECT sum(parallel) FROM share h WHERE h.scope_id = c.scope_id) AS shared"
                " FROM ceiling c"
            )
        for row in rows:
            assert row["taken"] <= row["amount_microeur"], row
            assert (row["shared"] or 0) <= row["parallel_requests"], row
        looks += 1
        await asyncio.sleep(0.01)
    return looks


async def test_three_gateways_that_ask_and_bill_at_once_never_hold_more_than_there_is(
    here: Purses,
) -> None:
    for kind, scope in zip(("organization", "project", "key"), SCOPES, strict=True):
        await here.budget(AMOUNT, scope, kind)
        await here.limit(scope, kind, parallel_requests=PARALLEL)
    # Requests are reserved after the first ask.
    gateways = [Gateway(here, f"g{number}", Random(number)) for number in range(3)]
    for one in gateways:
        await one.ask()
    here.clock.move(1)
    working = asyncio.gather(*(one.work() for one in gateways))
    looks = await checked(here, working)
    await working
    assert looks > 0
    for one in gateways:
        await one.ask()
    seen = await here.seen()
    cost = sum(one.cost for one in gateways)
    assert cost > AMOUNT // 2, "most of it was truly used"
    for scope in SCOPES:
        assert seen[scope].spent_microeur == cost
        free = sum(one.free(scope) for one in gateways)
        assert seen[scope].leased_microeur == free, "what gateways may still spend, to the last digit"
