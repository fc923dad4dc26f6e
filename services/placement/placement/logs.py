"""What workloads printed: the SQL of it, and what nodes tell until it is written."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from mesh_contracts.node import LogTail
from meshkit.store import Row, Transaction
from meshkit.telemetry import METRICS

KEPT_S = 24 * 3600
"""After the last word of it a log is forgotten."""
WAITING_MAX = 256
"""Logs that wait to be written; the others are not kept, and counted."""


class Whose(msgspec.Struct, frozen=True, kw_only=True):
    """A workload: whose it is, where, and whether it has ended."""

    workload_id: str
    project: str
    node_id: str
    node: str
    site: str
    ended: bool


class Tails:
    """Ends of logs as nodes tell them, the last of each workload."""

    def __init__(self) -> None:
        self._waiting: dict[str, LogTail] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def on_log(self, tail: LogTail) -> None:
        """Note the end of a log until it is written."""
        if tail.workload_id not in self._waiting and len(self._waiting) >= WAITING_MAX:
            METRICS.count("mesh_placement_logs_dropped_total")
            return
        self._waiting[tail.workload_id] = tail

    async def write(self, tx: Transaction, now: datetime) -> None:
        """Write what nodes told of their own workloads."""
        tails, self._waiting = list(self._waiting.values()), {}
        for tail in tails:
            whose = await find(tx, tail.workload_id)
            if whose is not None and whose.node_id == tail.node_id:
                await tx.change(
                    "INSERT INTO log (workload_id, number, at, text, cut, touched_at)"
                    " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (workload_id) DO UPDATE SET"
                    " number = greatest(log.number, $2), at = $3, text = $4, cut = $5, touched_at = $6",
                    *(
                        tail.workload_id,
                        tail.number,
                        tail.at,
                        tail.text.replace("\0", ""),
                        tail.cut,
                        now,
                    ),
                )


async def find(tx: Transaction, workload_id: str) -> Whose | None:
    """Return a replica, or a member of a job, by its id; nothing for any other."""
    row = await tx.row(
        "SELECT w.workload_id, e.project, w.node_id, n.name AS node, n.site,"
        "  w.state IN ('stopped', 'failed') AS ended"
        " FROM workload w JOIN endpoint e USING (endpoint_id) JOIN node n USING (node_id)"
        " WHERE w.workload_id = $1"
        " UNION ALL SELECT m.workload_id, j.project, m.node_id, n.name, n.site,"
        "  m.state IN ('stopped', 'failed')"
        " FROM member m JOIN job j USING (job_id) JOIN node n USING (node_id) WHERE m.workload_id = $1",
        workload_id,
    )
    return None if row is None else Whose(**row)


async def wish(tx: Transaction, workload_id: str, now: datetime) -> int:
    """Note one wish more, and return its number."""
    return int(
        await tx.value(
            "INSERT INTO log (workload_id, wished, touched_at) VALUES ($1, 1, $2)"
            " ON CONFLICT (workload_id) DO UPDATE SET wished = log.wished + 1, touched_at = $2"
            " RETURNING wished",
            *(workload_id, now),
        )
    )


async def read(tx: Transaction, workload_id: str) -> Row | None:
    """Return what was last told of a log: ``number``, ``at``, ``text``, ``cut``."""
    return await tx.row("SELECT number, at, text, cut FROM log WHERE workload_id = $1", workload_id)


async def wished(tx: Transaction, workload_ids: Sequence[str]) -> dict[str, int]:
    """Return the last wish for each log that anybody wished for."""
    if not workload_ids:
        return {}
    rows = await tx.rows(
        "SELECT workload_id, wished FROM log WHERE wished > 0 AND workload_id = ANY ($1)",
        list(workload_ids),
    )
    return {row["workload_id"]: row["wished"] for row in rows}


async def forget(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` logs of which nothing was heard since; return how many."""
    return await tx.change(
        "DELETE FROM log WHERE workload_id IN (SELECT workload_id FROM log WHERE touched_at < $1 LIMIT $2)",
        *(before, batch),
    )
