"""Carbon-accounting as a service, against a real nats-server and a real Postgres."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from carbon_accounting.app import CarbonSettings, assemble
from carbon_accounting.domain.split import NON_SERVING, UJ_MG_PER_UG
from carbon_accounting.grid.factors import FACTORS
from carbon_accounting.settle import Settler
from mesh_contracts import wire
from mesh_contracts.ask import Problem
from mesh_contracts.carbon import (
    GetSigningKey,
    ListFactors,
    ListFootprints,
    Signal,
)
from mesh_contracts.units import EnergyUj
from mesh_tools import receipt as verifier
from meshkit.bucket import Entry
from meshkit.declare import declare

from tests.adapters.fleet import ADMIN, OTHER, PROJECT, STRANGER, TENANT, Site, eventually
from tests.adapters.ledger import TRACE, Ledger
from tests.adapters.roads import connected, settings, tell
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def ledger(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[Ledger]:
    bus = await connected(tmp_path, nats_server.url, "inference-gateway")
    await declare(bus)
    common = settings(tmp_path, nats_server.url, postgres.dsn("carbon"))
    fields = {name: getattr(common, name) for name in common.__struct_fields__}
    service = assemble(CarbonSettings(**fields, carbon_signing_key_file=tmp_path / "receipts.pem"))
    await service.start()
    await tell(bus, Site.admitted(PROJECT, "demo"), Site.admitted(OTHER, "other"))
    try:
        yield Ledger(bus, service)
    finally:
        await service.stop()
        await bus.close()


async def test_every_microjoule_and_microgram_of_the_meter_belongs_to_somebody(ledger: Ledger) -> None:
    await ledger.joined()
    await ledger.measured(0, 1_000)
    rows = [ledger.row(5, prompt_tokens=n, completion_tokens=n % 3) for n in range(1, 8)]
    theirs = ledger.row(6, project=OTHER, prompt_tokens=99)
    await ledger.rated(*rows, theirs)
    await ledger.measured(10, 90_000_000_001_000, 10_000_000_000_007)
    receipts = [await ledger.settled(row) for row in (*rows, theirs)]

    [interval] = await ledger.rows("SELECT * FROM interval")
    assert interval["energy_uj"] == 90_000_000_000_000
    shared = sum(int(receipt.energy_uj) for receipt in receipts)
    assert shared + interval["operator_uj"] == interval["energy_uj"]
    assert interval["operator_uj"] == 10_000_000_000_007

    accounts = {row["account"]: row for row in await ledger.rows("SELECT * FROM account")}
    assert sum(int(row["energy_uj"]) for row in accounts.values()) == interval["energy_uj"]
    carried = sum(row["remainder"] for row in await ledger.rows("SELECT remainder FROM carry"))
    carbon = sum(int(row["carbon_ug"]) for row in accounts.values())
    factor = FACTORS[-1].carbon_mg_per_kwh
    assert carbon * UJ_MG_PER_UG + carried == interval["energy_uj"] * factor
    mine = sum(int(receipt.carbon_ug) for receipt in receipts[:-1])
    assert mine == int(accounts[PROJECT]["carbon_ug"])

    async def both() -> Any:
        told = await ledger.told()
        return told if len(told) == 2 else None

    told = {fact.project: fact for fact in await eventually(both)}
    assert told[PROJECT].requests == 7
    assert int(told[PROJECT].energy_uj) == int(accounts[PROJECT]["energy_uj"])
    assert told[OTHER].quality == "estimated"


async def test_a_receipt_is_signed_and_verified_offline(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.joined()
    await ledger.measured(0, 0)
    row = ledger.row(1)
    await ledger.rated(row)
    await ledger.measured(2, 5_000_000, 1_000_000)
    receipt = await ledger.settled(row, TENANT)
    assert (int(receipt.energy_uj), receipt.quality, receipt.energy_source) == (
        4_000_000,
        "estimated",
        "rehearsal model",
    )
    assert (receipt.jurisdiction, receipt.trace_id, int(receipt.cost_microeur)) == (
        "FR",
        TRACE[3:35],
        7,
    )
    key = await ledger.ask(GetSigningKey)
    path = tmp_path / "receipt.json"
    path.write_bytes(wire.encode(receipt))
    assert await asyncio.to_thread(verifier.main, ["verify", str(path), "--key", key.public_key]) == 0
    path.write_text(json.dumps({**json.loads(path.read_text()), "energy_uj": "4000001"}))
    assert await asyncio.to_thread(verifier.main, ["verify", str(path), "--key", key.public_key]) == 1
    again = await ledger.receipt(row)
    assert again == receipt
    assert stat.S_IMODE((tmp_path / "receipts.pem").stat().st_mode) == 0o600


async def test_a_receipt_is_pending_until_its_interval_is_settled(ledger: Ledger) -> None:
    await ledger.joined()
    row = ledger.row(1)
    await ledger.rated(row)

    async def heard() -> Any:
        found = await ledger.receipt(row)
        return found if found.code == "receipt_pending" else None

    pending = await eventually(heard)
    assert pending.status == 409
    assert "never read" in pending.detail
    await ledger.measured(0, 0)

    async def read() -> bool:
        return f"last read at {ledger.at(0):%Y-%m-%dT%H:%M:%SZ}" in (await ledger.receipt(row)).detail

    await eventually(read)


async def test_a_receipt_is_its_projects_alone(ledger: Ledger) -> None:
    await ledger.joined()
    await ledger.measured(0, 0)
    row = ledger.row(1)
    await ledger.rated(row)
    await ledger.measured(2, 5_000_000)
    await ledger.settled(row)
    answer = await ledger.receipt(row, STRANGER)
    assert isinstance(answer, Problem)
    assert (answer.status, answer.code) == (404, "receipt_not_found")
    assert (await ledger.ask(ListFootprints, STRANGER)).items == []
    own = await ledger.ask(ListFootprints)
    assert ([item.project for item in own.items], int(own.operator_energy_uj)) == (["demo"], 0)
    everything = await ledger.ask(ListFootprints, ADMIN)
    assert int(everything.items[0].energy_uj) + int(everything.operator_energy_uj) == 5_000_000


async def test_what_no_metered_node_served_has_no_made_up_figure(ledger: Ledger) -> None:
    row = ledger.row(1, node_id=None)
    await ledger.rated(row)

    async def heard() -> Any:
        found = await ledger.receipt(row)
        return found if found.code != "receipt_not_found" else None

    assert (await eventually(heard)).code == "energy_unknown"


async def test_a_line_heard_after_its_interval_is_settled_with_the_next(ledger: Ledger) -> None:
    await ledger.joined()
    await ledger.measured(0, 0)
    await ledger.measured(10, 1_000)

    async def closed() -> bool:
        return bool(await ledger.rows("SELECT 1 FROM interval WHERE settled_at IS NOT NULL"))

    await eventually(closed)
    late = ledger.row(5)
    await ledger.rated(late)

    async def heard() -> bool:
        return bool(await ledger.rows("SELECT 1 FROM request"))

    await eventually(heard)
    await ledger.measured(20, 1_300)
    assert int((await ledger.settled(late)).energy_uj) == 300
    [operator] = await ledger.rows(f"SELECT energy_uj FROM account WHERE account = '{NON_SERVING}'")
    assert int(operator["energy_uj"]) == 1_000


async def test_a_lone_request_does_not_pay_for_engines_that_start_beside_it(ledger: Ledger) -> None:
    await ledger.joined()
    await ledger.measured(0, 0, starting_counter_uj=EnergyUj(0), full_power_w=1_000)
    row = ledger.row(4, started_at=ledger.at(3.9))
    await ledger.rated(row)
    await ledger.measured(
        5, 2_000_000_000, 500_000_000, starting_counter_uj=EnergyUj(1_450_000_000), full_power_w=1_000
    )
    assert int((await ledger.settled(row)).energy_uj) == 50_000_000
    everything = await ledger.ask(ListFootprints, ADMIN)
    assert int(everything.operator_energy_uj) == 1_950_000_000
    assert int(everything.operator_non_serving_uj) == 1_450_000_000


async def test_what_is_long_ended_is_forgotten_and_the_sums_stay(ledger: Ledger) -> None:
    await ledger.joined()
    await ledger.measured(0, 0)
    row, unmetered = ledger.row(1), ledger.row(1, node_id=None)
    await ledger.rated(row, unmetered)
    await ledger.measured(2, 700)
    await ledger.settled(row)
    settler = Settler("fr-idf-1", "FR", ledger.service.clock, lambda: ledger.service.store)
    await settler.forget(ledger.at(1))
    assert len(await ledger.rows("SELECT 1 FROM request")) == 2
    await settler.forget(ledger.at(3))
    for table in ("request", "interval"):
        assert await ledger.rows(f"SELECT 1 FROM {table}") == []
    [account] = await ledger.rows(f"SELECT energy_uj FROM account WHERE account = '{PROJECT}'")
    assert int(account["energy_uj"]) == 700


async def test_the_same_line_in_two_facts_is_settled_once(ledger: Ledger) -> None:
    await ledger.joined()
    await ledger.measured(0, 0)
    row = ledger.row(1)
    await ledger.rated(row)
    await ledger.rated(row)
    await ledger.measured(2, 700)
    await ledger.settled(row)
    [account] = await ledger.rows(
        f"SELECT requests, energy_uj FROM account WHERE account = '{PROJECT}'"
    )
    assert (account["requests"], int(account["energy_uj"])) == (1, 700)


async def test_energy_across_a_reset_of_the_meter_is_nobodys(ledger: Ledger) -> None:
    await ledger.joined()
    await ledger.measured(0, 9_000)
    await ledger.measured(10, 50, epoch=2)
    await ledger.measured(20, 80, epoch=2)

    async def closed() -> Any:
        return await ledger.rows("SELECT energy_uj FROM interval WHERE settled_at IS NOT NULL")

    assert [row["energy_uj"] for row in await eventually(closed)] == [30]


async def test_a_place_without_a_grid_factor_is_held_and_says_so(ledger: Ledger) -> None:
    await ledger.joined("DE")
    await ledger.measured(0, 0)
    row = ledger.row(1)
    await ledger.rated(row)
    await ledger.measured(2, 700)

    async def held() -> Any:
        found = await ledger.receipt(row)
        return found if "grid factor" in found.detail else None

    answer = await eventually(held)
    assert answer.code == "receipt_pending"
    assert "DE" in answer.detail
    await ledger.joined("FR")
    assert (await ledger.settled(row)).jurisdiction == "FR"
    await ledger.joined("DE")

    async def moved() -> Any:
        return await ledger.rows("SELECT 1 FROM node WHERE jurisdiction = 'DE'")

    await eventually(moved)
    assert (await ledger.receipt(row)).jurisdiction == "FR"


async def test_the_factor_in_force_is_listed_and_signalled(ledger: Ledger) -> None:
    factors = (await ledger.ask(ListFactors)).items
    assert all(factor.source and factor.boundary and factor.method for factor in factors)

    async def signalled() -> Any:
        stored = await ledger.bus.last("KV_signals", "$KV.signals.intensity.fr-idf-1")
        return stored and stored.data

    raw = await eventually(signalled)
    value = msgspec.json.decode(raw, type=Entry).value
    assert wire.decode(bytes(value), Signal).factor in factors
