"""The door for facts, one function each."""

from datetime import datetime
from typing import Any

from mesh_contracts.fact import born_of
from mesh_contracts.identity import NodeEnrolled, ProjectAdmitted
from mesh_contracts.node import (
    HealthChanged,
    NodeJoined,
    WorkloadFailed,
    WorkloadReady,
    WorkloadStarted,
    WorkloadStopped,
)
from mesh_contracts.placement import NodeCordoned, NodeLost, NodeReturned, Reason
from meshkit.clock import Clock
from meshkit.store import Transaction
from meshkit.telemetry import METRICS

from placement import reading, store
from placement.domain.fleet import ENDED, LEAVING, LIVING, Placed, Server
from placement.domain.health import Turn, on_checked, on_joined, on_lost
from placement.domain.plan import after_failure
from placement.settle import put_intent, settle, tell_moved

FORGED = "mesh_placement_forged_facts_total"
"""Facts of a node about what is not its own; they change nothing."""

WorkloadFact = WorkloadStarted | WorkloadReady | WorkloadStopped | WorkloadFailed


async def on_project_admitted(fact: ProjectAdmitted, tx: Transaction, clock: Clock) -> None:  # noqa: ARG001
    """Know the project by its names."""
    await store.keep_project(tx, fact)


async def on_node_enrolled(fact: NodeEnrolled, tx: Transaction, clock: Clock) -> None:
    """Know the node; it takes no work before its agent joined and its first check passed."""
    await store.one_at_a_time(tx)
    await store.keep_node(tx, fact.node_id, fact.name, fact.site, clock.now())
    await put_intent(tx, fact.node_id)


async def on_node_joined(fact: NodeJoined, tx: Transaction, clock: Clock) -> None:
    """Know what the node consists of; it takes new work once the check of its start has passed.

    A replica that held a device which is gone has failed.
    """
    if fact.key != fact.node_id:
        METRICS.count(FORGED, kind="node_joined")
        return
    now = clock.now()
    await store.one_at_a_time(tx)
    await store.keep_node(tx, fact.node_id, fact.name, fact.site, now)
    await store.keep_hardware(tx, fact)
    server = await _server(tx, fact.node_id)
    await turn_node(tx, fact, now, server, on_joined(server))
    present = {card.device_id for card in server.cards}
    failed = []
    for item in await reading.load_running(tx, fact.node_id):
        gone = [held.device_id for held in item.devices if held.device_id not in present]
        if gone:
            reason = Reason(code="device_gone", detail=f"{fact.name} has no device {gone[0]} any more")
            await store.move(tx, item, "failed", now, (reason,))
            failed.append(item.endpoint_id)
    await settle(tx, fact, now, endpoints=failed, node_id=fact.node_id)


async def on_health_changed(fact: HealthChanged, tx: Transaction, clock: Clock) -> None:
    """Open a node whose check passed; take one out whose check did not, and move its work."""
    if fact.key != fact.node_id:
        METRICS.count(FORGED, kind="health_changed")
        return
    now = clock.now()
    await store.one_at_a_time(tx)
    server = await reading.load_server(tx, fact.node_id)
    if server is None:
        METRICS.count(FORGED, kind="health_changed")
        return
    await store.keep_checks(tx, fact.node_id, fact.checks)
    await turn_node(tx, fact, now, server, on_checked(server, fact))
    await settle(tx, fact, now, node_id=fact.node_id)


async def on_workload_started(fact: WorkloadStarted, tx: Transaction, clock: Clock) -> None:
    """Note that the engine's process runs."""
    await store.one_at_a_time(tx)
    item = await _own(fact, tx)
    if item is not None and item.state == "assigned":
        now = clock.now()
        await store.move(tx, item, "starting", now)
        await settle(tx, fact, now, endpoints=[item.endpoint_id])


async def on_workload_ready(fact: WorkloadReady, tx: Transaction, clock: Clock) -> None:
    """Route requests to the replica; its predecessor may go."""
    await store.one_at_a_time(tx)
    item = await _own(fact, tx)
    if item is not None:
        await now_ready(tx, fact, clock.now(), item, scheme=fact.scheme, address=fact.address)


