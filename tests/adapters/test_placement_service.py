"""Placement as a service, against a real nats-server and a real Postgres."""

import asyncio
from typing import Any

import pytest
from mesh_contracts.placement import (
    DeleteEndpoint,
    EndpointChanged,
    GetNode,
    NodeCordoned,
    NodeReturned,
    Resources,
    WorkloadAssigned,
    WorkloadMoved,
    WorkloadRefused,
)

from tests.adapters.fleet import (
    TENANT,
    Node,
    Site,
    eventually,
    node_is,
    serving,
    state_of,
)

pytestmark = pytest.mark.slow


async def test_an_endpoint_is_placed_served_and_routed(site: Site) -> None:
    node = await site.node("n1")
    await node_is(site, node, "ready")
    made = await site.create(resources=Resources(gpus=1))
    assert (made.state, made.ready, [item.state for item in made.workloads]) == (
        "starting",
        0,
        ["assigned"],
    )
    workload = made.workloads[0].id

    async def intended() -> Any:
        return (await site.intent(node)).workloads

    [spec] = await eventually(intended)
    assert (spec.workload_id, spec.devices, spec.model.id) == (workload, ["rehearsal-n1-0"], "tiny")
    assert len(spec.api_key) == 64

    await node.ready(workload, 4_321)

    async def routed() -> Any:
        route = await site.route(made.id)
        return route if route and route.replicas else None

    route = await eventually(routed)
    assert (route.name, route.project, route.model_id, route.state) == (
        "story",
        made.project_id,
        "tiny",
        "serving",
    )
    [replica] = route.replicas
    assert (replica.address, replica.api_key, replica.node_id) == (
        "127.0.0.1:4321",
        spec.api_key,
        node.id,
    )
    seen = await site.ask(GetNode, node="n1")
    assert (seen.gpus, seen.gpu_milli_free, seen.workloads, seen.rehearsal) == (1, 0, 1, True)
    assert [fact.state for fact in await site.told(EndpointChanged)] == ["starting", "serving"]
    assert [fact.workload_id for fact in await site.told(WorkloadAssigned)] == [workload]


async def test_no_key_of_a_replica_stands_in_any_fact_or_answer(site: Site) -> None:
    node = await site.node("n1")
    await node_is(site, node, "ready")
    _, workload = await serving(site, node)
    key = (await site.intent(node)).workloads[0].api_key
    sequence = 1
    while (stored := await site.bus.at("PLACEMENT", sequence)) is not None:
        assert key.encode() not in stored.data
        sequence = stored.sequence + 1
    assert sequence > 2
    assert key not in repr(await state_of(site))
    assert workload in repr(await state_of(site))


async def test_a_node_takes_no_work_before_its_first_check_passed(site: Site) -> None:
    node = Node(site.bus, "n1")
    await node.start()
    await node_is(site, node, "validating")
    made = await site.create()
    assert made.state == "pending"
    assert [(reason.code, bool(reason.unblock)) for reason in made.reasons] == [
        ("no_ready_node", True),
        ("would_fit", True),
    ]

    await node.check()
    await node_is(site, node, "ready")

    async def placed() -> Any:
        return (await state_of(site)).workloads

    async def returned() -> list[str]:
        return [fact.node_id for fact in await site.told(NodeReturned)]

    assert await eventually(placed)
    assert len(await site.told(WorkloadRefused)) == 1
    assert await eventually(returned) == [node.id]


async def test_a_failed_check_names_the_row_and_moves_the_replica_without_a_gap(site: Site) -> None:
    one, two = await site.node("n1"), await site.node("n2")
    await node_is(site, one, "ready")
    await node_is(site, two, "ready")
    endpoint, old = await serving(site, one)
    bad, good = (one, two) if old in (await site.running(one, two))["n1"] else (two, one)

    await bad.check("fail")
    node = await node_is(site, bad, "cordoned")
    assert node.reasons[0].code == "health_fail"
    assert "row 17" in node.reasons[0].detail
    [cordoned] = await eventually(lambda: site.told(NodeCordoned))
    assert cordoned.reasons == node.reasons

    async def successor() -> Any:
        return (await site.running(good))[good.name]

    [new] = await eventually(successor)
    route = await site.route(endpoint.id)
    assert route is not None
    assert [replica.workload_id for replica in route.replicas] == [old]

    await good.ready(new, 5_000)

    async def moved() -> bool:
        route = await site.route(endpoint.id)
        return route is not None and [item.workload_id for item in route.replicas] == [new]

    await eventually(moved)
    assert (await site.running(bad))[bad.name] == []
    [fact] = await site.told(WorkloadMoved)
    assert (fact.workload_id, fact.successor_id, fact.to_node_id) == (old, new, good.id)
    assert fact.reasons[0].code == "health_fail"
    await bad.stopped(old)

    async def settled() -> bool:
        found = await state_of(site)
        return (
            found.state == "serving"
            and not found.reasons
            and (await site.ask(GetNode, node=bad.name)).workloads == 0
        )

    await eventually(settled)


