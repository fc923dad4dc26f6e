"""Leases from their request to clean servers, against a real nats-server and a real Postgres."""

from datetime import timedelta

import pytest
from mesh_contracts.placement import (
    CordonNode,
    GetNode,
    LeaseActivated,
    LeaseEnded,
    LeaseFailed,
    LeaseGranted,
    LeaseRefused,
    LeaseReleased,
    Resources,
)
from meshkit.clock import SystemClock

from tests.adapters.fleet import Node, Site, eventually, node_is
from tests.adapters.holdings import (
    intended,
    job_is,
    lease,
    lease_is,
    lease_of,
    recorded,
    release,
    servers,
    submit,
    told,
)

pytestmark = pytest.mark.slow


async def active(site: Site, nodes: list[Node], **wished: object) -> tuple[Node, str]:
    """Return the server of a lease of one that is the tenant's, and the workload's id."""
    made = await lease(site, **wished)
    (item,) = made.workloads
    node = next(node for node in nodes if node.id == item.node_id)
    await node.started(item.id)
    await lease_is(site, "provisioning")
    await node.ready(item.id)
    await lease_is(site, "active")
    return node, item.id


async def stepped(site: Site, node: Node, step: str) -> None:
    """Wait until its node is told to take that step of its lease: it is told soon after the lease stands there."""

    async def look() -> bool:
        return [one.step for one in await intended(site, node)] == [step]

    await eventually(look)


async def test_a_server_is_handed_over_taken_back_erased_attested_and_free_again(site: Site) -> None:
    nodes = await servers(site, 1)
    node, workload = await active(site, nodes)
    (spec,) = await intended(site, node)
    assert (spec.kind, spec.step, len(spec.devices)) == ("lease", "hold", 4)
    seen = await site.ask(GetNode, node="n1")
    assert (seen.gpu_milli_free, seen.memory_mib_free, seen.workloads) == (0, 0, 1)

    assert (await release(site)).state == "releasing"
    await intended(site, node, 0)
    await node.stopped(workload)
    await lease_is(site, "erasing")
    (spec,) = await intended(site, node)
    assert (spec.workload_id, spec.step) == (workload, "erase")
    assert (await site.ask(GetNode, node="n1")).gpu_milli_free == 0, "it may hold data yet"
    await recorded(node, workload, "attested")
    await recorded(node, workload, "erased")
    await lease_is(site, "attesting")
    await stepped(site, node, "attest")
    await recorded(node, workload, "attested")
    ended = await lease_is(site, "ended")
    assert (ended.reasons[0].code, ended.ended_at is not None) == ("released", True)
    await intended(site, node, 0)
    seen = await site.ask(GetNode, node="n1")
    assert (seen.gpu_milli_free, seen.memory_mib_free, seen.state) == (4_000, 2_048, "ready")
    for kind in (LeaseActivated, LeaseReleased, LeaseEnded):
        await told(site, kind)
    (granted,) = await told(site, LeaseGranted)
    assert (granted.node_ids, granted.gpus, granted.project) == ([node.id], 4, ended.project_id)


async def test_nothing_else_comes_to_a_leased_server_also_not_of_its_own_project(site: Site) -> None:
    await servers(site, 2)
    assert (await lease(site)).state == "reserved"
    taken = {item.node_id for item in (await lease_of(site)).workloads}
    for name in ("a", "b", "c"):
        made = await site.create(name=name, resources=Resources(memory_mib=1))
        assert {item.node_id for item in made.workloads}.isdisjoint(taken)
    job = await submit(site, members=2, resources=Resources(memory_mib=1))
    assert {item.node_id for item in job.workloads}.isdisjoint(taken)


async def test_a_server_where_anything_runs_is_not_leased(site: Site) -> None:
    await servers(site, 1)
    await submit(site, members=1, resources=Resources(memory_mib=1))
    refused = await lease(site)
    assert (refused.state, refused.reasons[0].code) == ("refused", "nowhere_alone")
    assert (refused.ended_at is not None, bool(refused.reasons[0].unblock)) == (True, True)
    (fact,) = await told(site, LeaseRefused)
    assert fact.reasons == refused.reasons
    assert (await lease(site)).state == "refused", "its name is free"


async def test_a_lease_waits_as_long_as_it_says_and_begins_where_there_is_room(site: Site) -> None:
    (node,) = await servers(site, 1)
    job = await submit(site, members=1)
    waiting = await lease(site, wait_s=600)
    assert (waiting.state, waiting.position) == ("requested", 1)
    assert waiting.reasons[0].code in {"not_enough_gpus", "nowhere_alone"}
    short = await lease(site, "short", wait_s=1)
    assert short.position == 2
    await lease_is(site, "refused", "short")
    await node.started(job.workloads[0].id)
    await job_is(site, "running")
    await node.stopped(job.workloads[0].id, exit_code=0)
    await lease_is(site, "reserved")


