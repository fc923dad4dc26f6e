"""Leases of servers that lose a device, or fall silent for good: the tenant's stay the tenant's, and nothing is free unclean."""

from datetime import timedelta

import pytest
from mesh_contracts.placement import GetNode
from placement.domain.leases import GIVEN_UP_S

from tests.adapters.fleet import Node, Site, eventually, node_is
from tests.adapters.holdings import intended, lease, lease_is, lease_of, recorded, release, servers

pytestmark = pytest.mark.slow


async def leased(site: Site, nodes: list[Node], count: int) -> dict[str, str]:
    """Return the workloads of a lease of so many servers that are the tenant's, by node."""
    made = await lease(site, nodes=count)
    by_id = {node.id: node for node in nodes}
    for item in made.workloads:
        await by_id[item.node_id].started(item.id)
        await by_id[item.node_id].ready(item.id)
    await lease_is(site, "active")
    return {item.node_id: item.id for item in made.workloads}


async def test_a_leased_server_that_lost_a_device_stays_the_tenants(site: Site) -> None:
    (node,) = await servers(site, 1)
    await leased(site, [node], 1)
    node.gpus -= 1
    await node.start()

    async def said() -> bool:
        return [reason.code for reason in (await lease_of(site)).reasons] == ["device_gone"]

    await eventually(said)
    assert (await lease_of(site)).state == "active"
    (spec,) = await intended(site, node)
    assert spec.step == "hold", "its agent gives it back where it is not listed any more"


async def test_its_tenant_sees_where_a_server_is_reached_as_long_as_it_is_the_tenants(
    site: Site,
) -> None:
    (node,) = await servers(site, 1)
    made = await lease(site)
    (item,) = made.workloads
    await node.started(item.id)
    await node.ready(item.id, 22, console="ssh://bmc-1:22")
    (seen,) = (await lease_is(site, "active")).workloads
    assert (seen.address, seen.console) == ("127.0.0.1:22", "ssh://bmc-1:22")
    (left,) = (await release(site)).workloads
    assert (left.address, left.console) == (None, None)
    await node.stopped(item.id)
    (left,) = (await lease_is(site, "erasing")).workloads
    assert (left.state, left.address) == ("stopped", None)
    [why] = [reason for reason in left.reasons if reason.code == "server_erase"]
    assert why.detail.startswith("it is being erased since")


async def test_a_server_that_never_comes_back_holds_up_no_other_and_is_free_for_nobody(
    site: Site,
) -> None:
    nodes = await servers(site, 2)
    workloads = await leased(site, nodes, 2)
    here, gone = nodes
    assert (await release(site)).state == "releasing"
    await here.stopped(workloads[here.id])
    async with site.service.store.transaction() as tx:
        await tx.change(
            "UPDATE node SET state = 'lost', since = $2 WHERE node_id = $1",
            *(gone.id, tx.now - timedelta(seconds=GIVEN_UP_S)),
        )
    await lease_is(site, "erasing")
    for step, then in (("erased", "attesting"), ("attested", "failed")):
        await recorded(here, workloads[here.id], step)
        ended = await lease_is(site, then)
    assert "erasure_failed" in {reason.code for reason in ended.reasons}
    assert (await site.ask(GetNode, node=here.name)).gpu_milli_free == 4_000
    await gone.start()
    await gone.check()
    await node_is(site, gone, "cordoned")
    seen = await site.ask(GetNode, node=gone.name)
    assert [reason.code for reason in seen.reasons] == ["erasure_failed"]
