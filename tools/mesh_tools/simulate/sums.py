"""What placement's tables say once nothing changes any more, held against each other and against what agents are told."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import asyncpg
import msgspec
from placement.domain.fleet import WATTS_DRAWN
from placement.domain.members import BACKING_OFF, LAST_ENDS

QUIET_S: Final = 1.5
QUIET_WITHIN_S: Final = 60.0
HELD_BACK: Final = (f'"{LAST_ENDS.code}"', f'"{WATTS_DRAWN.code}"', f'"{BACKING_OFF}"')

_DIFFERENT = """
WITH taken AS (
    SELECT node_id, item ->> 0 AS device_id, sum((item ->> 1)::int) AS milli FROM (
        SELECT node_id, json_array_elements(devices::json) AS item FROM workload
         WHERE state NOT IN ('stopped', 'failed')
        UNION ALL
        SELECT node_id, json_array_elements(devices::json) FROM member WHERE holds
    ) AS held GROUP BY 1, 2
)
SELECT coalesce(d.node_id, t.node_id) AS node_id, coalesce(d.device_id, t.device_id) AS device_id,
       coalesce(d.taken_milli, 0) AS device_milli, coalesce(t.milli, 0) AS workloads_milli
  FROM device d FULL JOIN taken t ON d.node_id = t.node_id AND d.device_id = t.device_id
 WHERE coalesce(d.taken_milli, 0) <> coalesce(t.milli, 0)
"""
_THERE = """
SELECT node_id, workload_id, '' AS owner_id, devices, state <> 'stopping' AS goes, true AS holds, reasons
  FROM workload WHERE state NOT IN ('stopped', 'failed')
UNION ALL
SELECT node_id, workload_id, coalesce(job_id, lease_id), devices, state NOT IN ('stopping', 'stopped', 'failed')
       OR (step IN ('erase', 'attest') AND holds), holds, reasons
  FROM member WHERE holds OR state NOT IN ('stopped', 'failed')
"""
_CHANGES = """
SELECT (SELECT count(*) FROM outbox) AS waiting, (SELECT max(since) FROM node) AS node,
       (SELECT max(since) FROM workload) AS workload, (SELECT max(since) FROM member) AS member,
       (SELECT max(since) FROM job) AS job, (SELECT max(since) FROM lease) AS lease
"""
_RATES = """
SELECT count(*) AS decisions, count(*) FILTER (WHERE at >= $1) AS during, coalesce((
    SELECT max(many) FROM (SELECT count(*) AS many FROM decision GROUP BY date_trunc('second', at)) AS seconds
), 0) AS peak FROM decision
"""


async def rates(dsn: str, since: Any) -> dict[str, int]:
    """Return how many decisions there are, how many since then, and the most within one second."""
    connection = await asyncpg.connect(dsn)
    try:
        return dict(await connection.fetchrow(_RATES, since))
    finally:
        await connection.close()


async def quiet(dsn: str) -> bool:
    """Wait until nothing becomes anything else, and nothing waits to leave; return whether that came."""
    connection = await asyncpg.connect(dsn)
    loop = asyncio.get_running_loop()
    until, since = loop.time() + QUIET_WITHIN_S, loop.time()
    before: tuple[Any, ...] = ()
    try:
        while loop.time() < until:
            waiting, *times = tuple(await connection.fetchrow(_CHANGES))
            if waiting or tuple(times) != before:
                since, before = loop.time(), tuple(times)
            elif loop.time() - since > QUIET_S:
                return True
            await asyncio.sleep(0.25)
        return False
    finally:
        await connection.close()


async def breaches(dsn: str, told: Mapping[str, set[str]], broken: Collection[str]) -> list[str]:
    """Return where the tables differ from themselves, and from what agents are ``told`` to run, by node.

    ``broken`` are jobs of which some members are told and others are not: none is wrong where these wait.
    """
    connection = await asyncpg.connect(dsn)
    try:
        different = await connection.fetch(_DIFFERENT)
        there = await connection.fetch(_THERE)
    finally:
        await connection.close()
    found = [
        f"tables: {row['device_id']} has {row['device_milli']} thousandths taken, workloads {row['workloads_milli']}"
        for row in different
    ]
    meant, waits = _meant(there)
    for node_id in sorted(meant.keys() | told.keys()):
        one, other = meant.get(node_id, set()), told.get(node_id, set())
        missing, ghosts = sorted(one - other - waits), sorted(other - one)
        found += [
            f"told: {workload_id} is to run on {node_id}, which is not told" for workload_id in missing
        ]
        found += [
            f"told: {node_id} is to run {workload_id}, of which no table knows"
            for workload_id in ghosts
        ]
    late = {row["owner_id"] for row in there if row["workload_id"] in waits}
    return [*found, *(f"partial gang: {owner}" for owner in broken if owner not in late)]


def _meant(there: Sequence[Any]) -> tuple[dict[str, set[str]], set[str]]:
    """Return what each node should be told to run; and what it need not be told of yet.

    What has another's place begins once that is gone; so does a job's next attempt.
    """
    leaving: dict[str, set[str]] = {}
    for row in there:
        if not row["holds"]:
            leaving.setdefault(row["node_id"], set()).update(_devices(row))
    meant: dict[str, set[str]] = {}
    waits: set[str] = set()
    for row in there:
        if row["goes"]:
            meant.setdefault(row["node_id"], set()).add(row["workload_id"])
            held_back = any(code in row["reasons"] for code in HELD_BACK)
            if held_back or leaving.get(row["node_id"], set()) & _devices(row):
                waits.add(row["workload_id"])
    return meant, waits


def _devices(row: Any) -> set[str]:
    return {device_id for device_id, *_ in msgspec.json.decode(row["devices"])}
