"""Jobs from their submission to their end, against a real nats-server and a real Postgres."""

import asyncio
from datetime import timedelta

import pytest
from mesh_contracts.placement import (
    CordonNode,
    DrainNode,
    GetNode,
    JobAdmitted,
    JobCancelled,
    JobFailed,
    JobPreempted,
    JobQueued,
    JobStarted,
    JobSucceeded,
    NodeDrained,
)
from mesh_contracts.units import DEFAULT_SITE, new_id
from placement import reading
from placement.domain.fleet import Occasion
from placement.domain.health import on_lost
from placement.turns import turn_node

from tests.adapters.fleet import Site, eventually, node_is
from tests.adapters.holdings import (
    RUN,
    begin,
    cancel,
    intended,
    job_is,
    job_of,
    servers,
    submit,
    told,
)

pytestmark = pytest.mark.slow


async def test_a_gang_is_placed_whole_runs_and_succeeds_once_every_member_has_ended(site: Site) -> None:
    nodes = await servers(site, 2)
    made = await submit(site)
    assert (made.state, made.attempt, len(made.workloads)) == ("admitted", 1, 2)
    assert [reason.code for reason in made.reasons] == ["members_starting"]
    for node in nodes:
        (spec,) = await intended(site, node)
        assert (spec.kind, spec.owner_id, spec.members, spec.attempt) == ("job", made.id, 2, 1)
        assert (spec.command, len(spec.devices)) == (RUN, 4)
        seen = await site.ask(GetNode, node=node.name)
        assert (seen.gpu_milli_free, seen.workloads) == (0, 1)
    first, second = made.workloads
    by_id = {node.id: node for node in nodes}
    await by_id[first.node_id].started(first.id)
    await asyncio.sleep(0.2)
    assert (await job_of(site)).state == "admitted", "one of two runs"
    await begin(nodes, made)
    running = await job_is(site, "running")
    assert (running.reasons, running.started_at is not None) == ([], True)
    await by_id[first.node_id].stopped(first.id, exit_code=0)
    await asyncio.sleep(0.2)
    assert (await job_of(site)).state == "running"
    await by_id[second.node_id].stopped(second.id, exit_code=0)
    ended = await job_is(site, "succeeded")
    assert ended.ended_at is not None
    for node in nodes:
        assert (await site.ask(GetNode, node=node.name)).gpu_milli_free == 4_000
        await intended(site, node, 0)
    for kind in (JobStarted, JobSucceeded):
        await told(site, kind)
    assert await site.told(JobQueued) == []
    (admitted,) = await told(site, JobAdmitted)
    assert admitted.node_ids == sorted(node.id for node in nodes)
    assert (admitted.gpu_milli, admitted.project) == (8_000, made.project_id)


async def test_a_gang_that_does_not_fit_takes_nothing_and_says_what_would_unblock_it(
    site: Site,
) -> None:
    node, spare = await servers(site, 2)
    await site.ask(CordonNode, node=spare.name, reason="fan")
    made = await submit(site)
    assert (made.state, made.position, made.expected_start_at) == ("queued", 1, None)
    why = [(reason.code, bool(reason.unblock)) for reason in made.reasons]
    assert why == [("not_enough_seats", True), ("would_fit", True)]
    assert (await site.ask(GetNode, node=node.name)).gpu_milli_free == 4_000
    never = await submit(site, "never", members=3)
    assert (never.state, never.reasons[0].code) == ("failed", "site_too_small")
    behind = await submit(site, "behind")
    assert behind.position == 2
    small = await submit(site, "small", members=1)
    assert small.state == "admitted", "what fits goes on, whoever waits for more"
    assert [fact.job_id for fact in await told(site, JobQueued, 2)] == [made.id, behind.id]


async def test_who_waits_begins_once_there_is_room_and_who_is_worth_more_first(site: Site) -> None:
    (node,) = await servers(site, 1)
    first = await submit(site, "first", members=1, min_run_s=3_600)
    assert (await submit(site, "cheap", members=1)).position == 1
    assert (await submit(site, "dear", members=1, priority=200)).position == 1

    async def positions() -> list[int | None]:
        return [(await job_of(site, name)).position for name in ("dear", "cheap")]

    assert await positions() == [1, 2]
    await cancel(site, "first")
    await node.stopped(first.workloads[0].id)
    dear = await job_is(site, "admitted", "dear")
    assert await positions() == [None, 1]
    await begin([node], dear)
    await job_is(site, "running", "dear")
    await node.stopped(dear.workloads[0].id, exit_code=0)
    await job_is(site, "admitted", "cheap")


