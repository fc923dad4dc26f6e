"""Jobs and leases as a tenant asks for them, and servers that are in racks, with cards and watts."""

from collections.abc import Sequence
from typing import Any, TypeVar

from mesh_contracts.ask import Principal
from mesh_contracts.fact import Fact
from mesh_contracts.node import ErasureRecorded
from mesh_contracts.placement import (
    CancelJob,
    Command,
    GetJob,
    GetLease,
    Job,
    Lease,
    MemberSpec,
    ReleaseLease,
    RequestLease,
    Resources,
    SubmitJob,
)

from tests.adapters.fleet import TENANT, Node, Site, eventually, node_is
from tests.adapters.roads import tell

RUN = Command(image="trainer:1", argv=["train", "--epochs", "3"])
H = TypeVar("H", Job, Lease)


async def servers(site: Site, count: int, *, gpus: int = 4, **joins: Any) -> list[Node]:
    """Return so many ready servers, all in rack ``r1`` on PDU ``p1`` unless it is said otherwise."""
    place = {"rack": "r1", "pdu": "p1"}
    joins = {"place": place, "idle_w": 100, "gpu_w": 50, **joins}
    nodes = [await site.node(f"n{number}", gpus=gpus, **joins) for number in range(1, count + 1)]
    for node in nodes:
        await node_is(site, node, "ready")
    return nodes


async def submit(
    site: Site, name: str = "train", who: Principal = TENANT, *, key: str | None = None, **wished: Any
) -> Any:
    """Return the job that is made, or the problem; by default two members of four GPUs each."""
    shape = {"members": 2, "resources": Resources(gpus=4), "command": RUN, "project": "demo"}
    return await site.ask(SubmitJob, who, key=key, name=name, **{**shape, **wished})


async def lease(site: Site, name: str = "metal", who: Principal = TENANT, **wished: Any) -> Any:
    """Return the lease that is made, or the problem; by default of one server."""
    return await site.ask(RequestLease, who, name=name, **{"nodes": 1, "project": "demo", **wished})


async def job_of(site: Site, name: str = "train") -> Job:
    found = await site.ask(GetJob, TENANT, job=name)
    assert isinstance(found, Job), found
    return found


async def job_is(site: Site, state: str, name: str = "train") -> Job:
    async def look() -> Job | None:
        found = await job_of(site, name)
        return found if found.state == state else None

    found: Job = await eventually(look)
    return found


async def lease_of(site: Site, name: str = "metal") -> Lease:
    found = await site.ask(GetLease, TENANT, lease=name)
    assert isinstance(found, Lease), found
    return found


async def lease_is(site: Site, state: str, name: str = "metal") -> Lease:
    async def look() -> Lease | None:
        found = await lease_of(site, name)
        return found if found.state == state else None

    found: Lease = await eventually(look)
    return found


async def cancel(site: Site, name: str = "train") -> Any:
    return await site.ask(CancelJob, TENANT, job=name)


async def release(site: Site, name: str = "metal") -> Any:
    return await site.ask(ReleaseLease, TENANT, lease=name)


async def members_of(site: Site, node: Node) -> list[MemberSpec]:
    """Return what a node should have of jobs and leases."""
    return list((await site.intent(node)).members)


async def intended(site: Site, node: Node, count: int = 1) -> list[MemberSpec]:
    """Return the members of a node's intent, once there are so many."""

    async def look() -> Any:
        found = await members_of(site, node)
        return (found,) if len(found) == count else None

    (found,) = await eventually(look)
    return list(found)


async def begin(nodes: Sequence[Node], held: H) -> None:
    """Have every member of a job begin on its node."""
    by_id = {node.id: node for node in nodes}
    for item in held.workloads:
        await by_id[item.node_id].started(item.id)


async def recorded(node: Node, workload_id: str, step: str, verdict: str = "pass") -> None:
    """Have a node tell that what a lease left is gone, or that the server is as it should be."""
    await tell(
        node.bus,
        ErasureRecorded(
            **node._born(),
            node_id=node.id,
            workload_id=workload_id,
            step=step,  # type: ignore[arg-type]
            verdict=verdict,  # type: ignore[arg-type]
            method="overwritten",
            quality="measured",
        ),
    )


async def told(site: Site, kind: type[Fact], count: int = 1) -> list[Any]:
    """Return the facts of one type that placement told, once there are so many."""

    async def look() -> Any:
        found = await site.told(kind)
        return (found,) if len(found) == count else None

    (found,) = await eventually(look)
    return list(found)
