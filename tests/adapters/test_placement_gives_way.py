"""Who gives way is gone before anybody has its place, and before it begins again elsewhere."""

import pytest
from mesh_contracts.placement import GetEndpoint, ListCaps, Resources

from tests.adapters.fleet import Site, eventually
from tests.adapters.holdings import begin, intended, job_is, job_of, servers, submit
from tests.adapters.test_placement_caps import cap

pytestmark = pytest.mark.slow


async def test_a_replica_begins_only_once_the_job_whose_gpu_it_got_has_ended(site: Site) -> None:
    (node,) = await servers(site, 1, gpus=1)
    victim = await submit(site, "victim", members=1, resources=Resources(gpus=1))
    await intended(site, node)
    await begin([node], victim)
    await job_is(site, "running", "victim")
    made = await site.create(resources=Resources(gpus=1, memory_mib=1))
    assert [item.state for item in made.workloads] == ["assigned"]
    await intended(site, node, 0)
    assert (await site.intent(node)).workloads == []
    await node.stopped(victim.workloads[0].id)

    async def told() -> list[str]:
        return [item.workload_id for item in (await site.intent(node)).workloads]

    assert await eventually(told) == [made.workloads[0].id]


async def test_who_shares_a_gpu_with_one_that_gives_way_goes_on(site: Site) -> None:
    (node,) = await servers(site, 1, gpus=1)
    half = Resources(gpu_milli=500)
    neighbour = await submit(site, "neighbour", members=1, resources=half, preemptible=False)
    victim = await submit(site, "victim", members=1, resources=half)
    await intended(site, node, 2)
    for job in (neighbour, victim):
        await begin([node], job)
        await job_is(site, "running", job.name)
    dear = await submit(site, "dear", members=1, resources=half, priority=300)
    assert dear.state == "admitted"
    await intended(site, node, 1)
    (spec,) = (await site.intent(node)).members
    assert spec.workload_id == neighbour.workloads[0].id
    await node.stopped(victim.workloads[0].id)
    specs = await intended(site, node, 2)
    there = {neighbour.workloads[0].id, dear.workloads[0].id}
    assert {one.workload_id for one in specs} == there
    assert (await job_of(site, "neighbour")).state == "running"


async def test_a_replica_begins_only_once_the_watts_it_got_are_drawn_by_nobody_else(site: Site) -> None:
    nodes = {node.id: node for node in await servers(site, 2)}
    assert (await cap(site, 2 * 100 + 4 * 50)).room_w == 4 * 50
    memory = Resources(gpus=1, memory_mib=1_500)
    stays = await submit(site, "stays", members=1, resources=memory, preemptible=False)
    victim = await submit(site, "victim", members=1, resources=Resources(gpus=3))
    there = nodes[victim.workloads[0].node_id]
    assert stays.workloads[0].node_id == there.id
    await intended(site, there, 2)
    await begin([there], victim)
    await job_is(site, "running", "victim")
    (other,) = [node for node in nodes.values() if node is not there]
    # There is no memory for it where the victim is; where there is, there are no watts.
    made = await site.create(resources=Resources(gpus=2, memory_mib=1_000))
    (replica,) = made.workloads
    assert replica.node_id == other.id
    assert [reason.code for reason in replica.reasons] == ["watts_still_drawn"]
    await intended(site, there, 1)
    assert (await site.intent(other)).workloads == []
    await there.stopped(victim.workloads[0].id)

    async def told() -> list[str]:
        return [item.workload_id for item in (await site.intent(other)).workloads]

    assert await eventually(told) == [replica.id]
    (begun,) = (await site.ask(GetEndpoint, endpoint=made.id)).workloads
    assert [reason.code for reason in begun.reasons] == ["waiting_for_agent"]


async def test_a_lowered_cap_has_a_replica_stop_and_a_raised_one_has_it_begin_anew(site: Site) -> None:
    (node,) = await servers(site, 1)
    made = await site.create(resources=Resources(gpus=2, memory_mib=1))
    (replica,) = made.workloads
    await node.ready(replica.id)

    async def routed() -> list[str]:
        route = await site.route(made.id)
        return [] if route is None else [one.workload_id for one in route.replicas]

    assert await eventually(routed) == [replica.id]
    lowered = await cap(site, 150)
    assert [one.code for one in lowered.reasons] == ["above_cap"], "it draws until it has stopped"
    found = await site.ask(GetEndpoint, endpoint=made.id)
    assert [(one.state, one.reasons[0].code) for one in found.workloads] == [("stopping", "power_shed")]
    assert "power_capped" in [one.code for one in found.reasons]

    async def nothing() -> bool:
        return await routed() == []

    assert await eventually(nothing)
    await node.stopped(replica.id)

    async def within() -> bool:
        (shown,) = (await site.ask(ListCaps)).items
        return not shown.reasons

    assert await eventually(within)
    await cap(site, 500)

    async def again() -> list[str]:
        return (await site.running(node))[node.name]

    (successor,) = await eventually(again)
    assert successor != replica.id


async def test_a_job_that_gave_way_begins_elsewhere_only_once_it_has_ended_where_it_was(
    site: Site,
) -> None:
    one, two = await servers(site, 2)
    nodes = {node.id: node for node in (one, two)}
    victim = await submit(site, "victim", members=1)
    other = await submit(site, "other", members=1, priority=300)
    for job in (victim, other):
        await begin([one, two], job)
        await job_is(site, "running", job.name)
    dear = await submit(site, "dear", members=1, priority=300)
    assert dear.state == "admitted"
    there, elsewhere = (nodes[job.workloads[0].node_id] for job in (victim, other))
    await elsewhere.stopped(other.workloads[0].id, exit_code=0)
    again = await job_is(site, "admitted", "victim")
    (late,) = [item for item in again.workloads if item.node_id == elsewhere.id]
    assert [reason.code for reason in late.reasons] == ["last_attempt_ending"]
    await intended(site, elsewhere, 0)
    await there.stopped(victim.workloads[0].id)
    (spec,) = await intended(site, elsewhere)
    assert (spec.workload_id, spec.attempt) == (late.id, 2)
    (begun,) = [item for item in (await job_of(site, "victim")).workloads if item.id == late.id]
    assert [reason.code for reason in begun.reasons] == ["waiting_for_agent"]
