"""Three gateways, one hard budget, two hundred clients at once: what is settled never exceeds it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.burst import Seen, burst
from tests.adapters.gateway_process import process
from tests.adapters.roads import eventually
from tests.adapters.several import PRICE_MICROEUR, Several, several
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

GATEWAYS, CLIENTS = 3, 200
AMOUNT = 2_000_000
LARGE = [pytest.mark.long, pytest.mark.timeout(600)]
KINDS = ("organization", "project", "key", "endpoint")
UNUSED_PERCENT = 10
"""Of a budget may be left unspent here at most, generously: each gateway may hold less than one request takes."""


@pytest.fixture
async def here(
    tmp_path: Path, nats_server: NatsServer, postgres: PostgresServer
) -> AsyncIterator[Several]:
    async with several(tmp_path, nats_server.url, postgres.dsn("metering")) as made:
        yield made


@pytest.mark.parametrize(
    ("kind", "amount"),
    [("project", AMOUNT), *(pytest.param(kind, 10 * AMOUNT, marks=LARGE) for kind in KINDS)],
)
async def test_two_hundred_clients_of_three_gateways_spend_one_budget_and_not_a_micro_euro_more(
    kind: str, amount: int, here: Several
) -> None:
    tenant = await here.tenant("one")
    await here.budget(tenant, kind, amount)
    await here.open(GATEWAYS)
    seen = Seen()
    # Embeddings are another endpoint's: its budget does not end them.
    await burst(here, [tenant], CLIENTS, here.bases, seen, embeds=kind != "endpoint")
    await eventually(here.lines, seen.answered)
    found = (await here.look())[tenant.scope(kind)]
    sys.stdout.write(
        f"\n{found['spent']} of {amount} spent, {found['held']} held; {seen.answered} {seen.refused}"
    )
    assert seen.lost == 0
    assert seen.cost == here.tokens_made * PRICE_MICROEUR
    assert found["spent"] <= amount
    assert found["spent"] * 100 >= amount * (100 - UNUSED_PERCENT)
    assert found["spent"] == seen.cost, "what clients were told is what is settled"


async def test_budgets_of_every_kind_hold_at_once_beside_each_other(here: Several) -> None:
    tenants = [await here.tenant(kind) for kind in KINDS]
    for kind, tenant in zip(KINDS, tenants, strict=True):
        await here.budget(tenant, kind, AMOUNT // 10)
    await here.open(GATEWAYS)
    seen = Seen()
    await burst(here, tenants, 3 * len(KINDS), here.bases, seen, embeds=False)
    await eventually(here.lines, seen.answered)
    found = await here.look()
    for kind, tenant in zip(KINDS, tenants, strict=True):
        assert AMOUNT // 20 <= found[tenant.scope(kind)]["spent"] <= AMOUNT // 10


async def test_a_gateway_killed_with_a_lease_overspends_nothing_and_what_it_held_is_free_again(
    here: Several,
) -> None:
    tenant = await here.tenant("one")
    here.key, here.pause_s = tenant.key, 0.2
    await here.budget(tenant, "project", AMOUNT)
    await here.open(2)
    alive = {gateway.meter.producer for gateway in here.gateways}
    seen = Seen()
    async with process(here, models=2) as killed:
        doors = [killed.base, *here.bases]
        bursting = asyncio.create_task(burst(here, [tenant], CLIENTS // 4, doors, seen))
        async with asyncio.timeout(30):
            while not (set(await here.producers()) - alive and seen.answered > CLIENTS // 4):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await killed.end(signal.SIGKILL)
        (dead,) = set(await here.producers()) - alive
        epoch = (await here.producers())[dead]
        held = await here.held_by(dead, epoch)
        assert held > 0, "it died with a lease"
        await bursting
        assert await here.held_by(dead, epoch) > 0, "nobody else may spend what a dead one holds"
        spent = (await here.look())[tenant.project]["spent"]
        await killed.start(models=2)
        # Its rows of those that were cut stand in the ledger: then what it held is free.
        await eventually(lambda: here.held_by(dead, epoch), 0)
        await burst(here, [tenant], CLIENTS // 4, doors, seen)
        found = (await here.look())[tenant.project]
        sys.stdout.write(
            f"\n{held} held by the dead, {spent} spent without it, {found['spent']} of {AMOUNT} with it"
        )
        assert seen.lost > 0
        assert spent < found["spent"] <= AMOUNT
        assert found["spent"] * 100 >= AMOUNT * (100 - UNUSED_PERCENT)
