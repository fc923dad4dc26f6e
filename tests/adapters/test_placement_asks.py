"""What placement answers to people, against a real nats-server and a real Postgres."""

import asyncio
from typing import Any

import pytest
from mesh_contracts.ask import Page, Problem
from mesh_contracts.placement import (
    Alias,
    ChangeEndpoint,
    CheckNode,
    CordonNode,
    DeleteEndpoint,
    Engine,
    ExplainPlacement,
    GetEndpoint,
    GetNode,
    ListEndpoints,
    ListNodes,
    Replicas,
    Resources,
    ReturnNode,
    Routing,
)
from meshkit.testing import test_id

from tests.adapters.fleet import (
    ADMIN,
    OTHER,
    STRANGER,
    TENANT,
    Site,
    eventually,
    node_is,
    serving,
)
from tests.adapters.roads import tell

pytestmark = pytest.mark.slow


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
        replicas=Replicas(min=0, max=1, sleep_after_ms=0),
        generation=changed.generation,
    )
    assert (fewer.state, fewer.wanted) == ("asleep", 0)
    assert fewer.replicas.sleep_after_ms == 0


async def test_what_a_change_does_not_name_stays_and_one_that_names_nothing_is_refused(
    site: Site,
) -> None:
    made = await site.create(replicas=Replicas(min=1, max=3, target=7))
    routing = Routing(by="round_robin", aliases=[Alias(name="chat")])
    led = await site.ask(
        ChangeEndpoint, TENANT, endpoint="story", routing=routing, generation=made.generation
    )
    assert (led.routing, led.replicas) == (routing, made.replicas)

    async def routed() -> bool:
        route = await site.route(made.id)
        return route is not None and route.routing == routing

    await eventually(routed)
    more = await site.ask(
        ChangeEndpoint,
        TENANT,
        endpoint="story",
        replicas=Replicas(min=2, max=3),
        generation=led.generation,
    )
    assert (more.routing, more.replicas.target, more.wanted) == (routing, 4, 2)
    for fields, param in (
        ({}, "replicas"),
        ({"routing": Routing(fallbacks=["story"])}, "routing.fallbacks"),
    ):
        refused = await site.ask(
            ChangeEndpoint, TENANT, endpoint="story", generation=more.generation, **fields
        )
        assert (refused.status, refused.param) == (422, param)


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
    seen = (await site.ask(GetNode, node="n1")).generation
    stale = await site.ask(CordonNode, node="n1", reason="old news", generation=seen - 1)
    assert (stale.status, stale.code) == (412, "generation_mismatch")
    cordoned = await site.ask(CordonNode, node="n1", reason="fan is loud", generation=seen)
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
    assert [reason.count for reason in answer.survivors] == [1, 1, 1, 1, 0]
    assert (await site.ask(GetNode, node="n1")).gpu_milli_free == 2_000


async def test_lists_are_read_page_by_page(site: Site) -> None:
    for name in ("a", "b", "c"):
        await site.create(name=name)
    page = await site.ask(ListEndpoints, TENANT, page=Page(limit=2))
    rest = await site.ask(ListEndpoints, TENANT, page=Page(limit=2, cursor=page.next))
    assert [[item.name for item in each.items] for each in (page, rest)] == [["a", "b"], ["c"]]
    assert rest.next is None
