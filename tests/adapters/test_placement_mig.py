"""MIG instances, from the door to the intent, against a real Postgres and a real nats-server."""

from typing import Any

import asyncpg
import pytest
from mesh_contracts.placement import (
    Command,
    DeleteEndpoint,
    ExplainPlacement,
    GetNode,
    ListQuotas,
    Near,
    PlanMoves,
    Resources,
    SetQuota,
    SubmitJob,
)
from mesh_contracts.placement.nouns import MigInstance
from placement import memory, sums
from placement.sums import Take

from tests.adapters.fleet import TENANT, Node, Site, eventually, node_is, state_of

pytestmark = pytest.mark.slow

SITE = "fr-idf-1"
LARGE = Resources(mig="3g.71gb", memory_mib=64)


async def cut_node(site: Site, **fields: Any) -> Node:
    """Return a node that takes work, of two GPUs of which the second is in MIG mode."""
    node = await site.node("n1", gpus=2, mig=(1,), **fields)
    await node_is(site, node, "ready")
    return node


async def instances(site: Site, node: Node) -> dict[str, tuple[list[str], MigInstance | None]]:
    """Return which device and instance each endpoint is to run on there."""
    return {one.name: (one.devices, one.mig) for one in (await site.intent(node)).workloads}


async def test_two_instances_share_a_gpu_the_third_is_told_why_not_and_comes_when_one_ends(
    site: Site,
) -> None:
    node = await cut_node(site)
    before = await site.ask(GetNode, node="n1")
    assert [device.mig for device in before.devices] == [False, True]
    assert (before.mig_free["3g.71gb"], before.mig_free["1g.18gb"]) == (2, 7)
    assert before.gpu_milli_free == 1_000

    made = [await site.create(name=name, resources=LARGE) for name in ("one", "two")]
    assert [one.state for one in made] == ["starting", "starting"]
    device = "rehearsal-n1-1"
    placed = await eventually(lambda: _both(site, node))
    assert placed == {
        "one": ([device], MigInstance(profile="3g.71gb", start=4)),
        "two": ([device], MigInstance(profile="3g.71gb", start=0)),
    }
    assert "3g.71gb" not in {k for k, v in (await site.ask(GetNode, node="n1")).mig_free.items() if v}

    third = await site.create(name="three", resources=LARGE)
    assert third.state == "pending"
    assert third.reasons[0].code == "no_mig_instance"
    told = [reason.detail for reason in third.reasons]
    assert "0 of 1 GPU in MIG mode have a free 3g.71gb" in told
    assert "it would fit with one of n1's idle GPUs in MIG mode" in told

    for workload in made[0].workloads:
        await site.ask(DeleteEndpoint, TENANT, endpoint="one")
        await node.stopped(workload.id)

    async def comes() -> Any:
        return (await instances(site, node)).get("three")

    assert await eventually(comes) == ([device], MigInstance(profile="3g.71gb", start=4))
    assert (await state_of(site, "three")).state == "starting"


async def _both(site: Site, node: Node) -> Any:
    found = await instances(site, node)
    return found if len(found) == 2 else None


