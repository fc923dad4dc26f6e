"""The door for facts, one function each."""

from mesh_contracts.identity import NodeEnrolled, ProjectAdmitted
from mesh_contracts.inference import DemandChanged
from mesh_contracts.node import (
    ErasureRecorded,
    HealthChanged,
    NodeJoined,
    WorkloadFailed,
    WorkloadReady,
    WorkloadStarted,
    WorkloadStopped,
)
from mesh_contracts.placement import Reason
from meshkit.clock import Clock
from meshkit.store import Transaction
from meshkit.telemetry import METRICS

from placement import (
    breaking,
    demands,
    leasestore,
    members,
    memory,
    nodes,
    reading,
    replicas,
    store,
)
from placement.domain.fleet import Placed, Server
from placement.domain.health import last_checks, lost_of, on_checked, on_joined, on_unclean
from placement.domain.leases import Access, after_erasure
from placement.domain.members import WorkloadFact, after
from placement.intents import put_intents
from placement.later import look_later, settle_later
from placement.scaling import rescale
from placement.turns import now_came, now_ended, now_ready, turn_node

FORGED = "mesh_placement_forged_facts_total"
"""Facts of a node, or a gateway, about what is not its own; they change nothing."""

UNKNOWN = "mesh_placement_unknown_endpoints_total"
"""Endpoints of which a gateway tells demand, and which are not (or no longer) known here."""


async def on_project_admitted(fact: ProjectAdmitted, tx: Transaction, clock: Clock) -> None:  # noqa: ARG001
    """Know the project by its names."""
    await store.keep_project(tx, fact)


async def on_node_enrolled(fact: NodeEnrolled, tx: Transaction, clock: Clock) -> None:
    """Know the node; it takes no work before its agent joined and its first check passed."""
    await memory.hold(tx, fact.site)
    await store.keep_node(tx, fact.node_id, fact.name, fact.site, clock.now())
    await nodes.know(tx, await _server(tx, fact.node_id))
    put_intents(tx, fact.node_id)


async def on_node_joined(fact: NodeJoined, tx: Transaction, clock: Clock) -> None:
    """Know what the node consists of; it takes new work once the check of its start has passed.

    A replica that held a device which is gone has failed.
    """
    if fact.key != fact.node_id:
        METRICS.count(FORGED, kind="node_joined")
        return
    now = clock.now()
    await memory.hold(tx, fact.site)
    await store.keep_node(tx, fact.node_id, fact.name, fact.site, now)
    await store.keep_hardware(tx, fact)
    failed = []
    for item in await reading.load_running(tx, fact.node_id):
        reason = lost_of(fact, item.devices)
        if reason is not None:
            await replicas.move(tx, item, "failed", now, (reason,))
            failed.append(item.endpoint_id)
    server = await _server(tx, fact.node_id)
    await turn_node(tx, fact, now, server, on_joined(server))
    for member in await members.on_node(tx, fact.node_id):
        reason = lost_of(fact, member.devices, modes=member.kind == "job")
        if reason is not None and member.going:
            # A server that is a tenant's stays the tenant's.
            held = member.kind == "lease" and member.state == "ready"
            await members.move_all(tx, [(member, "ready" if held else "failed", (reason,))], now)
            await look_later(tx, fact, now, member.owner_id)
    await settle_later(tx, fact, now, endpoints=failed, node_id=fact.node_id)


async def on_health_changed(fact: HealthChanged, tx: Transaction, clock: Clock) -> None:
    """Open a node whose check passed; take one out whose check did not, and move its work."""
    if fact.key != fact.node_id:
        METRICS.count(FORGED, kind="health_changed")
        return
    now = clock.now()
    await memory.hold(tx, fact.site)
    server = await reading.load_server(tx, fact.node_id)
    if server is None:
        METRICS.count(FORGED, kind="health_changed")
        return
    await store.keep_checks(tx, fact.node_id, last_checks(server, fact.checks))
    to = await breaking.through(tx, fact, now, server, on_checked(server, fact))
    await turn_node(tx, fact, now, server, to)
    await settle_later(tx, fact, now, node_id=fact.node_id)


async def on_workload_started(fact: WorkloadStarted, tx: Transaction, clock: Clock) -> None:
    """Note that the engine's process runs; one that was ready has begun anew, at another address."""
    await memory.hold(tx, fact.site)
    if await _of_member(fact, tx, clock):
        return
    item = await _own(fact, tx)
    if item is not None and item.draining:
        # What it was to finish died with the process before.
        await replicas.move(tx, item, "stopping", clock.now(), item.reasons)
        put_intents(tx, item.node_id)
    if item is not None and item.state in {"assigned", "ready"}:
        now = clock.now()
        await replicas.move(tx, item, "starting", now)
        await settle_later(tx, fact, now, endpoints=[item.endpoint_id])


