"""The door for questions and wishes about leases, one function each."""

from datetime import datetime, timedelta

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import (
    GetLease,
    Lease,
    Leases,
    ListLeases,
    ReleaseLease,
    RequestLease,
)
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.store import Transaction

from placement import leasestore, members, memory, reading, work
from placement.domain.admit_work import LEASES_PER_PROJECT_MAX, bad_lease
from placement.domain.leases import LeaseWish, WantedLease, released, show_lease
from placement.naming import moved_on, only_project, project_of, sees_all, taken, the_one
from placement.owners import in_line


async def request_lease(
    ask: RequestLease, principal: Principal, tx: Transaction, clock: Clock
) -> Lease | Problem:
    """Write the lease down, reserve its servers where they are free, and answer with what it is by then."""
    project = await project_of(ask.project, principal, tx)
    if isinstance(project, Problem):
        return project
    await memory.hold(tx, ask.site)
    # What time it is counts once it is our turn: whoever was before us has told the engine theirs.
    now = clock.now()
    fault = bad_lease(ask, now, operator=sees_all(principal))
    if fault is not None:
        return fault
    if await leasestore.named(tx, project.project_id, ask.name):
        return taken("a lease", ask.name)
    if await leasestore.count(tx, project.project_id) >= LEASES_PER_PROJECT_MAX:
        return Problem(
            title="Too many leases",
            status=422,
            code="too_many_leases",
            detail=f"a project may have {LEASES_PER_PROJECT_MAX} leases that have not ended: release one first",
        )
    starts_at = max(now, ask.starts_at or now)
    lease = WantedLease(
        lease_id=derived_id("lease", ask.asked_at, ask.ask_id),
        organization=project.organization,
        project=project.project_id,
        project_name=project.name,
        name=ask.name,
        site=ask.site,
        wished=LeaseWish(
            residency=ask.residency,
            nodes=ask.nodes,
            domains=ask.domains,
            gpu_model=ask.gpu_model,
            gpus_per_node=ask.gpus_per_node,
            near=ask.near,
            assurances=tuple(ask.assurances),
            wait_s=ask.wait_s,
        ),
        priority=ask.priority,
        state="requested",
        generation=1,
        created_at=now,
        since=now,
        starts_at=starts_at,
        waits_until=starts_at + timedelta(seconds=ask.wait_s),
        due_at=ask.ends_at,
    )
    await leasestore.keep(tx, lease)
    await work.look_at(tx, ask, now, lease.lease_id)
    return await _shown(tx, lease.lease_id, now)


async def list_leases(ask: ListLeases, principal: Principal, tx: Transaction, clock: Clock) -> Leases:
    """Return the leases the principal sees, by name, without their servers."""
    limit = max(1, min(ask.page.limit, reading.PAGE_MAX))
    found = await leasestore.listed(
        tx, ask.site, only_project(principal), ask.page.cursor or "", limit + 1, ended=ask.ended
    )
    shown, now = found[:limit], clock.now()
    return Leases(
        items=[show_lease(in_line(tx, lease), (), now) for lease in shown],
        next=f"{shown[-1].name} {shown[-1].lease_id}" if len(found) > limit else None,
    )


async def get_lease(
    ask: GetLease, principal: Principal, tx: Transaction, clock: Clock
) -> Lease | Problem:
    """Return one lease with its servers."""
    lease = the_one("lease", ask.lease, await leasestore.find(tx, only_project(principal), ask.lease))
    return lease if isinstance(lease, Problem) else await _shown(tx, lease.lease_id, clock.now())


async def release_lease(
    ask: ReleaseLease, principal: Principal, tx: Transaction, clock: Clock
) -> Lease | Problem:
    """Take a lease's servers back. Again, and of one that has ended, it is answered the same."""
    await memory.hold(tx, ask.site)
    lease = the_one("lease", ask.lease, await leasestore.find(tx, only_project(principal), ask.lease))
    if isinstance(lease, Problem):
        return lease
    now = clock.now()
    if not lease.over:
        fault = moved_on("lease", lease.generation, ask.generation)
        if fault is not None:
            return fault
        await leasestore.wished(tx, lease)
        await work.turn(tx, ask, now, lease, released(lease))
    return await _shown(tx, lease.lease_id, now)


async def _shown(tx: Transaction, lease_id: str, now: datetime) -> Lease:
    lease = await leasestore.load(tx, lease_id)
    assert lease is not None, "it was loaded in this transaction"
    servers = await members.of_owner(tx, lease_id)
    rehearsed = await members.rehearsed(tx, lease_id)
    access = await leasestore.access(tx, lease_id) if lease.state == "active" else None
    return show_lease(in_line(tx, lease), servers, now, rehearsal=rehearsed, access=access)
