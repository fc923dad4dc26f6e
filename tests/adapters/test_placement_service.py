"""Placement as a service, against a real nats-server and a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.ask import Page, Problem
from mesh_contracts.placement import (
    ChangeEndpoint,
    CheckNode,
    CordonNode,
    DeleteEndpoint,
    Endpoint,
    EndpointChanged,
    Engine,
    ExplainPlacement,
    GetEndpoint,
    GetNode,
    ListEndpoints,
    ListNodes,
    NodeCordoned,
    NodeReturned,
    Replicas,
    Resources,
    ReturnNode,
    WorkloadAssigned,
    WorkloadMoved,
    WorkloadRefused,
)
from meshkit.testing import test_id

from tests.adapters.fleet import ADMIN, OTHER, STRANGER, TENANT, Node, Site, eventually
from tests.adapters.roads import tell
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer


@pytest.fixture
async def site(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[Site]:
    site = await Site.open(tmp_path, nats_server.url, postgres.dsn("placement"))
    try:
        yield site
    finally:
        await site.close()


async def state_of(site: Site, name: str = "story") -> Endpoint:
    found = await site.ask(GetEndpoint, TENANT, endpoint=name)
    assert isinstance(found, Endpoint), found
    return found


async def node_is(site: Site, node: Node, state: str) -> Any:
    async def look() -> Any:
        found = await site.ask(GetNode, node=node.name)
        return found if getattr(found, "state", None) == state else None

    return await eventually(look)


async def serving(site: Site, node: Node, **fields: Any) -> tuple[Endpoint, str]:
    """Return an endpoint that serves from one replica on ``node``, and that replica's id."""
    made = await site.create(**fields)
    assert isinstance(made, Endpoint), made
    [workload] = [item.id for item in made.workloads]
    await node.ready(workload)

    async def look() -> bool:
        route = await site.route(made.id)
        return bool(route and route.replicas)

    await eventually(look)
    return await state_of(site), workload


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
    assert [(reason.code, bool(reason.unblock)) for reason in made.reasons] == [("no_ready_node", True)]

    await node.check()
    await node_is(site, node, "ready")

    async def placed() -> Any:
        return (await state_of(site)).workloads

    assert await eventually(placed)
    assert len(await site.told(WorkloadRefused)) == 1
    assert [fact.node_id for fact in await site.told(NodeReturned)] == [node.id]


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
    [cordoned] = await site.told(NodeCordoned)
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


async def test_the_same_wish_twice_makes_one_endpoint(site: Site) -> None:
    first = await site.create(key="once")
    assert (await site.create(key="once")).id == first.id
    other = await site.create(key="once", name="another")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    taken = await site.create()
    assert (taken.status, taken.code) == (409, "name_taken")


async def test_a_stranger_cannot_tell_that_an_endpoint_exists(site: Site) -> None:
    made = await site.create()
    for name in (made.id, made.name):
        for kind, fields in (
            (GetEndpoint, {}),
            (DeleteEndpoint, {}),
            (ChangeEndpoint, {"replicas": Replicas(), "generation": 1}),
        ):
            answer = await site.ask(kind, STRANGER, endpoint=name, **fields)
            assert isinstance(answer, Problem)
            assert (answer.status, answer.code) == (404, "endpoint_not_found")
    assert (await site.ask(ListEndpoints, STRANGER)).items == []
    assert [item.id for item in (await site.ask(ListEndpoints, ADMIN)).items] == [made.id]
    intruder = await site.create(STRANGER, name="mine")
    assert (intruder.status, intruder.code) == (404, "project_not_found")


async def test_a_project_is_found_by_id_by_name_and_by_its_organization(site: Site) -> None:
    named = await site.create(ADMIN, name="a", project="acme/demo")
    assert named.project == "demo"
    assert (await site.create(ADMIN, name="b", project=named.project_id)).project_id == named.project_id
    assert (await site.create(ADMIN, name="c", project="other")).project_id == OTHER


async def test_a_project_that_placement_hears_of_a_moment_later_is_waited_for(site: Site) -> None:
    project = test_id("project", "acme/late")

    async def soon() -> Any:
        return await site.create(ADMIN, project="acme/late")

    asking = asyncio.create_task(soon())
    await asyncio.sleep(0.3)
    await tell(site.bus, site.admitted(project, "late"))
    assert (await asking).project_id == project


