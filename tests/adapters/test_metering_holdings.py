"""What a lost gateway holds of a budget, in a real Postgres: an operator's word frees it, and nothing else does."""

from collections.abc import AsyncIterator

import pytest
from mesh_contracts import wire
from mesh_contracts.ask import Problem
from mesh_contracts.metering import (
    Holding,
    HoldingReleased,
    Holdings,
    ListHoldings,
    ReleaseHolding,
    RenewLeases,
)
from metering.domain.shares import LEASE_MS
from metering.domain.wishes import RELEASE_AFTER

from tests.adapters.purses import ADMIN, KEY, PROJECT, Purses, purses
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

AMOUNT = 1_000_000
GONE_S = LEASE_MS / 1_000 + RELEASE_AFTER.total_seconds() + 1


@pytest.fixture
async def here(postgres: PostgresServer) -> AsyncIterator[Purses]:
    async with purses(postgres.dsn("metering")) as made:
        await made.budget(AMOUNT)
        yield made


async def held(here: Purses) -> dict[str, int]:
    """Return what each gateway holds."""
    listed: Holdings = await here.ask(ListHoldings)
    return {one.id: int(one.held_microeur) for one in listed.items}


async def released(here: Purses) -> list[HoldingReleased]:
    async with here.store.transaction() as tx:
        rows = await tx.rows(
            "SELECT payload FROM outbox WHERE subject LIKE 'metering.holding.released.%' ORDER BY id"
        )
    return [wire.decode(row["payload"], HoldingReleased) for row in rows]


async def test_what_a_lost_gateway_holds_is_free_once_an_operator_says_so_and_it_is_told_who(
    here: Purses,
) -> None:
    await here.budget(AMOUNT, KEY, "key")
    await here.renew("lost", wanted_microeur=400_000)
    await here.renew("lost", scope=KEY, wanted_microeur=100_000)
    here.clock.move(1)
    await here.spend("lost", 50_000)
    here.clock.move(GONE_S)
    assert await held(here) == {"lost": 350_000 + 50_000}
    was = await here.ask(ReleaseHolding, producer="lost")
    assert isinstance(was, Holding)
    assert (was.scopes, await held(here)) == (2, {})
    other = await here.renew("g2", wanted_microeur=AMOUNT)
    assert other.left_microeur is not None
    assert other.granted_microeur is not None
    assert other.left_microeur + other.granted_microeur == AMOUNT - 50_000
    (told,) = await released(here)
    assert (told.producer, told.epoch, told.actor) == ("lost", 2, ADMIN.principal_id)
    assert {part.scope_id: part.epoch for part in told.released} == {PROJECT: 1, KEY: 1}
    assert sum(part.amount_microeur for part in told.released) == was.held_microeur
    async with here.store.transaction() as tx:
        kept = await tx.rows("SELECT actor, sum(amount_microeur) AS amount FROM released GROUP BY 1")
    assert [(row["actor"], row["amount"]) for row in kept] == [(told.actor, was.held_microeur)]


async def test_what_a_gateway_holds_that_may_still_spend_it_is_not_released(here: Purses) -> None:
    await here.renew("g1", wanted_microeur=400_000)
    before = await held(here)
    here.clock.move(LEASE_MS / 1_000 + 1)
    refused = await here.ask(ReleaseHolding, producer="g1")
    assert isinstance(refused, Problem)
    assert (refused.status, refused.code) == (409, "gateway_lives")
    assert (await held(here), await released(here)) == (before, [])


async def test_a_gateway_that_holds_nothing_is_not_found(here: Purses) -> None:
    await here.renew("g1", wanted_microeur=400_000)
    here.clock.move(GONE_S)
    await here.ask(ReleaseHolding, producer="g1")
    for name in ("g1", "nobody"):
        refused = await here.ask(ReleaseHolding, producer=name)
        assert (refused.status, refused.code) == (404, "holding_not_found")
    assert len(await released(here)) == 1


async def test_a_start_of_which_something_was_released_is_lent_nothing_any_more_and_the_next_one_is(
    here: Purses,
) -> None:
    await here.renew("g1", epoch=4, wanted_microeur=400_000)
    here.clock.move(GONE_S)
    await here.ask(ReleaseHolding, producer="g1")
    over = await here.ask(RenewLeases, producer="g1", epoch=4, wishes=[])
    assert (over.status, over.code) == (409, "epoch_over")
    again = await here.renew("g1", epoch=5, wanted_microeur=400_000)
    assert again.granted_microeur


async def test_lines_of_a_journal_that_comes_back_after_all_are_charged_and_free_nothing_of_others(
    here: Purses,
) -> None:
    lost = await here.renew("lost", wanted_microeur=400_000)
    here.clock.move(1)
    at = here.clock.now()
    here.clock.move(GONE_S)
    await here.ask(ReleaseHolding, producer="lost")
    await here.renew("g2", wanted_microeur=200_000)
    others = await held(here)
    assert lost.granted_microeur is not None
    await here.spend("lost", lost.granted_microeur, started_at=at)
    seen = (await here.seen())[PROJECT]
    assert seen.spent_microeur == lost.granted_microeur
    assert await held(here) == others
