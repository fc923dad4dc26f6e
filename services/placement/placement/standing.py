"""The SQL of how a site stands: what is in which state, and where; nothing is loaded in full."""

from collections.abc import Sequence

from meshkit.store import Transaction

Stands = tuple[str, str, str]
"""A workload, the node it is on, and its state."""


async def nodes_by_state(tx: Transaction, site: str) -> dict[tuple[str, bool], list[str]]:
    """Return a site's nodes by state (``maintenance``: a window has emptied them), those silent with others apart."""
    rows = await tx.rows(
        "SELECT CASE WHEN state = 'repairing' AND reasons LIKE '%\"code\":\"maintenance\"%' THEN 'maintenance' ELSE state END"
        " AS state, silent, array_agg(node_id) AS nodes FROM node WHERE site = $1 GROUP BY 1, silent",
        site,
    )
    return {(row["state"], row["silent"]): row["nodes"] for row in rows}


async def drained(tx: Transaction, site: str) -> list[str]:
    """Return the nodes that are being emptied, and on which nothing is left."""
    rows = await tx.rows(
        "SELECT node_id FROM node WHERE site = $1 AND state = 'draining' AND NOT EXISTS (SELECT FROM workload w"
        "  WHERE w.node_id = node.node_id AND w.state NOT IN ('stopped', 'failed'))"
        " AND NOT EXISTS (SELECT FROM member m WHERE m.node_id = node.node_id"
        "  AND (m.holds OR m.state NOT IN ('stopped', 'failed'))) ORDER BY node_id",
        site,
    )
    return [row["node_id"] for row in rows]


async def tally(tx: Transaction, site: str) -> dict[tuple[str, str], int]:
    """Return how many of what (``SHOWN`` of ``pulse``) are in each state, at a site; none that has ended."""
    rows = await tx.rows(
        "SELECT 'nodes' AS what, state, count(*) AS many FROM node WHERE site = $1 GROUP BY state"
        " UNION ALL SELECT 'endpoints', state, count(*) FROM endpoint"
        "  WHERE site = $1 AND state <> 'stopped' GROUP BY state"
        " UNION ALL SELECT 'replicas', w.state, count(*) FROM workload w JOIN node n USING (node_id)"
        "  WHERE n.site = $1 AND w.state NOT IN ('stopped', 'failed') GROUP BY w.state"
        " UNION ALL SELECT 'jobs', state, count(*) FROM job WHERE site = $1 AND ended_at IS NULL GROUP BY state"
        " UNION ALL SELECT 'leases', state, count(*) FROM lease"
        "  WHERE site = $1 AND ended_at IS NULL GROUP BY state",
        site,
    )
    return {(row["what"], row["state"]): row["many"] for row in rows}


async def engines_on(tx: Transaction, node_ids: Sequence[str]) -> list[Stands]:
    """Return the replicas on some nodes that have not ended."""
    return await _stand(tx, "workload WHERE state NOT IN ('stopped', 'failed')", node_ids)


async def members_on(tx: Transaction, node_ids: Sequence[str]) -> list[Stands]:
    """Return what is there of jobs and leases on some nodes."""
    there = "member WHERE (holds OR state NOT IN ('stopped', 'failed'))"
    return await _stand(tx, there, node_ids)


async def _stand(tx: Transaction, there: str, node_ids: Sequence[str]) -> list[Stands]:
    sql = f"SELECT workload_id, node_id, state FROM {there} AND node_id = ANY($1)"  # noqa: S608 - of this file alone
    rows = await tx.rows(sql, list(node_ids))
    return [(row["workload_id"], row["node_id"], row["state"]) for row in rows]
