"""Budgets and leases on a closed bus: asks from gateways, the bucket that they watch, facts that are told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts import wire
from mesh_contracts.ask import Problem
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.inference import Considered, Counted, Explained
from mesh_contracts.metering import (
    Budget,
    BudgetCrossed,
    Ceiling,
    GetRequest,
    Leases,
    LeaseWish,
    Limit,
    RenewLeases,
    SetBudget,
    SetLimit,
)
from mesh_contracts.units import Wide
from meshkit.testing import envelope, test_id
from metering import store

from tests.adapters.roads import until
from tests.adapters.services import ADMIN
from tests.adapters.test_metering_service import PRODUCER, PROJECT, Room, batch, open_room, row
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

KEY = row("any").key_id


@pytest.fixture
async def room(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Room]:
    async with open_room(tmp_path, postgres.dsn("metering")) as room:
        yield room


def ceiling(room: Room, scope: str) -> Ceiling | None:
    held: Any = room.marks.values.get(f"ceiling.{scope}")
    return held


async def renewed(room: Room, epoch: int = 1, **fields: Any) -> Leases:
    answer = await room.ask(
        RenewLeases, producer=PRODUCER, epoch=epoch, wishes=[LeaseWish(scope_id=KEY, **fields)]
    )
    assert isinstance(answer, Leases), answer
    return answer


async def test_a_ceiling_is_in_the_bucket_when_its_wish_is_answered_and_a_lease_follows_it(
    room: Room,
) -> None:
    limit = await room.ask(SetLimit, scope_kind="key", scope=KEY, requests_per_minute=30)
    assert isinstance(limit, Limit)
    budget = await room.ask(
        SetBudget, scope_kind="key", scope=KEY, amount_microeur=Wide(100), period="day"
    )
    assert isinstance(budget, Budget)
    await until(lambda: (it := ceiling(room, KEY)) is not None and it.hard)
    shown = ceiling(room, KEY)
    assert shown is not None
    assert (shown.requests_per_minute, shown.budget_microeur, shown.period) == (30, Wide(100), "day")
    leases = await renewed(room, wanted_microeur=60)
    (lease,) = leases.items
    assert (lease.requests_per_minute, lease.granted_microeur, lease.left_microeur) == (30, 60, 40)
    assert leases.gateways == 1
    assert {price.model for price in leases.prices} == {"*", "tiny", "all-minilm-l6-v2"}
    assert (await renewed(room, wanted_microeur=60)).items[0].granted_microeur == 100


async def test_a_crossing_leaves_as_a_fact_and_stands_in_the_bucket_after_a_restart(room: Room) -> None:
    told: list[BudgetCrossed] = []

    async def hear(message: Any) -> None:
        told.append(wire.decode(message.data, BudgetCrossed))

    budget = await room.ask(
        SetBudget, scope_kind="key", scope=KEY, amount_microeur=Wide(10), period="total", hard=False
    )
    async with room.bus.caller("observer") as observer:
        await observer.client.subscribe("metering.budget.crossed.>", cb=hear)
        await observer.settle()
        # Four lines of three and a half micro-euros.
        await room.tell(batch(1, *(row(f"crossing {number}") for number in range(4))))
        await until(lambda: bool(told))
    assert [(one.budget_id, one.crossed, one.spent_microeur) for one in told] == [
        (budget.id, "hard", 14)
    ]
    assert told[0].project == PROJECT, "a line has said whose key it is"
    await until(lambda: (it := ceiling(room, KEY)) is not None and it.crossed == "hard")
    await room.service.stop()
    async with room.bus.caller("admin") as admin:
        await admin.client.request("$JS.API.STREAM.PURGE.KV_limits", b"", timeout=5)
    await room.start()
    await until(lambda: (it := ceiling(room, KEY)) is not None and it.crossed == "hard")


async def test_a_project_that_nobody_has_told_of_yet_is_waited_for_and_a_stranger_is_refused(
    room: Room,
) -> None:
    wished = {"scope_kind": "project", "amount_microeur": Wide(1)}
    unknown = await room.ask(SetBudget, scope="demo", **wished)
    assert isinstance(unknown, Problem)
    assert (unknown.status, unknown.code) == (404, "project_not_found")
    admitted = ProjectAdmitted(**envelope(PROJECT), name="demo", organization_name="acme")
    async with room.service.store.transaction() as tx:
        await store.name_project(tx, admitted)
    assert (await room.ask(SetBudget, scope="acme/demo", **wished)).scope_id == PROJECT
    tenant = type(ADMIN)(
        principal_id="key_t", role="project", project=PROJECT, expires_at=ADMIN.expires_at
    )
    for kind, fields in (
        (SetBudget, {"scope": "demo", **wished}),
        (RenewLeases, {"producer": PRODUCER, "epoch": 9, "wishes": []}),
    ):
        asked = kind(**room.gateway.wish(tenant), **fields)
        refused = await room.gateway.ask(asked, owner="metering")
        assert isinstance(refused, Problem)
        assert refused.status == 403


async def test_a_request_is_explained_from_its_line_and_unknown_differs_from_none(room: Room) -> None:
    why = Explained(
        chosen_by="prefix",
        considered=[Considered(workload_id=test_id("workload", "w"), load=2, in_flight=1)],
        counted=[Counted(scope=PROJECT, requests_left=0)],
    )
    told = row(
        "explained",
        explained=why,
        queue_us=0,
        output_token_us=7,
        finish_reason="length",
        admitted_epoch=4,
        completion_tokens=None,
    )
    await room.tell(batch(1, told))
    await until(lambda: room.held_to(1, 1))
    record = await room.ask(GetRequest, request_id=told.request_id)
    assert record.usage == told
    assert (record.usage.queue_us, record.usage.completion_tokens) == (0, None)