async def test_a_gpu_in_mig_mode_is_given_in_instances_only_and_others_never(site: Site) -> None:
    node = await cut_node(site)
    whole = await site.create(name="whole", resources=Resources(gpus=1, memory_mib=64))
    share = await site.create(name="share", resources=Resources(gpu_milli=100, memory_mib=64))
    small = await site.create(name="small", resources=Resources(mig="1g.18gb", memory_mib=64))
    assert [one.state for one in (whole, share, small)] == ["starting", "pending", "starting"]

    async def there() -> Any:
        found = await instances(site, node)
        return found if len(found) == 2 else None

    assert await eventually(there) == {
        "whole": (["rehearsal-n1-0"], None),
        "small": (["rehearsal-n1-1"], MigInstance(profile="1g.18gb", start=6)),
    }


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        (Resources(mig="3g.71gb", gpus=1), "for one of them"),
        (Resources(mig="3g.71gb", gpu_milli=10), "for one of them"),
        (Resources(mig="8g.1gb"), "no GPU is known that has a MIG profile '8g.1gb'"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused_with_one_clear_error(
    site: Site, resources: Resources, said: str
) -> None:
    for kind in (ExplainPlacement, PlanMoves):
        answer = await site.ask(kind, resources=resources)
        assert (answer.status, answer.param) == (422, "resources.mig")
        assert said in answer.detail


async def test_a_job_s_members_have_an_instance_each_and_quota_counts_compute_slices(
    site: Site,
) -> None:
    node = await cut_node(site)
    job = {
        "name": "train",
        "project": "demo",
        "command": Command(image="x"),
        "members": 2,
        "resources": Resources(mig="2g.35gb", memory_mib=64),
    }
    made = await site.ask(SubmitJob, TENANT, **job)
    assert made.state == "admitted", made.reasons

    async def there() -> Any:
        return (await site.intent(node)).members

    members = await eventually(there)
    assert sorted(one.mig.start for one in members) == [0, 4]
    await site.ask(SetQuota, scope_kind="project", scope="acme/demo", gpus=0, weight=100)
    [quota] = [one for one in (await site.ask(ListQuotas)).items if one.scope_kind == "project"]
    assert quota.used_gpu_milli == 2 * 286
    near = await site.ask(SubmitJob, TENANT, **job | {"name": "near", "near": Near(level="rack")})
    assert (near.status, near.param) == (422, "near")


async def test_a_mode_that_changed_takes_the_device_from_whoever_had_it_in_the_other(
    site: Site,
) -> None:
    node = await cut_node(site)
    made = await site.create(name="one", resources=LARGE)
    assert made.state == "starting"
    node.mig = ()
    await node.start()
    await node.check()

    async def gone() -> Any:
        found = await state_of(site, "one")
        return found.state == "pending" and found.reasons[0].code == "no_mig_instance"

    await node_is(site, node, "ready")
    assert await eventually(gone)
    shown = await site.ask(GetNode, node="n1")
    assert (shown.gpu_milli_free, shown.mig_free) == (2_000, {})


async def test_tables_let_no_slice_be_given_twice_whatever_decides(site: Site) -> None:
    node = await cut_node(site)
    store = site.service.store
    low = Take(node.id, 1, (1,), 0, 0, 0b0000_1111)
    async with store.transaction() as tx:
        generation = await tx.value("SELECT generation FROM node WHERE node_id = $1", node.id)
        await sums.take(tx, [low], {node.id: generation})
    for again in (low._replace(slices=0b1100), low._replace(slices=0, milli_each=500)):
        with pytest.raises(asyncpg.CheckViolationError):
            async with store.transaction() as tx:
                await sums.take(tx, [again], {node.id: generation + 1})
    high = low._replace(slices=0b1111_0000)
    with pytest.raises(asyncpg.CheckViolationError):
        async with store.transaction() as tx:
            await sums.take(tx, [high, high], {node.id: generation + 1})


async def test_a_database_without_a_log_is_taken_as_it_stands_with_its_instances(
    site: Site,
) -> None:
    await cut_node(site)
    for name in ("one", "two"):
        await site.create(name=name, resources=Resources(mig="2g.35gb", memory_mib=64))
    store = site.service.store
    async with store.transaction() as tx:
        engine = (await memory.hold(tx, SITE)).engine
        before = {name: engine.seats(held.parts) for name, held in engine.holdings.items()}
        await tx.change("DELETE FROM decision")
    store.beside.clear()
    async with store.transaction() as tx:
        engine = (await memory.hold(tx, SITE)).engine
        after = {name: engine.seats(held.parts) for name, held in engine.holdings.items()}
    assert after == before
    assert sorted(seat.slices for [seat] in after.values()) == [0b11, 0b11_0000]
