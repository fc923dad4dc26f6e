"""``/api/v1/requests/{id}``: the ledger's line and the footprint, asked for side by side; the line alone will do."""

import asyncio
from typing import Any

import pytest
from mesh_contracts import carbon, metering
from mesh_contracts.ask import Problem
from mesh_contracts.inference import UsageRow
from mesh_contracts.units import DEFAULT_SITE, Wide
from meshkit.testing import NOW, test_id

from tests.adapters.gateways import ORGANIZATION, PROJECT, Town
from tests.adapters.owners import Owners, said
from tests.adapters.test_gateway_api import ENDPOINT, REQUEST

pytestmark = pytest.mark.slow


def usage() -> UsageRow:
    return UsageRow(
        request_id=REQUEST,
        organization=ORGANIZATION,
        project=PROJECT,
        key_id=test_id("key"),
        endpoint_id=ENDPOINT,
        model="chat",
        route="/v1/chat/completions",
        streamed=True,
        started_at=NOW,
        ended_at=NOW,
        state="completed",
        status=200,
        tokens_from="engine",
        prompt_tokens=5,
        completion_tokens=7,
    )


def record() -> metering.RequestRecord:
    return metering.RequestRecord(
        request_id=REQUEST,
        project="rail",
        usage=usage(),
        cost_microeur=Wide(2**60),
        price_id="default-1",
        trace_id="0" * 31 + "1",
        recorded_at=NOW,
    )


def receipt() -> carbon.Receipt:
    factor = carbon.Factor(
        factor_id="fr-2025",
        zone="FR",
        carbon_mg_per_kwh=21_000,
        boundary="direct",
        method="location-based",
        valid_from=NOW.date(),
        valid_until=None,
        source="a grid's operator",
    )
    return carbon.Receipt(
        receipt="compute-mesh/receipt/1",
        request_id=REQUEST,
        project_id=PROJECT,
        key_id=test_id("key"),
        model="chat",
        site=DEFAULT_SITE,
        jurisdiction="FR",
        node_id=test_id("node"),
        workload_id=test_id("workload"),
        started_at=NOW,
        ended_at=NOW,
        state="completed",
        prompt_tokens=5,
        completion_tokens=7,
        tokens_from="engine",
        cost_microeur=Wide(1),
        price_id="default-1",
        energy_uj=Wide(2**54),
        carbon_ug=Wide(99),
        factor=factor,
        quality="estimated",
        energy_source="rehearsal",
        trace_id=None,
        settled_at=NOW,
        signature="0",
        key_fingerprint="0",
    )


async def explained(here: Town, status: int = 200) -> Any:
    return await said(here.get(f"/api/v1/requests/{REQUEST}"), status)


async def test_a_request_is_explained_with_its_cost_and_with_its_footprint_once_settled(
    here: Town, owners: Owners
) -> None:
    told: list[Any] = [
        Problem(title="x", status=409, code="receipt_pending", detail="soon", retry_after_s=2),
        receipt(),
    ]

    async def next_told() -> Any:
        return told.pop(0)

    await owners.answer("metering", {metering.GetRequest: record()})
    await owners.answer("carbon", {carbon.GetReceipt: next_told})
    found = await explained(here)
    assert found["usage"]["completion_tokens"] == 7
    assert found["cost_microeur"] == str(2**60), "past 2^53 it travels as text"
    footprint = found["footprint"]
    assert (footprint["state"], footprint["reason"]) == ("pending", "receipt_pending")
    assert (footprint["energy_uj"], footprint["carbon_ug"]) == (None, None), "unknown differs from none"
    assert footprint["since"] == found["usage"]["ended_at"]
    footprint = (await explained(here))["footprint"]
    assert (footprint["state"], footprint["energy_uj"]) == ("settled", str(2**54))
    assert (footprint["carbon_ug"], footprint["factor_id"]) == ("99", "fr-2025")
    assert (footprint["reason"], footprint["since"]) == (None, None)


async def test_a_request_is_explained_while_carbon_accounting_is_away(
    here: Town, owners: Owners
) -> None:
    await owners.answer("metering", {metering.GetRequest: record()})
    found = await explained(here)
    assert found["usage"]["prompt_tokens"] == 5
    footprint = found["footprint"]
    assert (footprint["state"], footprint["reason"]) == ("unknown", "unavailable")
    assert footprint["energy_uj"] is None


async def test_what_no_metered_node_served_has_an_unknown_footprint_and_does_not_wait_for_one(
    here: Town, owners: Owners
) -> None:
    unknown = Problem(title="x", status=404, code="energy_unknown", detail="not ours")
    await owners.answer("metering", {metering.GetRequest: record()})
    await owners.answer("carbon", {carbon.GetReceipt: unknown})
    footprint = (await explained(here))["footprint"]
    assert (footprint["state"], footprint["reason"]) == ("unknown", "energy_unknown")
    assert footprint["since"] is None


async def test_the_ledger_and_the_footprint_are_asked_for_side_by_side(
    here: Town, owners: Owners
) -> None:
    both = asyncio.Barrier(2)

    def once_both_are_asked(reply: Any) -> Any:
        async def answered() -> Any:
            await both.wait()
            return reply

        return answered

    await owners.answer("metering", {metering.GetRequest: once_both_are_asked(record())})
    await owners.answer("carbon", {carbon.GetReceipt: once_both_are_asked(receipt())})
    assert (await explained(here))["footprint"]["state"] == "settled"


async def test_a_request_that_the_ledger_does_not_know_is_refused_whatever_its_footprint(
    here: Town, owners: Owners
) -> None:
    unknown = Problem(title="x", status=404, code="request_not_found", detail="no such line")
    await owners.answer("metering", {metering.GetRequest: unknown})
    await owners.answer("carbon", {carbon.GetReceipt: receipt()})
    assert (await explained(here, 404))["code"] == "request_not_found"
