"""The SQL of replicas that somebody has asked to sit elsewhere."""

from collections.abc import Sequence
from datetime import datetime

from mesh_contracts.placement import MoveTo, Moving
from meshkit.store import Row, Transaction

from placement.domain.fleet import Placed
from placement.domain.moves import ASKED_FOR, standing
from placement.store import dumps

OPEN_MAX = 256
"""Moves of a site at once."""

_OPEN = "w.moves_to IS NOT NULL AND w.state IN ('assigned', 'starting', 'ready')"
_HEIR = (
    "(SELECT h.workload_id FROM workload h WHERE h.replaces = w.workload_id"
    " AND h.state IN ('assigned', 'starting', 'ready') LIMIT 1)"
)


async def wished(tx: Transaction, site: str, moves: Sequence[MoveTo]) -> dict[str, str]:
    """Return the replicas and nodes that are meant and there: a node's id by its id and its name."""
    rows = await tx.rows(
        "SELECT node_id, name FROM node WHERE site = $1 AND (node_id = ANY ($2) OR name = ANY ($2))"
        " ORDER BY node_id",
        *(site, [one.to_node for one in moves]),
    )
    return {text: row["node_id"] for row in rows for text in (row["name"], row["node_id"])}


async def count(tx: Transaction, site: str) -> int:
    """Return how many moves of a site are not over."""
    return int(
        await tx.value(
            f"SELECT count(*) FROM workload w JOIN node n USING (node_id) WHERE n.site = $1 AND {_OPEN}",  # noqa: S608
            site,
        )
    )


async def begin(tx: Transaction, item: Placed, to: str, until: datetime) -> None:
    """Note where a replica is to sit instead, and until when that is tried."""
    await tx.change(
        "UPDATE workload SET moves_to = $2, moves_until = $3, reasons = $4 WHERE workload_id = $1",
        *(item.workload_id, to, until, dumps([ASKED_FOR])),
    )


async def listed(tx: Transaction, site: str) -> list[Moving]:
    """Return the moves that are not over, in the order in which their time ends."""
    rows = await tx.rows(
        "SELECT w.workload_id, e.name AS endpoint, n.name AS from_node, t.name AS to_node, w.moves_until,"  # noqa: S608
        f" {_HEIR} AS successor FROM workload w JOIN endpoint e USING (endpoint_id)"
        " JOIN node n ON n.node_id = w.node_id JOIN node t ON t.node_id = w.moves_to"
        f" WHERE n.site = $1 AND {_OPEN} ORDER BY w.moves_until, w.workload_id LIMIT $2",
        *(site, OPEN_MAX),
    )
    return [_moving(row) for row in rows]


async def waiting(tx: Transaction, site: str) -> list[str]:
    """Return the endpoints with replicas that are to sit elsewhere and have no successor there yet."""
    rows = await tx.rows(
        "SELECT DISTINCT w.endpoint_id FROM workload w JOIN node n USING (node_id)"  # noqa: S608
        f" WHERE n.site = $1 AND {_OPEN} AND {_HEIR} IS NULL ORDER BY w.endpoint_id",
        site,
    )
    return [row["endpoint_id"] for row in rows]


async def give_up(tx: Transaction, site: str, now: datetime) -> list[tuple[str, str]]:
    """Have those stay whose time is over and that have no successor; return endpoints and nodes that had no room."""
    rows = await tx.rows(
        "UPDATE workload w SET moves_to = NULL, moves_until = NULL, reasons = '[]' FROM node n, node t"  # noqa: S608
        f" WHERE n.node_id = w.node_id AND t.node_id = w.moves_to AND n.site = $1 AND {_OPEN}"
        f" AND w.moves_until <= $2 AND {_HEIR} IS NULL RETURNING w.endpoint_id, t.name",
        *(site, now),
    )
    return sorted((row["endpoint_id"], row["name"]) for row in rows)


def _moving(row: Row) -> Moving:
    return Moving(
        id=row["workload_id"],
        endpoint=row["endpoint"],
        from_node=row["from_node"],
        to_node=row["to_node"],
        state="waiting" if row["successor"] is None else "starting",
        until=row["moves_until"],
        successor=row["successor"],
        reasons=standing(row["successor"], row["to_node"]),
    )
