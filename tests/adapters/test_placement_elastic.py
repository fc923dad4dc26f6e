"""Elastic jobs against a real nats-server and a real Postgres: the lost part is replaced, the rest goes on."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.placement import (
    GetNode,
    Job,
    JobAdmitted,
    JobPreempted,
    JobReseated,
    JobStarted,
    Near,
    Workload,
)
from mesh_contracts.units import DEFAULT_SITE, new_id
from placement import memory, reading
from placement.app import PlacementSettings, assemble
from placement.domain.fleet import Occasion
from placement.domain.health import on_lost
from placement.turns import turn_node

from tests.adapters.fleet import Node, Site, eventually, node_is
from tests.adapters.holdings import (
    begin,
    cancel,
    intended,
    job_is,
    job_of,
    members_of,
    servers,
    submit,
    told,
)
from tests.adapters.roads import settings
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

LOST_S = 60


async def lose(site: Site, node_id: str, ago_s: float = LOST_S) -> None:
    """Have a node be lost for so long."""
    async with site.service.store.transaction() as tx:
        server = await reading.load_server(tx, node_id)
        assert server is not None
        occasion = Occasion(fact_id=new_id("occasion"), occurred_at=tx.now, site=DEFAULT_SITE)
        await turn_node(tx, occasion, tx.now - timedelta(seconds=ago_s), server, on_lost(server, 1))


async def gang(site: Site, nodes: Sequence[Node], **wished: Any) -> Job:
    """Return an elastic job of four members that run."""
    made = await submit(site, members=4, elastic=True, **wished)
    assert (made.state, made.elastic) == ("admitted", True), made
    await begin(nodes, made)
    return await job_is(site, "running")


def going(job: Job) -> dict[str, str]:
    """Return the nodes of the members that are there, by workload."""
    return {one.id: one.node_id for one in job.workloads if one.state not in {"failed", "stopped"}}


async def replaced(site: Site, before: Job, of: int = 1) -> list[Workload]:
    """Return the members that are new, once there are so many, and no others have gone."""

    async def look() -> Any:
        now = await job_of(site)
        new = [one for one in now.workloads if one.id not in {old.id for old in before.workloads}]
        return new if len(new) == of and len(going(now)) == 4 else None

    return list(await eventually(look))


async def test_of_an_elastic_gang_whose_node_is_lost_three_go_on_and_one_is_new_elsewhere(
    site: Site,
) -> None:
    nodes = await servers(site, 5)
    by_id = {node.id: node for node in nodes}
    made = await gang(site, nodes)
    (spare,) = set(by_id) - set(going(made).values())
    lost = made.workloads[1]
    await lose(site, lost.node_id, ago_s=2)
    await asyncio.sleep(1.2)
    assert going(await job_of(site)) == going(made), "its agent may still run it"
    async with site.service.store.transaction() as tx:
        await tx.change(
            "UPDATE node SET since = since - interval '60 s' WHERE node_id = $1", lost.node_id
        )
    (new,) = await replaced(site, made)
    now = await job_of(site)
    assert (now.state, now.attempt, now.failures, now.started_at) == ("running", 1, 0, made.started_at)
    assert [(reason.code, reason.count) for reason in now.reasons] == [("members_starting", 1)]
    kept = {key: node for key, node in going(made).items() if key != lost.id}
    assert going(now) == {**kept, new.id: spare}
    (gone,) = (one for one in now.workloads if one.id == lost.id)
    assert (gone.state, gone.node_id) == ("failed", lost.node_id)
    assert [reason.code for reason in gone.reasons] == ["node_lost", "member_replaced"]
    assert new.id in gone.reasons[1].detail
    (spec,) = await intended(site, by_id[spare])
    assert (spec.workload_id, spec.number, spec.attempt, spec.members) == (new.id, 1, 1, 4)
    assert await members_of(site, by_id[lost.node_id]) == []
    free = {node.id: (await site.ask(GetNode, node=node.name)).gpu_milli_free for node in nodes}
    assert free == {node.id: 4_000 if node.id == lost.node_id else 0 for node in nodes}
    await by_id[spare].started(new.id)

    async def whole() -> bool:
        return (await job_of(site)).reasons == []

    await eventually(whole)
    (fact,) = await told(site, JobReseated)
    (one,) = fact.reseats
    assert (fact.job_id, fact.attempt, one.member) == (made.id, 1, 1)
    assert (one.workload_id, one.successor_id) == (lost.id, new.id)
    assert (one.node_id, one.to_node_id) == (lost.node_id, spare)
    assert [reason.code for reason in one.reasons] == ["node_lost"]
    assert len(await told(site, JobAdmitted)) == len(await told(site, JobStarted)) == 1
    assert await site.told(JobPreempted) == []


async def test_a_node_that_fails_its_check_has_its_member_end_first_and_go_on_elsewhere(
    site: Site,
) -> None:
    nodes = await servers(site, 5)
    by_id = {node.id: node for node in nodes}
    made = await gang(site, nodes)
    sick = made.workloads[2]
    await by_id[sick.node_id].check("fail")
    await intended(site, by_id[sick.node_id], 0)
    now = await job_of(site)
    (leaves,) = (one for one in now.workloads if one.id == sick.id)
    assert (now.state, leaves.state, leaves.reasons[0].code) == (
        "running",
        "stopping",
        "node_unhealthy",
    )
    assert len(now.workloads) == 4, "no member is there twice"
    await by_id[sick.node_id].stopped(sick.id, exit_code=0)
    (new,) = await replaced(site, made)
    assert (await job_of(site)).failures == 0
    assert new.node_id not in {one.node_id for one in made.workloads}


async def test_where_a_lost_member_has_no_room_the_whole_gang_waits_and_begins_once_there_is(
    site: Site,
) -> None:
    nodes = await servers(site, 4)
    by_id = {node.id: node for node in nodes}
    made = await gang(site, nodes)
    lost, *rest = made.workloads
    await lose(site, lost.node_id)
    away = await job_is(site, "preempted")
    codes = [reason.code for reason in away.reasons]
    assert codes[:2] == ["members_not_replaced", "node_lost"]
    assert len(codes) > 2, "it says what the site lacks"
    for one in rest:
        await intended(site, by_id[one.node_id], 0)
    small = await submit(site, "small", members=1)
    assert small.state == "admitted", "its seats are anybody's"
    for one in rest:
        await by_id[one.node_id].stopped(one.id)
    assert (await job_is(site, "queued")).position == 1
    await cancel(site, "small")
    await by_id[small.workloads[0].node_id].stopped(small.workloads[0].id)
    fifth = await site.node("n9", gpus=4, place={"rack": "r1", "pdu": "p1"}, idle_w=100, gpu_w=50)
    again = await job_is(site, "admitted")
    assert (again.attempt, again.failures, len(going(again))) == (2, 0, 4)
    assert {one.id for one in made.workloads}.isdisjoint(going(again))
    assert set(going(again).values()) == {*by_id, fifth.id} - {lost.node_id}
    (fact,) = await told(site, JobPreempted)
    assert [reason.code for reason in fact.reasons] == codes


async def test_a_gang_that_must_be_in_one_rack_begins_whole_in_another_once_its_last_attempt_has_ended(
    site: Site,
) -> None:
    racks = {f"n{number}": f"r{number // 2}" for number in range(4)}
    nodes = [await site.node(name, gpus=4, place={"rack": rack}) for name, rack in racks.items()]
    for node in nodes:
        await node_is(site, node, "ready")
    by_id = {node.id: node for node in nodes}
    made = await submit(site, elastic=True, near=Near(level="rack", required=True))
    await begin(nodes, made)
    lost, rest = (await job_is(site, "running")).workloads
    await lose(site, lost.node_id)
    again = await job_is(site, "admitted")
    new = [one for one in again.workloads if one.id not in {lost.id, rest.id}]
    assert (again.attempt, len(new)) == (2, 2)
    assert set(by_id) - {one.node_id for one in new} == {lost.node_id, rest.node_id}
    assert {reason.code for one in new for reason in one.reasons} == {"last_attempt_ending"}
    assert await members_of(site, by_id[new[0].node_id]) == []
    await by_id[rest.node_id].stopped(rest.id)
    for one in new:
        (spec,) = await intended(site, by_id[one.node_id])
        assert (spec.workload_id, spec.attempt) == (one.id, 2)
    assert await site.told(JobReseated) == []


async def test_each_member_that_fails_by_itself_counts_and_past_the_bound_the_job_has_failed(
    site: Site,
) -> None:
    nodes = await servers(site, 5)
    by_id = {node.id: node for node in nodes}
    made = await gang(site, nodes, restarts_max=1)
    first = made.workloads[0]
    await by_id[first.node_id].failed(first.id)
    (new,) = await replaced(site, made)
    now = await job_of(site)
    assert (now.state, now.attempt, now.failures) == ("running", 1, 1)
    assert new.node_id != first.node_id, "another node may do better"
    await by_id[new.node_id].started(new.id)
    await by_id[new.node_id].failed(new.id)
    dead = await job_is(site, "failed")
    assert [reason.code for reason in dead.reasons] == ["member_failed", "restarts_used_up"]
    assert dead.reasons[1].count == 2
    for one in made.workloads[1:]:
        await intended(site, by_id[one.node_id], 0)


async def test_a_placement_that_starts_anew_replaces_again_and_decides_the_same(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    dsn = postgres.dsn("placement")
    site = await Site.open(tmp_path, nats_server.url, dsn)
    try:
        nodes = await servers(site, 6)
        by_id = {node.id: node for node in nodes}
        made = await gang(site, nodes)
        await lose(site, made.workloads[0].node_id)
        (new,) = await replaced(site, made)
        before = await job_of(site)
        await site.service.stop()
        site.service = assemble(settings(tmp_path, nats_server.url, dsn, PlacementSettings))
        await site.service.start()
        assert await job_of(site) == before
        assert memory.of(site.service.store.beside).trouble() is None
        await by_id[new.node_id].started(new.id)
        await lose(site, new.node_id)
        (last,) = await replaced(site, before)
        now = await job_of(site)
        assert (now.state, now.attempt) == ("running", 1)
        kept = {key: node for key, node in going(made).items() if key != made.workloads[0].id}
        assert going(now) == {**kept, last.id: last.node_id}
        assert [one.id for one in now.workloads if one.state == "failed"] == [new.id]
        (spec,) = await intended(site, by_id[last.node_id])
        assert (spec.workload_id, spec.number) == (last.id, 0)
    finally:
        await site.close()
