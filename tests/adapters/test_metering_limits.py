"""Limits in a real Postgres: shares of gateways that live add up, and follow what each was asked for."""

from collections.abc import AsyncIterator

import pytest
from mesh_contracts.ask import Page, Problem
from mesh_contracts.metering import DeleteLimit, LeaseWish, ListLimits, SetLimit
from mesh_contracts.units import Wide
from meshkit.testing import test_id
from metering.domain.shares import LEASE_MS

from tests.adapters.purses import KEY, OTHER, PROJECT, TENANT, Purses, purses
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def here(postgres: PostgresServer) -> AsyncIterator[Purses]:
    async with purses(postgres.dsn("metering")) as made:
        yield made


async def test_a_gateway_that_is_alone_gets_everything_and_what_is_unlimited_is_absent(
    here: Purses,
) -> None:
    await here.limit(requests_per_minute=60, parallel_requests=4)
    leases = await here.leases(
        "g1", wishes=[LeaseWish(scope_id=PROJECT), LeaseWish(scope_id=test_id("project", "free"))]
    )
    (lease,) = leases.items
    assert (lease.requests_per_minute, lease.tokens_per_minute, lease.parallel_requests) == (
        60,
        None,
        4,
    )
    assert (lease.granted_microeur, lease.period_start) == (None, None)
    assert (leases.gateways, leases.lease_ms) == (1, LEASE_MS)
    assert {price.model for price in leases.prices} >= {"*", "tiny"}


async def test_shares_follow_demand_in_two_rounds_and_never_pass_the_ceiling(here: Purses) -> None:
    await here.limit(requests_per_minute=90, tokens_per_minute=900, parallel_requests=3)
    names = ("g1", "g2", "g3")
    shares: dict[str, tuple[int, int, int]] = {}
    for busy in ("g1", "g3"):
        for _ in range(2):
            for name in names:
                wants = {"requests_per_minute": 80, "tokens_per_minute": 800, "parallel": 3}
                lease = await here.renew(name, **(wants if name == busy else {}))
                shares[name] = (
                    lease.requests_per_minute or 0,
                    lease.tokens_per_minute or 0,
                    lease.parallel_requests or 0,
                )
                together = [sum(column) for column in zip(*shares.values(), strict=True)]
                assert all(sum_ <= most for sum_, most in zip(together, (90, 900, 3), strict=True))
        assert together == [90, 900, 3]
        assert shares[busy][0] >= 85
        assert shares[busy][2] == 3


async def test_a_share_frees_itself_by_time_and_a_gateway_that_began_anew_takes_its_own_place(
    here: Purses,
) -> None:
    await here.limit(requests_per_minute=100)
    first = [(await here.renew(name)).requests_per_minute for name in ("g1", "g2", "g1", "g2")]
    assert first == [100, 0, 50, 50]
    assert (await here.renew("g1", epoch=2)).requests_per_minute == 50
    here.clock.move(LEASE_MS / 1_000 - 1)
    assert (await here.renew("g2")).requests_per_minute == 50
    here.clock.move(1)
    assert (await here.renew("g2")).requests_per_minute == 100
    assert (await here.leases("g2", wishes=[])).gateways == 1


async def test_a_limit_is_set_changed_listed_and_deleted(here: Purses) -> None:
    made = await here.limit(requests_per_minute=10)
    assert (made.generation, made.requests_per_minute, made.tokens_per_minute) == (1, 10, None)
    assert (await here.limit(requests_per_minute=10)).generation == 1
    other = await here.limit(tokens_per_minute=7, generation=1)
    assert (other.id, other.generation, other.requests_per_minute) == (made.id, 2, None)
    stale = await here.ask(
        SetLimit, scope_kind="project", scope=PROJECT, parallel_requests=1, generation=1
    )
    assert stale.code == "generation_mismatch"
    empty = await here.ask(SetLimit, scope_kind="project", scope=PROJECT)
    assert (empty.status, empty.code) == (422, "missing_field")
    await here.admitted(OTHER, "other")
    await here.limit(OTHER, requests_per_minute=1)
    await here.limit(KEY, "key", requests_per_minute=1)
    first = await here.ask(ListLimits, page=Page(limit=2))
    rest = await here.ask(ListLimits, page=Page(limit=2, cursor=first.next))
    assert [one.scope_id for one in (*first.items, *rest.items)] == sorted([PROJECT, OTHER, KEY])
    assert rest.next is None
    assert [one.scope_id for one in (await here.ask(ListLimits, TENANT)).items] == [PROJECT]
    await here.spend("g1", 1)
    assert {one.scope_id for one in (await here.ask(ListLimits, TENANT)).items} == {PROJECT, KEY}
    assert (await here.ask(DeleteLimit, limit=made.id)).tokens_per_minute == 7
    assert await here.ceiling() is None
    assert isinstance(await here.ask(DeleteLimit, limit=made.id), Problem)


async def test_a_limit_and_a_budget_of_one_scope_stand_in_one_ceiling(here: Purses) -> None:
    limit = await here.limit(requests_per_minute=10)
    await here.budget(1_000, warn_percent=1)
    await here.spend("g1", 10)
    await here.limit(requests_per_minute=20)
    shown = await here.ceiling()
    assert shown is not None
    assert (shown.requests_per_minute, shown.budget_microeur, shown.crossed) == (
        20,
        Wide(1_000),
        "soft",
    )
    await here.ask(DeleteLimit, limit=limit.id)
    kept = await here.ceiling()
    assert kept is not None
    assert (kept.requests_per_minute, kept.budget_microeur, kept.crossed) == (None, Wide(1_000), "soft")
    assert kept.generation > shown.generation