async def on_workload_ready(fact: WorkloadReady, tx: Transaction, clock: Clock) -> None:
    """Route requests to the replica; its predecessor may go."""
    await memory.hold(tx, fact.site)
    if await _of_member(fact, tx, clock):
        return
    item = await _own(fact, tx)
    if item is not None:
        await now_ready(tx, fact, clock.now(), item, scheme=fact.scheme, address=fact.address)


async def on_workload_stopped(fact: WorkloadStopped, tx: Transaction, clock: Clock) -> None:
    """Free what the workload held; one that nobody wished to stop has failed."""
    await memory.hold(tx, fact.site)
    if await _of_member(fact, tx, clock):
        return
    item = await _own(fact, tx)
    if item is not None:
        reason = Reason(code="engine_stopped", detail="the engine was stopped on its node, unasked")
        await now_ended(tx, fact, clock.now(), item, reason)


async def on_workload_failed(fact: WorkloadFailed, tx: Transaction, clock: Clock) -> None:
    """Free what the workload held, and place a successor, with growing pauses."""
    await memory.hold(tx, fact.site)
    if await _of_member(fact, tx, clock):
        return
    item = await _own(fact, tx)
    if item is not None:
        ended = "" if fact.exit_code is None else f" (exit code {fact.exit_code})"
        reason = Reason(code="engine_failed", detail=f"{fact.reason}{ended}")
        await now_ended(tx, fact, clock.now(), item, reason)


async def on_erasure_recorded(fact: ErasureRecorded, tx: Transaction, clock: Clock) -> None:
    """Take a leased server one step on to its next tenant; one that is not shown to be clean to none."""
    now = clock.now()
    await memory.hold(tx, fact.site)
    item = await members.load(tx, fact.workload_id)
    if item is None or item.node_id != fact.node_id or fact.key != fact.node_id:
        METRICS.count(FORGED, kind="erasure_recorded")
        return
    if item.step != {"erased": "erase", "attested": "attest"}[fact.step]:
        return
    server = await _server(tx, fact.node_id)
    rehearsal = bool(server.cards) and all(card.rehearsal for card in server.cards)
    step, why, clean = after_erasure(fact, rehearsal=rehearsal)
    await members.step(tx, item, step, now, (why,))
    if not clean:
        await leasestore.spoil(tx, item.owner_id, why)
        await turn_node(tx, fact, now, server, on_unclean(server, why))
    put_intents(tx, fact.node_id)
    await look_later(tx, fact, now, item.owner_id)
    await settle_later(tx, fact, now, node_id=fact.node_id)


async def on_demand_changed(fact: DemandChanged, tx: Transaction, clock: Clock) -> None:
    """Have as many replicas as demand asks for, where this is the gateway's last word."""
    if fact.key != fact.producer:
        METRICS.count(FORGED, kind="demand_changed")
        return
    now = clock.now()
    await memory.hold(tx, fact.site)
    kept = await demands.keep(tx, fact, now)
    named = {one.endpoint_id for one in fact.demands}
    if len(kept) < len(named):
        METRICS.count(UNKNOWN, len(named) - await demands.known(tx, fact.site, list(named)))
    changed = await rescale(tx, kept, now)
    if changed:
        await settle_later(tx, fact, now, endpoints=changed)


async def _server(tx: Transaction, node_id: str) -> Server:
    server = await reading.load_server(tx, node_id)
    assert server is not None, "it was kept in this transaction"
    return server


async def _of_member(fact: WorkloadFact, tx: Transaction, clock: Clock) -> bool:
    """Tell whether a fact is of a member of a job or a lease; where it is, do what follows from it."""
    item = await members.load(tx, fact.workload_id)
    if item is None:
        return False
    if item.node_id != fact.node_id or fact.key != fact.node_id:
        METRICS.count(FORGED, kind=type(fact).__name__)
        return True
    if isinstance(fact, WorkloadReady) and item.kind == "lease":
        await leasestore.keep_access(tx, item.workload_id, Access(fact.address, fact.console))
    came = after(item, fact)
    if came is not None:
        await now_came(tx, fact, clock.now(), item, came)
    return True


async def _own(fact: WorkloadFact, tx: Transaction) -> Placed | None:
    """Return the workload a node speaks of, where it is the node's own."""
    item = await reading.load_workload(tx, fact.workload_id)
    if item is None or item.node_id != fact.node_id or fact.key != fact.node_id:
        METRICS.count(FORGED, kind=type(fact).__name__)
        return None
    return item