async def test_a_failed_replica_has_a_successor_and_the_node_its_room_back(site: Site) -> None:
    node = await site.node("n1")
    await node_is(site, node, "ready")
    endpoint, old = await serving(site, node, resources=Resources(gpus=1))
    await node.failed(old)

    async def again() -> Any:
        return [item for item in (await site.running(node))["n1"] if item != old]

    [new] = await eventually(again)
    found = await state_of(site)
    assert found.state == "degraded"
    [dead] = [item for item in found.workloads if item.id == old]
    assert (dead.state, dead.reasons[0].code) == ("failed", "engine_failed")
    assert "-9" in dead.reasons[0].detail
    await node.ready(new)

    async def whole() -> bool:
        return (await state_of(site)).state == "serving"

    await eventually(whole)
    assert (await site.ask(GetNode, node="n1")).gpu_milli_free == 0
    assert (await site.route(endpoint.id)).replicas[0].workload_id == new


async def test_an_engine_that_is_started_again_is_sent_nobody_until_it_answers_anew(site: Site) -> None:
    one, two = await site.node("n1"), await site.node("n2")
    await node_is(site, one, "ready")
    await node_is(site, two, "ready")
    endpoint, old = await serving(site, one)
    last, node = (one, two) if old in (await site.running(one))["n1"] else (two, one)
    await last.failed(old)

    async def successor() -> Any:
        return (await site.running(node))[node.name]

    [workload] = await eventually(successor)

    async def answers_at(*ports: int) -> bool:
        route = await site.route(endpoint.id)
        addresses = [f"127.0.0.1:{port}" for port in ports]
        return route is not None and [item.address for item in route.replicas] == addresses

    await node.ready(workload, 5_000)
    await eventually(lambda: answers_at(5_000))
    await node.started(workload)
    await eventually(answers_at)
    found = await state_of(site)
    assert [item.state for item in found.workloads] == ["failed", "starting"]
    assert (found.state, [item.code for item in found.reasons]) == ("degraded", ["replica_starting"])
    await node.ready(workload, 5_001)
    await eventually(lambda: answers_at(5_001))
    assert len(await site.told(WorkloadMoved)) == 1


async def test_an_engine_that_keeps_failing_is_degraded_and_says_why(site: Site) -> None:
    node = await site.node("n1")
    await node_is(site, node, "ready")
    await site.create()
    dead: set[str] = set()
    for _ in range(3):

        async def fresh() -> Any:
            return [item for item in (await site.running(node))["n1"] if item not in dead]

        [workload] = await eventually(fresh)
        dead.add(workload)
        await node.failed(workload)

    async def degraded() -> Any:
        found = await state_of(site)
        return found if {reason.code for reason in found.reasons} == {"crash_loop"} else None

    assert (await eventually(degraded)).state == "degraded"


async def test_two_wishes_that_race_for_the_last_gpu_are_granted_one(site: Site) -> None:
    node = await site.node("n1")
    await node_is(site, node, "ready")
    made = await asyncio.gather(
        *(site.create(name=f"m{number}", resources=Resources(gpus=1)) for number in range(4))
    )
    assert sorted(endpoint.state for endpoint in made) == ["pending", "pending", "pending", "starting"]
    refused = [reason.code for endpoint in made for reason in endpoint.reasons]
    assert refused.count("not_enough_gpus") == 3
    assert (await site.ask(GetNode, node="n1")).gpu_milli_free == 0

    winner = next(endpoint for endpoint in made if endpoint.state == "starting")
    await site.ask(DeleteEndpoint, TENANT, endpoint=winner.id)
    await node.stopped(winner.workloads[0].id)

    async def next_one() -> bool:
        return len([item for item in made if (await state_of(site, item.id)).state == "starting"]) == 1

    await eventually(next_one)


async def test_a_node_that_speaks_of_anothers_workload_changes_nothing(site: Site) -> None:
    one, two = await site.node("n1"), await site.node("n2")
    await node_is(site, one, "ready")
    await node_is(site, two, "ready")
    endpoint, workload = await serving(site, one)
    owner = one if workload in (await site.running(one))["n1"] else two
    liar = two if owner is one else one
    await liar.failed(workload)
    await liar.ready(workload, 6_666)
    # What the liar tells next is handled after its lies.
    await liar.check("warn")

    async def heard() -> bool:
        return bool((await site.ask(GetNode, node=liar.name)).checks[0].verdict == "warn")

    await eventually(heard)
    assert (await site.route(endpoint.id)).replicas[0].address == "127.0.0.1:4000"
