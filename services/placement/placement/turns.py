"""What a node or a workload turns into, whoever found out: a fact, an ask, or time that passed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from mesh_contracts.fact import born_of
from mesh_contracts.placement import NodeCordoned, NodeDrained, NodeLost, NodeReturned, Reason
from meshkit.store import Transaction

from placement import members, memory, nodes, reading, replicas, store
from placement.domain.fleet import ENDED, LEAVING, LIVING, Placed, Server
from placement.domain.health import Turn, on_drained, on_lost
from placement.domain.members import Came, Member
from placement.domain.plan import after_failure
from placement.later import look_later, settle_later
from placement.settle import tell_moved


async def now_ready(
    tx: Transaction, cause: Any, now: datetime, item: Placed, *, scheme: str, address: str
) -> None:
    """Note that a workload answers at ``address``, and settle its endpoint."""
    if item.state not in LIVING:
        return
    await store.answer_at(tx, item, scheme, address, now)
    wanted = await reading.load_wanted(tx, item.endpoint_id)
    assert wanted is not None, "the table's foreign key holds"
    if item.ready_at is None:
        await tell_moved(tx, cause, now, wanted, item)
    await settle_later(tx, cause, now, endpoints=[item.endpoint_id])


async def now_ended(tx: Transaction, cause: Any, now: datetime, item: Placed, reason: Reason) -> None:
    """Note that a workload has ended (as wished, or else failed for ``reason``), and settle."""
    if item.state in ENDED:
        return
    if item.state == "stopping":
        await replicas.move(tx, item, "stopped", now, item.reasons)
    else:
        await replicas.move(tx, item, "failed", now, (reason,))
        wanted = await reading.load_wanted(tx, item.endpoint_id)
        assert wanted is not None, "the table's foreign key holds"
        failures, retry_at = after_failure(wanted.failures, item.ready_at, now)
        await store.note_failure(tx, item.endpoint_id, failures, retry_at)
    await settle_later(tx, cause, now, endpoints=[item.endpoint_id], freed=item.node_id)


async def now_came(tx: Transaction, cause: Any, now: datetime, item: Member, came: Came) -> None:
    """Note what a member has come to, and do all that follows: where it has ended, its place is another's."""
    await members.come(tx, item, came, now)
    await look_later(tx, cause, now, item.owner_id)
    if came.state in ENDED:
        await settle_later(tx, cause, now, freed=item.node_id)


async def now_lost(tx: Transaction, cause: Any, now: datetime, server: Server, silent_ms: int) -> None:
    """Give up a silent node: its workloads have failed and are placed anew, at once."""
    await turn_node(tx, cause, now, server, on_lost(server, silent_ms), silent_ms=silent_ms)
    running = await reading.load_running(tx, server.node_id)
    for item in running:
        reason = Reason(code="node_lost", detail=f"{server.name} fell silent")
        await replicas.move(
            tx, item, "stopped" if item.state == "stopping" else "failed", now, (reason,)
        )
    endpoints = [item.endpoint_id for item in running]
    await settle_later(tx, cause, now, endpoints=endpoints, node_id=server.node_id)


async def turn_silent(tx: Transaction, node_ids: Sequence[str], *, silent: bool) -> None:
    """Note of nodes whether they are silent with too many others to be given up: such take nothing new."""
    await store.note_silent(tx, node_ids, silent=silent)
    for server in await reading.load_servers(tx, node_ids):
        await nodes.know(tx, server)


async def now_drained(tx: Transaction, cause: Any, now: datetime, node_id: str) -> None:
    """Note that nothing is left on a node that is being emptied."""
    server = await reading.load_server(tx, node_id)
    if server is not None and server.state == "draining" and server.workloads == 0:
        await turn_node(tx, cause, now, server, on_drained(server))


async def turn_node(
    tx: Transaction, cause: Any, now: datetime, server: Server, to: Turn, *, silent_ms: int = 0
) -> None:
    """Make a node what it turns into, and tell what others should know of it."""
    await store.turn(tx, server, to, now)
    (await memory.hold(tx, server.site)).moved(server.node_id)
    await nodes.know(tx, msgspec.structs.replace(server, state=to.state))
    codes = {reason.code for reason in server.reasons}
    if to.state in {"cordoned", "draining"} and (
        server.state not in LEAVING or {reason.code for reason in to.reasons} - codes
    ):
        born = born_of(cause, now, NodeCordoned, key=server.node_id)
        await tx.tell(NodeCordoned(**born, node_id=server.node_id, reasons=list(to.reasons)))
    if to.state == "repairing" and server.state == "draining":
        born = born_of(cause, now, NodeDrained, key=server.node_id)
        await tx.tell(NodeDrained(**born, node_id=server.node_id))
    if to.state == "ready" and server.state != "ready":
        born = born_of(cause, now, NodeReturned, key=server.node_id)
        await tx.tell(NodeReturned(**born, node_id=server.node_id))
    if to.state == "lost" and server.state != "lost":
        born = born_of(cause, now, NodeLost, key=server.node_id)
        await tx.tell(NodeLost(**born, node_id=server.node_id, silent_ms=silent_ms))