async def test_what_gives_way_is_gone_from_a_node_before_the_other_comes(site: Site) -> None:
    (node,) = await servers(site, 1)
    victim = await submit(site, "victim", members=1)
    await intended(site, node)
    await begin([node], victim)
    await job_is(site, "running", "victim")
    dear = await submit(site, "dear", members=1, priority=300)
    assert dear.state == "admitted"
    gone = await job_of(site, "victim")
    assert (gone.state, gone.reasons[0].code) == ("preempted", "preempted")
    assert dear.id in gone.reasons[0].detail
    assert gone.workloads[0].state == "stopping"
    await intended(site, node, 0)
    assert (await site.ask(GetNode, node=node.name)).gpu_milli_free == 0
    await node.stopped(victim.workloads[0].id)
    (spec,) = await intended(site, node)
    assert spec.name == "dear"
    assert (await job_is(site, "queued", "victim")).position == 1
    (fact,) = await told(site, JobPreempted)
    assert (fact.job_id, fact.reasons[0].code) == (victim.id, "preempted")


async def test_what_cannot_be_preempted_or_has_not_run_its_time_stays(site: Site) -> None:
    await servers(site, 1)
    await submit(site, "held", members=1, min_run_s=3_600)
    dear = await submit(site, "dear", members=1, priority=300)
    assert (dear.state, dear.position) == ("queued", 1)
    await cancel(site, "dear")
    assert (await job_of(site, "held")).state == "admitted"


async def test_one_member_that_fails_stops_all_and_the_gang_begins_anew_elsewhere(site: Site) -> None:
    nodes = await servers(site, 2)
    made = await submit(site, restarts_max=1)
    await begin(nodes, made)
    await job_is(site, "running")
    by_id = {node.id: node for node in nodes}
    one, other = made.workloads
    await by_id[one.node_id].failed(one.id)
    broken = await job_is(site, "preempted")
    assert [reason.code for reason in broken.reasons] == ["member_failed"]
    assert "exit code -9" in broken.reasons[0].detail
    await intended(site, by_id[other.node_id], 0)
    await by_id[other.node_id].stopped(other.id)
    again = await job_is(site, "admitted")
    assert (again.attempt, again.failures, len(again.workloads)) == (2, 1, 2)
    assert {item.id for item in again.workloads}.isdisjoint({one.id, other.id})
    paused = again.workloads[0].reasons[0]
    assert (paused.code, paused.count) == ("backing_off", 1)
    (spec,) = await intended(site, nodes[0])
    assert spec.attempt == 2
    codes = {why.code for item in (await job_of(site)).workloads for why in item.reasons}
    assert codes == {"waiting_for_agent"}
    await by_id[again.workloads[0].node_id].failed(again.workloads[0].id)
    dead = await job_is(site, "failed")
    assert [reason.code for reason in dead.reasons] == ["member_failed", "restarts_used_up"]
    rest = again.workloads[1]
    await by_id[rest.node_id].stopped(rest.id)

    async def free() -> bool:
        seen = [await site.ask(GetNode, node=node.name) for node in nodes]
        return all(node.gpu_milli_free == 4_000 for node in seen)

    await eventually(free)
    (fact,) = await told(site, JobFailed)
    assert fact.reasons[1].count == 2


async def test_a_job_that_is_cancelled_frees_its_place_once_its_members_have_stopped(
    site: Site,
) -> None:
    nodes = await servers(site, 2)
    made = await submit(site)
    await begin(nodes, made)
    await job_is(site, "running")
    gone = await cancel(site)
    assert (gone.state, {item.state for item in gone.workloads}) == ("cancelled", {"stopping"})
    assert gone.generation == made.generation + 1
    assert (await cancel(site)).generation == gone.generation, "once more changes nothing"
    assert (await submit(site)).state == "queued", "its name is free, its place is not"
    by_id = {node.id: node for node in nodes}
    for item in made.workloads:
        await by_id[item.node_id].stopped(item.id)
    await job_is(site, "admitted")
    (fact,) = await told(site, JobCancelled)
    assert fact.job_id == made.id