async def test_bounds_change_only_at_the_generation_that_was_read(site: Site) -> None:
    node = await site.node("n1")
    await node_is(site, node, "ready")
    made = await site.create(replicas=Replicas(min=1, max=3))
    changed = await site.ask(
        ChangeEndpoint,
        TENANT,
        endpoint="story",
        replicas=Replicas(min=2, max=3),
        generation=made.generation,
    )
    assert (changed.generation, len(changed.workloads)) == (made.generation + 1, 2)
    stale = await site.ask(
        ChangeEndpoint, TENANT, endpoint="story", replicas=Replicas(), generation=made.generation
    )
    assert (stale.status, stale.code) == (412, "generation_mismatch")
    fewer = await site.ask(
        ChangeEndpoint,
        TENANT,
        endpoint="story",
        replicas=Replicas(min=0, max=1),
        generation=changed.generation,
    )
    assert fewer.state == "asleep"


async def test_a_deleted_endpoint_stops_then_frees_its_name_and_its_route(site: Site) -> None:
    node = await site.node("n1")
    await node_is(site, node, "ready")
    endpoint, workload = await serving(site, node)
    deleted = await site.ask(DeleteEndpoint, TENANT, endpoint="story")
    assert deleted.state == "stopping"

    async def emptied() -> bool:
        route = await site.route(endpoint.id)
        return route is not None and not route.replicas and not (await site.intent(node)).workloads

    await eventually(emptied)
    await node.stopped(workload)

    async def gone() -> bool:
        return await site.route(endpoint.id) is None

    await eventually(gone)
    assert (await site.ask(GetEndpoint, TENANT, endpoint=endpoint.id)).state == "stopped"
    assert (await site.ask(GetEndpoint, TENANT, endpoint="story")).code == "endpoint_not_found"
    assert (await site.create()).state == "starting"


async def test_an_operator_cordons_a_node_and_returns_it_through_a_check(site: Site) -> None:
    node = await site.node("n1")
    await node_is(site, node, "ready")
    cordoned = await site.ask(CordonNode, node="n1", reason="fan is loud")
    assert (cordoned.state, cordoned.reasons[0].detail) == ("cordoned", "fan is loud")
    assert (await site.create()).state == "pending"
    returned = await site.ask(ReturnNode, node="n1")
    assert returned.state == "validating"

    async def wished() -> Any:
        return (await site.intent(node)).check

    wish = await eventually(wished)
    await node.check(number=wish)
    await node_is(site, node, "ready")

    async def placed() -> Any:
        return (await site.running(node))["n1"]

    assert await eventually(placed)
    again = await site.ask(ReturnNode, node="n1")
    assert (again.status, again.code) == (409, "node_state")


async def test_a_check_is_wished_for_without_taking_the_node_out(site: Site) -> None:
    node = await site.node("n1")
    await node_is(site, node, "ready")
    before = (await site.intent(node)).check
    assert (await site.ask(CheckNode, node="n1")).state == "ready"

    async def risen() -> bool:
        return (await site.intent(node)).check == before + 1

    await eventually(risen)
    assert (await site.ask(CheckNode, node="nowhere")).code == "node_not_found"


async def test_a_tenant_may_not_touch_nodes(site: Site) -> None:
    await site.node("n1")
    for kind, fields in ((ListNodes, {}), (CordonNode, {"node": "n1", "reason": "spite"})):
        answer = await site.ask(kind, TENANT, **fields)
        assert (answer.status, isinstance(answer, Problem)) == (403, True)


async def test_an_external_engine_is_routed_at_once(site: Site) -> None:
    engine = Engine(kind="external", url="http://127.0.0.1:9001/v1")
    made = await site.create(engine=engine)
    assert (made.state, made.ready) == ("serving", 1)

    async def routed() -> Any:
        return await site.route(made.id)

    [replica] = (await eventually(routed)).replicas
    assert (replica.address, replica.trust, replica.node_id) == ("127.0.0.1:9001", "external", None)


async def test_a_placement_is_explained_without_being_made(site: Site) -> None:
    node = await site.node("n1", gpus=2)
    await node_is(site, node, "ready")
    answer = await site.ask(ExplainPlacement, TENANT, resources=Resources(gpus=2))
    assert (answer.fits, answer.node) == (True, "n1")
    answer = await site.ask(ExplainPlacement, TENANT, resources=Resources(gpus=3))
    assert (answer.fits, answer.reasons[0].code) == (False, "not_enough_gpus")
    assert [reason.count for reason in answer.survivors] == [1, 1, 1, 0]
    assert (await site.ask(GetNode, node="n1")).gpu_milli_free == 2_000


async def test_lists_are_read_page_by_page(site: Site) -> None:
    for name in ("a", "b", "c"):
        await site.create(name=name)
    page = await site.ask(ListEndpoints, TENANT, page=Page(limit=2))
    rest = await site.ask(ListEndpoints, TENANT, page=Page(limit=2, cursor=page.next))
    assert [[item.name for item in each.items] for each in (page, rest)] == [["a", "b"], ["c"]]
    assert rest.next is None


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
