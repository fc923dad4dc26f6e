"""What placement knows and does of nodes, against a real nats-server and a real Postgres."""

import pytest
from mesh_contracts.placement import CheckNode, CordonNode, GetNode, ReturnNode

from tests.adapters.fleet import Site, eventually, node_is
from tests.adapters.holdings import job_is, servers, submit

pytestmark = pytest.mark.slow


async def test_a_node_shows_where_it_stands_for_what_and_at_how_many_watts(site: Site) -> None:
    place = {"rack": "r1", "pdu": "p1", "nvlink": "d1"}
    node = await site.node("n1", place=place, assurances=["hds"], idle_w=400, gpu_w=700)
    await node_is(site, node, "ready")
    seen = await site.ask(GetNode, node="n1")
    assert (seen.place, seen.assurances) == (place, ["hds"])
    assert (seen.idle_w, seen.gpu_w, seen.cpus) == (400, 700, 2)

    node.joins = {"place": {"rack": "r2"}}
    await node.start()
    await node_is(site, node, "validating")
    seen = await site.ask(GetNode, node="n1")
    assert (seen.place, seen.assurances, seen.gpu_w) == ({"rack": "r2"}, [], 0), "it was moved"


async def test_a_level_that_placement_does_not_know_is_left_alone(site: Site) -> None:
    node = await site.node("n1", place={"rack": "r1", "aisle-of-tomorrow": "a1"})
    seen = await node_is(site, node, "ready")
    assert seen.place["rack"] == "r1"


async def test_what_waits_for_a_cordoned_node_calls_it_as_people_do_and_begins_on_its_return(
    site: Site,
) -> None:
    (node,) = await servers(site, 1)
    await site.ask(CordonNode, node="n1", reason="fan")
    waits = await submit(site, members=1)
    assert [reason.unblock for reason in waits.reasons[1:]] == ["return n1 to service"]
    await site.ask(ReturnNode, node="n1")
    await node.check(number=1)
    await job_is(site, "admitted")


async def test_a_node_is_told_which_of_its_checks_a_person_asked_for(site: Site) -> None:
    (node,) = await servers(site, 1)

    async def wished(check: int, asked: int) -> None:
        async def look() -> bool:
            intent = await site.intent(node)
            return (intent.check, intent.asked) == (check, asked)

        await eventually(look)

    await wished(0, 0)
    await site.ask(CheckNode, node="n1")
    await wished(1, 1)
    await node.check("fail", number=1)
    await node_is(site, node, "cordoned")
    await site.ask(ReturnNode, node="n1")
    await wished(2, 2)
