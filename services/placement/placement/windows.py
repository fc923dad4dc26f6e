"""The SQL of maintenance windows, and of the nodes that one takes out and gives back."""

# ruff: noqa: S608 - statements are put together from constants of this file alone

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mesh_contracts.placement import MaintenanceState
from meshkit.store import Row, Transaction

from placement.domain.fleet import MAINTENANCE
from placement.domain.maintenance import OVER, Window

_WINDOW = (
    "SELECT m.window_id, m.site, m.state, m.starts_at, m.ends_at, m.reason, m.planned_by, m.created_at,"
    " m.since, there.nodes, there.names FROM maintenance m, LATERAL ("
    "  SELECT array_agg(n.node_id ORDER BY n.name, n.node_id) AS nodes,"
    "   array_agg(n.name ORDER BY n.name, n.node_id) AS names"
    "  FROM maintenance_node w JOIN node n USING (node_id) WHERE w.window_id = m.window_id) AS there"
)
_DUE = "m.site = $1 AND m.over_at IS NULL AND (m.ends_at <= $2 OR (m.state = 'planned' AND m.starts_at <= $2))"
# Also one that somebody else took out, and one that comes back from a restart while it is worked on.
_TO_TAKE = (
    "SELECT n.node_id, m.window_id FROM maintenance m JOIN maintenance_node w USING (window_id)"
    " JOIN node n USING (node_id) WHERE m.site = $1 AND m.state = 'active'"
    " AND n.state IN ('validating', 'ready', 'cordoned', 'draining', 'repairing')"
    " AND position(m.window_id in n.reasons) = 0"
)
_TO_GIVE = (
    "SELECT n.node_id FROM node n WHERE n.site = $1 AND n.state IN ('cordoned', 'draining', 'repairing')"
    f' AND n.reasons LIKE \'%"code":"{MAINTENANCE}"%\' AND NOT EXISTS (SELECT FROM maintenance m'
    "  JOIN maintenance_node w USING (window_id) WHERE w.node_id = n.node_id AND m.state = 'active')"
)


async def keep(tx: Transaction, window: Window) -> None:
    """Write a new window down."""
    await tx.change(
        "INSERT INTO maintenance (window_id, site, state, reason, planned_by, created_at, since, starts_at,"
        " ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        *(window.window_id, window.site, window.state, window.reason, window.planned_by),
        *(window.created_at, window.since, window.starts_at, window.ends_at),
    )
    await tx.change(
        "INSERT INTO maintenance_node (window_id, node_id) SELECT $1, unnest($2::text[])",
        *(window.window_id, list(window.nodes)),
    )


async def load(tx: Transaction, site: str, window_id: str) -> Window | None:
    """Return one window, or nothing."""
    row = await tx.row(f"{_WINDOW} WHERE m.site = $1 AND m.window_id = $2", site, window_id)
    return None if row is None else _window(row)


async def listed(tx: Transaction, site: str, after: str, limit: int, *, ended: bool) -> list[Window]:
    """Return at most ``limit`` windows in the order they were planned; those that are over where asked for."""
    rows = await tx.rows(
        f"{_WINDOW} WHERE m.site = $1 AND ($2 OR m.over_at IS NULL) AND m.window_id > $3"
        " ORDER BY m.window_id LIMIT $4",
        *(site, ended, after, limit),
    )
    return [_window(row) for row in rows]


async def still(tx: Transaction, site: str, node_ids: Sequence[str] | None = None) -> list[Window]:
    """Return the windows that are planned or active: all, or those of some nodes."""
    rows = await tx.rows(
        f"{_WINDOW} WHERE m.site = $1 AND m.over_at IS NULL AND ($2::text[] IS NULL OR EXISTS (SELECT FROM"
        " maintenance_node w WHERE w.window_id = m.window_id AND w.node_id = ANY ($2)))"
        " ORDER BY m.starts_at, m.window_id",
        *(site, None if node_ids is None else list(node_ids)),
    )
    return [_window(row) for row in rows]


async def count(tx: Transaction, site: str) -> int:
    """Return how many windows are planned or active."""
    return int(
        await tx.value("SELECT count(*) FROM maintenance WHERE site = $1 AND over_at IS NULL", site)
    )


async def named(tx: Transaction, site: str, texts: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the id and the name of the node that each text means (the newest where a name was used again)."""
    rows = await tx.rows(
        "SELECT DISTINCT ON (text) text, n.node_id, n.name FROM unnest($2::text[]) AS text"
        " JOIN node n ON n.site = $1 AND (n.node_id = text OR n.name = text)"
        " WHERE n.state <> 'retired' ORDER BY text, n.node_id DESC",
        *(site, list(texts)),
    )
    return {row["text"]: (row["node_id"], row["name"]) for row in rows}


async def any_due(tx: Transaction, site: str, now: datetime) -> bool:
    """Tell whether a window is to begin or to end, or a node to be taken out or given back."""
    found = await tx.value(
        f"SELECT EXISTS (SELECT FROM maintenance m WHERE {_DUE}) OR EXISTS ({_TO_TAKE}) OR EXISTS ({_TO_GIVE})",
        *(site, now),
    )
    return bool(found)


async def due(tx: Transaction, site: str, now: datetime) -> list[Window]:
    """Return the windows that are to begin or to end."""
    rows = await tx.rows(f"{_WINDOW} WHERE {_DUE} ORDER BY m.starts_at, m.window_id", site, now)
    return [_window(row) for row in rows]


async def to_take(tx: Transaction, site: str, limit: int) -> dict[str, str]:
    """Return the windows that have begun of nodes which do not say so yet, by node; at most ``limit``."""
    rows = await tx.rows(f"{_TO_TAKE} ORDER BY n.node_id LIMIT $2", site, limit)
    return {row["node_id"]: row["window_id"] for row in rows}


async def to_give(tx: Transaction, site: str, limit: int) -> list[str]:
    """Return nodes that say they are in a window and are in none that lasts; at most ``limit``."""
    rows = await tx.rows(f"{_TO_GIVE} ORDER BY n.node_id LIMIT $2", site, limit)
    return [row["node_id"] for row in rows]


async def turn(tx: Transaction, window_id: str, state: MaintenanceState, now: datetime) -> None:
    """Make a window what it turns into."""
    await tx.change(
        "UPDATE maintenance SET state = $2, since = $3, over_at = CASE WHEN $4 THEN $3::timestamptz END"
        " WHERE window_id = $1",
        *(window_id, state, now, state in OVER),
    )


async def drain_by(tx: Transaction, node_id: str, until: datetime) -> None:
    """Note until when jobs that cannot be preempted may go on, where that is earlier than what is noted."""
    await tx.change(
        "UPDATE node SET drain_until = least(drain_until, $2) WHERE node_id = $1", node_id, until
    )


async def forget(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` windows that were over before; return how many."""
    return await tx.change(
        "DELETE FROM maintenance WHERE window_id IN (SELECT window_id FROM maintenance WHERE over_at < $1"
        " ORDER BY over_at LIMIT $2)",
        *(before, batch),
    )


def _window(row: Row) -> Window:
    fields: dict[str, Any] = dict(row)
    fields["nodes"], fields["names"] = tuple(fields["nodes"]), tuple(fields["names"])
    return Window(**fields)