async def test_a_node_that_fails_its_check_takes_no_part_in_a_job_any_more(site: Site) -> None:
    nodes = await servers(site, 3)
    made = await submit(site)
    await begin(nodes, made)
    await job_is(site, "running")
    by_id = {node.id: node for node in nodes}
    sick = by_id[made.workloads[0].node_id]
    await sick.check("fail")
    away = await job_is(site, "preempted")
    assert away.reasons[0].code == "node_unhealthy"
    for item in made.workloads:
        await by_id[item.node_id].stopped(item.id)
    again = await job_is(site, "admitted")
    assert again.failures == 0, "it is no fault of the job"
    assert sick.id not in {item.node_id for item in again.workloads}


async def test_an_operators_cordon_lets_a_job_end_and_a_drain_moves_it(site: Site) -> None:
    nodes = await servers(site, 2)
    made = await submit(site, members=1)
    await begin(nodes, made)
    running = await job_is(site, "running")
    node = {one.id: one for one in nodes}[running.workloads[0].node_id]
    await site.ask(CordonNode, node=node.name, reason="soon")
    assert (await job_of(site)).state == "running"
    drained = await site.ask(DrainNode, node=node.name, reason="now", grace_s=600)
    assert (drained.state, drained.reasons[0].code) == ("draining", "draining_by_operator")
    away = await job_is(site, "preempted")
    assert away.reasons[0].code == "node_draining"
    await node.stopped(made.workloads[0].id)
    again = await job_is(site, "admitted")
    assert again.workloads[0].node_id != node.id
    empty = await node_is(site, node, "repairing")
    assert [(reason.code, reason.detail.endswith(": now")) for reason in empty.reasons] == [
        ("drained", True)
    ]
    assert [fact.node_id for fact in await told(site, NodeDrained)] == [node.id]


async def test_a_job_that_cannot_be_preempted_stays_on_a_drained_node_until_the_deadline(
    site: Site,
) -> None:
    (node,) = await servers(site, 1)
    made = await submit(site, members=1, preemptible=False)
    await begin([node], made)
    await job_is(site, "running")
    await site.ask(DrainNode, node=node.name, reason="fan", grace_s=2)
    assert (await job_of(site)).state == "running"
    assert (await job_is(site, "preempted")).reasons[0].code == "node_draining"


async def test_a_job_ends_where_it_has_run_as_long_as_it_may(site: Site) -> None:
    (node,) = await servers(site, 1)
    made = await submit(site, members=1, run_max_s=1)
    await begin([node], made)
    ended = await job_is(site, "failed")
    assert ended.reasons[0].code == "time_over"


async def test_a_node_that_speaks_of_anothers_member_changes_nothing(site: Site) -> None:
    nodes = await servers(site, 2)
    made = await submit(site, members=1)
    owner = {node.id: node for node in nodes}[made.workloads[0].node_id]
    liar = next(node for node in nodes if node is not owner)
    await liar.stopped(made.workloads[0].id, exit_code=0)
    await owner.started(made.workloads[0].id)
    assert (await job_is(site, "running")).attempt == 1


async def test_a_job_on_a_node_that_is_lost_begins_elsewhere_after_a_while(site: Site) -> None:
    nodes = await servers(site, 2)
    made = await submit(site, members=1)
    await begin(nodes, made)
    await job_is(site, "running")
    async with site.service.store.transaction() as tx:
        server = await reading.load_server(tx, made.workloads[0].node_id)
        occasion = Occasion(fact_id=new_id("occasion"), occurred_at=tx.now, site=DEFAULT_SITE)
        await turn_node(tx, occasion, tx.now - timedelta(seconds=60), server, on_lost(server, 1))
    again = await job_is(site, "admitted")
    assert again.workloads[-1].node_id != made.workloads[0].node_id
    assert (again.attempt, again.failures) == (2, 0)
    (lost,) = [node for node in nodes if node.id == made.workloads[0].node_id]
    await intended(site, lost, 0)