async def on_workload_stopped(fact: WorkloadStopped, tx: Transaction, clock: Clock) -> None:
    """Free what the workload held; one that nobody wished to stop has failed."""
    await store.one_at_a_time(tx)
    item = await _own(fact, tx)
    if item is not None:
        reason = Reason(code="engine_stopped", detail="the engine was stopped on its node, unasked")
        await now_ended(tx, fact, clock.now(), item, reason)


async def on_workload_failed(fact: WorkloadFailed, tx: Transaction, clock: Clock) -> None:
    """Free what the workload held, and place a successor, with growing pauses."""
    await store.one_at_a_time(tx)
    item = await _own(fact, tx)
    if item is not None:
        ended = "" if fact.exit_code is None else f" (exit code {fact.exit_code})"
        reason = Reason(code="engine_failed", detail=f"{fact.reason}{ended}")
        await now_ended(tx, fact, clock.now(), item, reason)


async def now_ready(
    tx: Transaction, cause: Any, now: datetime, item: Placed, *, scheme: str, address: str
) -> None:
    """Note that a workload answers at ``address``, and settle its endpoint."""
    if item.state not in LIVING:
        return
    await store.answer_at(tx, item, scheme, address, now)
    wanted = await reading.load_wanted(tx, item.endpoint_id)
    assert wanted is not None, "the table's foreign key holds"
    if item.state != "ready":
        await tell_moved(tx, cause, now, wanted, item)
    await settle(tx, cause, now, endpoints=[item.endpoint_id])


async def now_ended(tx: Transaction, cause: Any, now: datetime, item: Placed, reason: Reason) -> None:
    """Note that a workload has ended (as wished, or else failed for ``reason``), and settle."""
    if item.state in ENDED:
        return
    if item.state == "stopping":
        await store.move(tx, item, "stopped", now, item.reasons)
    else:
        await store.move(tx, item, "failed", now, (reason,))
        wanted = await reading.load_wanted(tx, item.endpoint_id)
        assert wanted is not None, "the table's foreign key holds"
        failures, retry_at = after_failure(wanted.failures, item.ready_at, now)
        await store.note_failure(tx, item.endpoint_id, failures, retry_at)
    await settle(tx, cause, now, endpoints=[item.endpoint_id], node_id=item.node_id)


async def now_lost(tx: Transaction, cause: Any, now: datetime, server: Server, silent_ms: int) -> None:
    """Give up a silent node: its workloads have failed and are placed anew, at once."""
    await turn_node(tx, cause, now, server, on_lost(server, silent_ms), silent_ms=silent_ms)
    running = await reading.load_running(tx, server.node_id)
    for item in running:
        reason = Reason(code="node_lost", detail=f"{server.name} fell silent")
        await store.move(tx, item, "stopped" if item.state == "stopping" else "failed", now, (reason,))
    endpoints = [item.endpoint_id for item in running]
    await settle(tx, cause, now, endpoints=endpoints, node_id=server.node_id)


async def turn_node(
    tx: Transaction, cause: Any, now: datetime, server: Server, to: Turn, *, silent_ms: int = 0
) -> None:
    """Make a node what it turns into, and tell what others should know of it."""
    await store.turn(tx, server, to, now)
    codes = {reason.code for reason in server.reasons}
    if to.state == "cordoned" and (
        server.state not in LEAVING or {reason.code for reason in to.reasons} - codes
    ):
        born = born_of(cause, now, NodeCordoned, key=server.node_id)
        await tx.tell(NodeCordoned(**born, node_id=server.node_id, reasons=list(to.reasons)))
    if to.state == "ready" and server.state != "ready":
        born = born_of(cause, now, NodeReturned, key=server.node_id)
        await tx.tell(NodeReturned(**born, node_id=server.node_id))
    if to.state == "lost" and server.state != "lost":
        born = born_of(cause, now, NodeLost, key=server.node_id)
        await tx.tell(NodeLost(**born, node_id=server.node_id, silent_ms=silent_ms))


async def _server(tx: Transaction, node_id: str) -> Server:
    server = await reading.load_server(tx, node_id)
    assert server is not None, "it was kept in this transaction"
    return server


async def _own(fact: WorkloadFact, tx: Transaction) -> Placed | None:
    """Return the workload a node speaks of, where it is the node's own."""
    item = await reading.load_workload(tx, fact.workload_id)
    if item is None or item.node_id != fact.node_id or fact.key != fact.node_id:
        METRICS.count(FORGED, kind=type(fact).__name__)
        return None
    return item
