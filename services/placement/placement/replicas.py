"""Replicas from one state to the next; and those that are not begun yet, as who gave way still draws their watts."""

from collections.abc import Sequence
from datetime import datetime

from mesh_contracts.placement import Reason
from meshkit.store import Transaction

from placement import memory, owners, reading, store
from placement.domain.engine.wish import Released
from placement.domain.fleet import ENDED, Placed
from placement.domain.wishes import milliseconds
from placement.intents import put_intents

LATE_MAX = 64
"""Replicas that are looked at at once; the others next time."""


async def move(
    tx: Transaction, item: Placed, state: str, now: datetime, reasons: Sequence[Reason] = ()
) -> None:
    """Put a replica in another state; once it has ended what it held is free."""
    await store.move(tx, item, state, now, reasons)
    if state in ENDED:
        held = await memory.hold(tx, item.site)
        held.apply(Released(workload=item.workload_id, at=milliseconds(now)))
        held.moved(item.node_id)


async def stop(tx: Transaction, item: Placed, now: datetime, reasons: Sequence[Reason] = ()) -> None:
    """Have a replica end; one that is held back has: its node has never heard of it."""
    await move(tx, item, "stopped" if item.held_back else "stopping", now, reasons)


async def held_back(tx: Transaction, site: str) -> list[str]:
    """Return the replicas that are held back, those first that wait longest."""
    rows = await tx.rows(
        "SELECT w.workload_id FROM workload w JOIN node n USING (node_id) WHERE n.site = $1"
        " AND w.state = 'assigned' AND w.reasons <> '[]' ORDER BY w.since, w.workload_id LIMIT $2",
        *(site, LATE_MAX),
    )
    return [row["workload_id"] for row in rows]


async def begin_late(tx: Transaction, site: str, ids: Sequence[str], now: datetime) -> None:
    """Begin those of them that no cap is in the way of any more."""
    for workload_id in ids:
        item = await reading.load_workload(tx, workload_id)
        if item is None or not item.held_back or await owners.crowded(tx, site, {item.node_id}):
            continue
        await move(tx, item, "assigned", now)
        put_intents(tx, item.node_id)
