"""Maintenance windows as time passes: they begin and end, and their nodes follow.

What a node is to be follows from the windows alone and is looked at each second: one that restarts while it
is worked on, or that somebody turned meanwhile, is taken out again, and a window is none the worse for a
start of this process in between.
"""

from datetime import datetime
from typing import Any, Final

from mesh_contracts.fact import born_of
from mesh_contracts.placement import MaintenanceEnded, MaintenanceStarted
from meshkit.store import Transaction

from placement import reading, windows, work
from placement.domain.engine.notice import Cancelled
from placement.domain.maintenance import Window, on_begun, on_over
from placement.domain.wishes import milliseconds
from placement.settle import settle
from placement.turns import now_drained, turn_node

NODES_AT_ONCE: Final = 32
"""Nodes taken out, and nodes given back, in one transaction: others wait for it."""


async def is_due(tx: Transaction, site: str, now: datetime) -> bool:
    """Tell whether ``follow`` has anything to do."""
    return await windows.any_due(tx, site, now)


async def follow(tx: Transaction, cause: Any, now: datetime) -> None:
    """Begin and end what is due, and have nodes be as their windows want them, some at a time."""
    for window in await windows.due(tx, cause.site, now):
        if window.ends_at is not None and window.ends_at <= now:
            await end(tx, cause, now, window)
        else:
            await windows.turn(tx, window.window_id, "active", now)
            born = born_of(cause, now, MaintenanceStarted, key=window.window_id)
            told = MaintenanceStarted(**born, window_id=window.window_id, node_ids=list(window.nodes))
            await tx.tell(told)
    await _take(tx, cause, now)
    for node_id in await windows.to_give(tx, cause.site, NODES_AT_ONCE):
        server = await reading.load_server(tx, node_id)
        assert server is not None, "it was read in this transaction"
        await turn_node(tx, cause, now, server, on_over(server))
        await settle(tx, cause, now, node_ids=[node_id])


async def end(
    tx: Transaction, cause: Any, now: datetime, window: Window, by: str | None = None
) -> None:
    """Have a window be over; its nodes are given back by ``follow``. ``by`` cancelled it."""
    await windows.turn(tx, window.window_id, "ended" if by is None else "cancelled", now)
    born = born_of(cause, now, MaintenanceEnded, key=window.window_id)
    nodes = list(window.nodes)
    await tx.tell(MaintenanceEnded(**born, window_id=window.window_id, node_ids=nodes, principal_id=by))
    # Where its time is over the engine may have dropped it already.
    await work.give(tx, cause, now, Cancelled(name=window.window_id, at=milliseconds(now)))
    # Replicas do not wait in line: they are looked at anew.
    await settle(tx, cause, now)


async def _take(tx: Transaction, cause: Any, now: datetime) -> None:
    found = await windows.to_take(tx, cause.site, NODES_AT_ONCE)
    if not found:
        return
    known = {one.window_id: one for one in await windows.still(tx, cause.site, list(found))}
    for node_id, window_id in found.items():
        server = await reading.load_server(tx, node_id)
        assert server is not None, "it was read in this transaction"
        if server.state != "repairing":
            await windows.drain_by(tx, node_id, known[window_id].drains_until)
        await turn_node(tx, cause, now, server, on_begun(server, known[window_id]))
        await settle(tx, cause, now, node_ids=[node_id])
        await now_drained(tx, cause, now, node_id)
