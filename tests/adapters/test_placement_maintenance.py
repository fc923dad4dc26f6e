"""Maintenance windows from plan to return, through a restart, against a real nats-server and a real Postgres."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.ask import Page, Principal, Problem
from mesh_contracts.placement import (
    CancelMaintenance,
    GetNode,
    ListMaintenance,
    ListNodes,
    Maintenance,
    MaintenanceEnded,
    MaintenancePlanned,
    MaintenanceStarted,
    NodeCordoned,
    NodeDrained,
    PlanMaintenance,
    Resources,
    ReturnNode,
)
from placement.app import PlacementSettings, assemble

from tests.adapters.fleet import ADMIN, TENANT, Node, Site, eventually, node_is, serving, state_of
from tests.adapters.holdings import (
    begin,
    cancel,
    intended,
    job_is,
    job_of,
    lease,
    lease_of,
    servers,
    submit,
    told,
)
from tests.adapters.roads import settings
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow


def at(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def plan(
    site: Site,
    *nodes: str,
    begins: float = 600,
    lasts: float | None = 3_600,
    who: Principal = ADMIN,
    **fields: Any,
) -> Any:
    wished = {
        "nodes": list(nodes),
        "starts_at": at(begins),
        "ends_at": None if lasts is None else at(begins + lasts),
        "reason": "new fans",
        **fields,
    }
    return await site.ask(PlanMaintenance, who, **wished)


async def listed(site: Site, **fields: Any) -> list[Maintenance]:
    return list((await site.ask(ListMaintenance, **fields)).items)


async def passed(site: Site, node: Node, number: int = 1) -> None:
    await node.check(number=number)
    await node_is(site, node, "ready")


async def test_a_window_is_planned_once_listed_and_said_of_its_nodes_and_to_who_waits_for_it(
    site: Site,
) -> None:
    await servers(site, 2)
    there = await submit(site, "there", members=1)
    (busy,) = [item.node for item in there.workloads]
    (other,) = {"n1", "n2"} - {busy}
    ends = at(4_200)
    wished = {"nodes": [other, there.workloads[0].node_id], "key": "once", "ends_at": ends}
    made = await site.ask(PlanMaintenance, **wished, starts_at=at(600), reason="new fans")
    assert (made.state, made.nodes, made.planned_by) == ("planned", ["n1", "n2"], ADMIN.principal_id)
    assert [(one.id, one.kind) for one in made.remain] == [(there.id, "job")]
    assert (made.remain_count, made.ends_at) == (1, ends)
    assert await listed(site) == [made]

    for node in (await site.ask(ListNodes)).items:
        (reason,) = node.reasons
        assert (node.state, reason.code) == ("ready", "maintenance_planned")
        assert f"{ends:%Y-%m-%dT%H:%M:%SZ}" in reason.detail
        assert made.id in str(reason.unblock)
    waits = await submit(site, "long", members=1)
    assert [reason.code for reason in waits.reasons][:1] == ["reserved"]
    (why,) = [reason for reason in waits.reasons if reason.code == "maintenance"]
    assert (waits.state, why.count) == ("queued", 1), "one node has room"
    short = await submit(site, "short", members=1, run_max_s=60)
    assert [item.node for item in short.workloads] == [other]
    (fact,) = await told(site, MaintenancePlanned)
    assert (fact.window_id, fact.principal_id, fact.reason) == (
        made.id,
        ADMIN.principal_id,
        "new fans",
    )
    assert len(fact.node_ids) == 2


async def test_the_same_key_plans_one_window_and_pages_go_on_where_the_last_ended(site: Site) -> None:
    await servers(site, 2)
    same = {"nodes": ["n1"], "starts_at": at(600), "ends_at": at(900), "reason": "fans"}
    first = await site.ask(PlanMaintenance, key="once", **same)
    again = await site.ask(PlanMaintenance, key="once", **same)
    assert first.id == again.id
    second = await plan(site, "n2")
    page = await site.ask(ListMaintenance, page=Page(limit=1))
    rest = await site.ask(ListMaintenance, page=Page(limit=1, cursor=page.next))
    assert [one.id for one in (*page.items, *rest.items)] == [first.id, second.id]
    assert rest.next is None


async def test_what_cannot_be_is_refused_with_what_to_do_and_changes_nothing(site: Site) -> None:
    await servers(site, 2)
    booked = await lease(site, starts_at=at(600), ends_at=at(7_200))
    answers = {name: await plan(site, name, begins=900) for name in ("n1", "n2")}
    (held,) = [name for name, answer in answers.items() if isinstance(answer, Problem)]
    (free,) = answers.keys() - {held}
    kept = answers[free]
    for asked, status, code, words in (
        (plan(site, free, "n9"), 422, "node_not_found", "n9"),
        (plan(site, free, lasts=-60), 422, "invalid_value", "after starts_at"),
        (plan(site, free, begins=-900, lasts=60), 422, "invalid_value", "passed"),
        (plan(site, held, begins=900), 409, "window_overlaps", booked.id),
        (plan(site, free, begins=-60, lasts=None), 409, "window_overlaps", kept.id),
        (plan(site, free, reason=""), 422, "invalid_value", "say what"),
        (plan(site, free, who=TENANT), 403, "forbidden", "maintenance.write"),
        (site.ask(ListMaintenance, TENANT), 403, "forbidden", "maintenance.read"),
        (site.ask(CancelMaintenance, window="window_9"), 404, "window_not_found", "lists"),
    ):
        answer = await asked
        assert isinstance(answer, Problem), answer
        assert (answer.status, answer.code) == (status, code)
        assert words in answer.detail
    assert await listed(site) == [kept]
    assert isinstance(await plan(site, free, begins=-600, lasts=900), Maintenance), "it has begun"


async def test_at_its_start_work_leaves_leases_stay_and_are_named_and_nothing_new_comes(
    site: Site,
) -> None:
    metal, other = await servers(site, 2)
    leased = await lease(site)
    if leased.workloads[0].node != "n1":
        metal, other = other, metal
    job = await submit(site, "train", members=1, resources=Resources(gpus=2))
    await intended(site, other)
    await begin([other], job)
    spare = await site.node("n3", gpus=4)
    await node_is(site, spare, "ready")
    made = await plan(site, "n1", "n2", begins=0.5)
    assert [one.id for one in made.remain] == [leased.id, job.id]

    assert (await node_is(site, metal, "draining")).reasons[0].code == "maintenance"
    (begun,) = await told(site, MaintenanceStarted)
    assert (begun.window_id, sorted(begun.node_ids)) == (made.id, sorted([metal.id, other.id]))
    assert (await job_of(site)).state == "preempted"
    await other.stopped(job.workloads[0].id)
    (moved,) = [item for item in (await job_is(site, "admitted")).workloads if item.node == "n3"]
    assert moved.state == "assigned"
    await node_is(site, other, "repairing")
    assert [fact.node_id for fact in await told(site, NodeDrained)] == [other.id]
    cordoned = await told(site, NodeCordoned, 2)
    assert {fact.reasons[0].code for fact in cordoned} == {"maintenance"}

    (active,) = await listed(site)
    assert (active.state, [one.id for one in active.remain]) == ("active", [leased.id])
    assert (active.reasons[0].code, leased.id in active.reasons[0].detail) == (
        "leases_in_the_way",
        True,
    )
    assert (await lease_of(site)).state == "reserved"
    waits = await submit(site, "more", members=1)
    assert [reason.code for reason in waits.reasons][-1] == "maintenance"
    early = await site.ask(ReturnNode, node=other.name)
    assert (early.status, early.code, made.id in early.detail) == (409, "node_state", True)


async def test_at_its_end_nodes_are_checked_and_take_what_waited_for_them(site: Site) -> None:
    (node,) = await servers(site, 1)
    made = await plan(site, "n1", begins=0.2, lasts=2.5)
    await node_is(site, node, "repairing")
    assert (await submit(site, members=1)).state == "queued"
    assert (await node_is(site, node, "validating")).reasons[0].code == "being_checked"
    (fact,) = await told(site, MaintenanceEnded)
    assert (fact.window_id, fact.principal_id) == (made.id, None)
    assert (await job_of(site)).state == "queued", "it is not shown to be sound yet"
    await passed(site, node)
    await job_is(site, "admitted")
    assert await listed(site) == []
    (over,) = await listed(site, ended=True)
    assert (over.state, over.remain_count) == ("ended", 0)


async def test_a_cancelled_window_gives_its_nodes_back_and_again_is_answered_the_same(
    site: Site,
) -> None:
    (node,) = await servers(site, 1)
    planned = await plan(site, "n1")
    replica = await site.create()
    assert (replica.state, replica.reasons[-1].code) == ("pending", "maintenance")
    gone = await site.ask(CancelMaintenance, window=planned.id)
    assert (gone.state, (await site.ask(GetNode, node="n1")).reasons) == ("cancelled", [])
    assert len((await state_of(site)).workloads) == 1, "nothing is kept any more"
    assert (await submit(site, "a", members=1)).state == "admitted"
    await cancel(site, "a")

    made = await plan(site, "n1", begins=0, lasts=None)
    await node_is(site, node, "draining")
    first = await site.ask(CancelMaintenance, window=made.id)
    again = await site.ask(CancelMaintenance, window=made.id)
    assert (first.state, again) == ("cancelled", first)
    await node_is(site, node, "validating")
    await passed(site, node)
    facts = await told(site, MaintenanceEnded, 2)
    assert [fact.principal_id for fact in facts] == [ADMIN.principal_id] * 2


async def test_a_replica_answers_on_until_its_successor_does(site: Site) -> None:
    one, two = [await site.node(name) for name in ("n1", "n2")]
    for node in (one, two):
        await node_is(site, node, "ready")
    endpoint, workload = await serving(site, one)
    await plan(site, endpoint.workloads[0].node, begins=0)
    there, elsewhere = (one, two) if endpoint.workloads[0].node == "n1" else (two, one)
    await node_is(site, there, "draining")
    new = (await site.running(elsewhere))[elsewhere.name]
    assert (await site.running(there))[there.name] == [workload], "nobody else answers yet"
    await elsewhere.ready(new[0])

    async def left() -> bool:
        return (await site.running(there))[there.name] == []

    await eventually(left)
    assert (await state_of(site)).state == "serving"


async def test_a_window_is_none_the_worse_for_restarts_in_between(
    tmp_path: Path, nats_server: NatsServer, postgres: PostgresServer
) -> None:
    dsn = postgres.dsn("placement")
    site = await Site.open(tmp_path, nats_server.url, dsn)

    async def restart() -> None:
        await site.service.stop()
        site.service = assemble(settings(tmp_path, nats_server.url, dsn, PlacementSettings))
        await site.service.start()

        async def answers() -> bool:
            return not isinstance(await site.ask(GetNode, node="n1"), Problem)

        await eventually(answers)

    try:
        (node,) = await servers(site, 1)
        made = await plan(site, "n1", begins=3, lasts=None)
        await restart()
        assert (await submit(site, members=1)).state == "queued", "the node is still kept"
        await node_is(site, node, "repairing")
        await restart()
        (active,) = await listed(site)
        assert (active.id, active.state) == (made.id, "active")
        await site.ask(CancelMaintenance, window=made.id)
        await node_is(site, node, "validating")
        await passed(site, node)
        await job_is(site, "admitted")
    finally:
        await site.close()
