"""Replicas that have their seats and are not begun, as who gave way still draws their watts."""

from collections.abc import Sequence
from datetime import datetime

from meshkit.store import Transaction

from placement import owners, reading, store
from placement.intents import put_intent

LATE_MAX = 64
"""Replicas that are looked at at once; the others next time."""


async def held_back(tx: Transaction, site: str) -> list[str]:
    """Return the replicas that are held back, those first that wait longest."""
    rows = await tx.rows(
        "SELECT w.workload_id FROM workload w JOIN node n USING (node_id) WHERE n.site = $1"
        " AND w.state = 'assigned' AND w.reasons <> '[]' ORDER BY w.since, w.workload_id LIMIT $2",
        *(site, LATE_MAX),
    )
    return [row["workload_id"] for row in rows]


async def begin(tx: Transaction, site: str, ids: Sequence[str], now: datetime) -> None:
    """Begin those of them that no cap is in the way of any more."""
    for workload_id in ids:
        item = await reading.load_workload(tx, workload_id)
        if item is None or not item.held_back or await owners.crowded(tx, site, {item.node_id}):
            continue
        await store.move(tx, item, "assigned", now)
        await put_intent(tx, item.node_id)