async def test_whole_domains_are_leased_with_all_their_servers(site: Site) -> None:
    nodes = []
    for domain in ("d1", "d2"):
        for number in (1, 2):
            node = await site.node(f"{domain}-{number}", gpus=4, place={"nvlink": domain})
            await node_is(site, node, "ready")
            nodes.append(node)
    made = await lease(site, nodes=0, domains=1)
    assert (made.state, len(made.workloads)) == ("reserved", 2)
    too_many = await lease(site, "more", nodes=0, domains=2)
    assert too_many.state == "refused"
    # A server of the other domain is free, and nobody's neighbour is on the first.
    job = await submit(site, members=1)
    mine = {item.node_id for item in made.workloads}
    assert {item.node_id for item in job.workloads}.isdisjoint(mine)


async def test_the_kind_of_server_is_what_is_asked_for_else_what_most_are(site: Site) -> None:
    await servers(site, 2)
    big = await site.node("big", gpus=8)
    await node_is(site, big, "ready")
    assert big.id not in {item.node_id for item in (await lease(site)).workloads}
    eight = await lease(site, "eight", gpus_per_node=8)
    assert [item.node_id for item in eight.workloads] == [big.id]
    none = await lease(site, "none", gpu_model="imagined")
    assert (none.state, none.reasons[0].code) == ("refused", "no_such_server")


async def test_a_server_that_cannot_be_handed_over_has_the_whole_lease_go_back_and_fail(
    site: Site,
) -> None:
    nodes = await servers(site, 2)
    made = await lease(site, nodes=2)
    by_id = {node.id: node for node in nodes}
    good, bad = made.workloads
    await by_id[good.node_id].started(good.id)
    await by_id[good.node_id].ready(good.id)
    await by_id[bad.node_id].failed(bad.id)
    back = await lease_is(site, "releasing")
    assert back.reasons[0].code == "member_failed"
    await by_id[good.node_id].stopped(good.id)
    await lease_is(site, "erasing")
    await intended(site, by_id[bad.node_id], 0)
    await recorded(by_id[good.node_id], good.id, "erased")
    await recorded(by_id[good.node_id], good.id, "attested")
    failed = await lease_is(site, "failed")
    assert failed.reasons[0].code == "member_failed"
    await told(site, LeaseFailed)


@pytest.mark.parametrize("step", ["erased", "attested"])
async def test_a_server_that_is_not_shown_to_be_clean_goes_to_nobody(site: Site, step: str) -> None:
    nodes = await servers(site, 1)
    node, workload = await active(site, nodes)
    await release(site)
    await node.stopped(workload)
    await lease_is(site, "erasing")
    if step == "attested":
        await recorded(node, workload, "erased")
        await lease_is(site, "attesting")
    await recorded(node, workload, step, verdict="inconclusive")
    failed = await lease_is(site, "failed")
    code = "erasure_failed" if step == "erased" else "attestation_failed"
    assert [reason.code for reason in failed.reasons] == ["released", code]
    cordoned = await node_is(site, node, "cordoned")
    assert cordoned.reasons[0].code == code
    assert (await lease(site, "next")).state == "refused"


async def test_a_lease_that_breaks_while_it_is_the_tenants_stays_the_tenants(site: Site) -> None:
    nodes = await servers(site, 1)
    node, workload = await active(site, nodes)
    await node.failed(workload)

    async def said() -> bool:
        return [reason.code for reason in (await lease_of(site)).reasons] == ["member_failed"]

    await eventually(said)
    await site.ask(CordonNode, node="n1", reason="look at it")
    assert (await lease_of(site)).state == "active"
    await node.ready(workload)

    async def whole() -> bool:
        return not (await lease_of(site)).reasons

    await eventually(whole)


async def test_a_lease_whose_server_is_lost_says_so_and_stays_the_tenants(site: Site) -> None:
    nodes = await servers(site, 1)
    node, _ = await active(site, nodes)
    async with site.service.store.transaction() as tx:
        await tx.change(
            "UPDATE node SET state = 'lost', since = $2 WHERE node_id = $1",
            *(node.id, tx.now - timedelta(seconds=60)),
        )

    async def said() -> bool:
        return [reason.code for reason in (await lease_of(site)).reasons] == ["node_lost"]

    await eventually(said)
    assert (await lease_of(site)).state == "active"
    await node.start()

    async def whole() -> bool:
        return not (await lease_of(site)).reasons

    await eventually(whole)


async def test_a_lease_that_was_never_begun_needs_no_erasing(site: Site) -> None:
    (node,) = await servers(site, 1)
    made = await lease(site)
    await release(site)
    await node.stopped(made.workloads[0].id)
    await lease_is(site, "ended")
    assert (await site.ask(GetNode, node="n1")).gpu_milli_free == 4_000


async def test_a_server_that_was_handed_over_in_the_moment_it_was_released_is_erased(
    site: Site,
) -> None:
    (node,) = await servers(site, 1)
    made = await lease(site)
    await release(site)
    await node.ready(made.workloads[0].id)
    await node.stopped(made.workloads[0].id)
    await lease_is(site, "erasing")


async def test_a_lease_begins_and_ends_at_the_times_it_names(site: Site) -> None:
    await servers(site, 1)
    now = SystemClock().now()
    later = await lease(site, starts_at=now + timedelta(seconds=1), ends_at=now + timedelta(seconds=3))
    assert (later.state, later.reasons[0].code, later.workloads) == ("requested", "starts_later", [])
    await lease_is(site, "reserved")
    over = await lease_is(site, "releasing")
    assert over.reasons[0].code == "lease_over"
