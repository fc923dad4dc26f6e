"""The SQL of members: what jobs and leases have on nodes, and what that takes of them."""

# ruff: noqa: S608 - statements are put together from constants of this file alone

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from mesh_contracts.placement import Reason
from meshkit.store import Row, Transaction

from placement.domain.fleet import ENDED, Held
from placement.domain.jobs import WantedJob
from placement.domain.members import Came, Member, Step, Taken
from placement.store import dumps, loads
from placement.sums import give_back

_MEMBER = (
    "SELECT m.workload_id, coalesce(m.job_id, m.lease_id) AS owner_id,"
    " CASE WHEN m.job_id IS NULL THEN 'lease' ELSE 'job' END AS kind, m.number, m.attempt, m.node_id,"
    " m.state, m.step, m.holds, m.since, m.created_at, m.started_at, m.exit_code, m.reasons,"
    " m.replaced_by,"
    " m.devices, m.memory_mib, m.cpu_milli, n.name AS node, n.state AS node_state, n.since AS node_since,"
    " n.reasons AS node_reasons, n.drain_until FROM member m JOIN node n USING (node_id)"
)
Seating = tuple[str, Taken, tuple[Reason, ...]]
"""The job or lease that a member is of, what it takes, and why it does not begin yet, if so."""
_LAST = (
    "(m.replaced_by IS NULL OR EXISTS (SELECT FROM member AS next"
    " WHERE next.workload_id = m.replaced_by AND next.replaced_by IS NULL))"
)
_IN_ORDER = "ORDER BY m.attempt, m.number, m.created_at, m.workload_id"
_HELD_BACK = "m.holds AND m.state = 'assigned' AND m.reasons <> '[]'"
_THERE = "(m.holds OR m.state NOT IN ('stopped', 'failed'))"


async def of_owner(tx: Transaction, owner_id: str, attempt: int = 0) -> list[Member]:
    """Return the members of a job (of that attempt, and what is still there of others) or of a lease.

    Of one member's predecessors in that attempt only the last.
    """
    column = "job_id" if owner_id.startswith("job_") else "lease_id"
    rows = await tx.rows(
        f"{_MEMBER} WHERE m.{column} = $1 AND ({_THERE} OR m.attempt = $2 OR m.lease_id IS NOT NULL)"
        f" AND {_LAST} {_IN_ORDER}",
        *(owner_id, attempt),
    )
    return [_member(row) for row in rows]


async def of_jobs(tx: Transaction, jobs: Iterable[WantedJob]) -> dict[str, list[Member]]:
    """Return what ``of_owner`` does of each of some jobs and its last attempt, by the job's id."""
    found: dict[str, list[Member]] = {one.job_id: [] for one in jobs}
    rows = await tx.rows(
        f"{_MEMBER} JOIN job j USING (job_id) WHERE m.job_id = ANY($1::text[])"
        f" AND ({_THERE} OR m.attempt = j.attempt) AND {_LAST} {_IN_ORDER}",
        list(found),
    )
    for row in rows:
        found[row["owner_id"]].append(_member(row))
    return found


async def of_attempt(tx: Transaction, job: WantedJob) -> list[Member]:
    """Return the members of a job's last attempt, without those that others have replaced."""
    found = await of_owner(tx, job.job_id, job.attempt)
    return [one for one in found if one.attempt == job.attempt and one.replaced_by is None]


async def load(tx: Transaction, workload_id: str) -> Member | None:
    """Return one member, or nothing."""
    row = await tx.row(f"{_MEMBER} WHERE m.workload_id = $1", workload_id)
    return None if row is None else _member(row)


async def on_node(tx: Transaction, node_id: str | None = None) -> list[Member]:
    """Return what is there of jobs and leases: on one node, or everywhere; oldest first."""
    return await on_nodes(tx, None if node_id is None else [node_id])


async def on_nodes(tx: Transaction, node_ids: Sequence[str] | None) -> list[Member]:
    """Return what is there of jobs and leases: on some nodes, or everywhere; oldest first."""
    # Two statements: one plan for both would read the whole table for a single node.
    there, order = f"{_MEMBER} WHERE {_THERE}", "ORDER BY m.created_at, m.workload_id"
    if node_ids is None:
        rows = await tx.rows(f"{there} {order}")
    else:
        rows = await tx.rows(f"{there} AND m.node_id = ANY($1::text[]) {order}", list(node_ids))
    return [_member(row) for row in rows]


async def load_all(tx: Transaction, ids: Sequence[str]) -> list[Member]:
    """Return those of these members that there are."""
    if not ids:
        return []
    return [
        _member(row) for row in await tx.rows(f"{_MEMBER} WHERE m.workload_id = ANY($1)", list(ids))
    ]


async def firsts(tx: Transaction, job_ids: Sequence[str]) -> dict[tuple[str, int], str]:
    """Return the address of the server of each attempt's first member, by job and attempt."""
    rows = await tx.rows(
        "SELECT m.job_id, m.attempt, n.address FROM member m JOIN node n USING (node_id)"
        " WHERE m.job_id = ANY ($1) AND m.number = 0 AND m.replaced_by IS NULL",
        list(job_ids),
    )
    return {(row["job_id"], row["attempt"]): row["address"] for row in rows if row["address"]}


async def rehearsed(tx: Transaction, lease_id: str) -> bool:
    """Tell whether any server of a lease is not there, but rehearsed."""
    found = await tx.value(
        "SELECT EXISTS (SELECT FROM member m JOIN device d USING (node_id)"
        " WHERE m.lease_id = $1 AND d.rehearsal)",
        lease_id,
    )
    return bool(found)


async def owners_on(tx: Transaction, node_ids: Iterable[str], freed: Iterable[str] = ()) -> list[str]:
    """Return the jobs and leases that have anything on any of these nodes, or are held back on those ``freed``."""
    rows = await tx.rows(
        f"SELECT DISTINCT coalesce(m.job_id, m.lease_id) AS owner FROM member m WHERE {_THERE} AND ("
        f"  m.node_id = ANY($1::text[]) OR (m.node_id = ANY($2::text[]) AND {_HELD_BACK})) ORDER BY owner",
        *(list(node_ids), list(freed)),
    )
    return [row["owner"] for row in rows]


async def owners_in_need(tx: Transaction, site: str, lost_before: datetime, now: datetime) -> list[str]:
    """Return the jobs and leases with members on nodes long lost (a lease: once), and jobs on nodes to be empty."""
    rows = await tx.rows(
        "SELECT DISTINCT coalesce(m.job_id, m.lease_id) AS owner FROM member m JOIN node n USING (node_id)"
        "  LEFT JOIN lease l USING (lease_id)"
        " WHERE n.site = $1 AND m.state NOT IN ('stopped', 'failed') AND ("
        "  (n.state = 'lost' AND n.since <= $2 AND (m.lease_id IS NULL"
        "    OR (l.state IN ('reserved', 'provisioning', 'active') AND l.reasons NOT LIKE '%\"node_lost\"%')))"
        "  OR (n.state = 'draining' AND n.drain_until <= $3 AND m.lease_id IS NULL AND m.state <> 'stopping'))"
        " ORDER BY owner",
        *(site, lost_before, now),
    )
    return [row["owner"] for row in rows]


async def leaving(tx: Transaction, site: str) -> dict[str, set[str]]:
    """Return the devices, by node, of those who are to end and whose place is another's already."""
    rows = await tx.rows(
        "SELECT m.node_id, m.devices FROM member m WHERE NOT m.holds AND m.state NOT IN ('stopped', 'failed')"
        " AND $1 = (SELECT site FROM node n WHERE n.node_id = m.node_id)",
        site,
    )
    devices: dict[str, set[str]] = {}
    for row in rows:
        held = loads(row["devices"], list[Held])
        devices.setdefault(row["node_id"], set()).update(one.device_id for one in held)
    return devices


async def owners_held_back(tx: Transaction, site: str) -> list[str]:
    """Return the jobs and leases with members that have their seats and are not begun, as something is to end first."""
    rows = await tx.rows(
        "SELECT DISTINCT coalesce(m.job_id, m.lease_id) AS owner FROM member m JOIN node n USING (node_id)"
        f" WHERE n.site = $1 AND {_HELD_BACK} ORDER BY owner",
        site,
    )
    return [row["owner"] for row in rows]


async def seat(tx: Transaction, seats: Sequence[Seating], *, attempt: int, now: datetime) -> None:
    """Write members down where they sit; what they take is taken already (``nodes.take``)."""
    if not seats:
        return
    rows = [
        (
            *(one.workload_id, owner_id, one.number, one.node_id),
            *(dumps(one.devices), one.memory_mib, one.cpu_milli, dumps(list(reasons))),
        )
        for owner_id, one, reasons in seats
    ]
    await tx.change(
        "INSERT INTO member (workload_id, job_id, lease_id, number, attempt, node_id, state, since, created_at,"
        " devices, memory_mib, cpu_milli, reasons) SELECT workload_id, CASE WHEN owner LIKE 'job\\_%' THEN owner"
        " END, CASE WHEN owner LIKE 'lease\\_%' THEN owner END, number, $9, node_id, 'assigned', $10, $10,"
        " devices, memory_mib, cpu_milli, reasons FROM unnest($1::text[], $2::text[], $3::integer[],"
        " $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[]) AS row (workload_id, owner, number,"
        " node_id, devices, memory_mib, cpu_milli, reasons)",
        *(list(column) for column in zip(*rows, strict=True)),
        *(attempt, now),
    )


async def replaced(tx: Transaction, pairs: Sequence[tuple[Member, Taken]]) -> None:
    """Note which members go on as which."""
    await tx.change_many(
        "UPDATE member SET replaced_by = $2 WHERE workload_id = $1",
        [(before.workload_id, after.workload_id) for before, after in pairs],
    )


async def move_all(
    tx: Transaction, moves: Sequence[tuple[Member, str, Sequence[Reason]]], now: datetime
) -> None:
    """Put members in other states, each for reasons of its own; a job's that has ended holds nothing any more."""
    if not moves:
        return
    rows = [(item.workload_id, state, dumps(list(reasons))) for item, state, reasons in moves]
    await tx.change(
        "UPDATE member SET since = CASE WHEN state = moved.to_state THEN since ELSE $4 END,"
        " state = moved.to_state, reasons = moved.why, holds = holds AND NOT"
        "  (lease_id IS NULL AND moved.to_state = ANY($5::text[]))"
        " FROM unnest($1::text[], $2::text[], $3::text[]) AS moved (id, to_state, why)"
        " WHERE workload_id = moved.id",
        *(list(column) for column in zip(*rows, strict=True)),
        *(now, sorted(ENDED)),
    )
    ended = (item for item, state, _ in moves if state in ENDED and item.kind == "job")
    await _give_back(tx, [item for item in ended if item.holds])


async def stop_all(tx: Transaction, items: Sequence[Member], now: datetime) -> None:
    """Have members end; one that is held back has: its node has never heard of it."""
    await move_all(tx, [(one, _stopped(one), one.reasons) for one in items], now)


def _stopped(item: Member) -> str:
    return "stopped" if item.held_back else "stopping"


async def come(tx: Transaction, item: Member, to: Came, now: datetime) -> None:
    """Note what a member has come to, as its node tells it."""
    gives_back = to.state in ENDED and item.kind == "job"
    await tx.change(
        "UPDATE member SET since = CASE WHEN state = $2 THEN since ELSE $7 END, state = $2, reasons = $3,"
        " holds = holds AND NOT $4, exit_code = $5,"
        " started_at = CASE WHEN $6 THEN coalesce(started_at, $7) ELSE started_at END WHERE workload_id = $1",
        *(item.workload_id, to.state, dumps(list(to.reasons)), gives_back),
        *(to.exit_code, to.begun, now),
    )
    if gives_back and item.holds:
        await _give_back(tx, [item])


async def step(
    tx: Transaction, item: Member, to: Step, now: datetime, reasons: Sequence[Reason] = ()
) -> None:
    """Take a leased server one step on; one that is done holds nothing any more."""
    await tx.change(
        "UPDATE member SET step = $2, since = $3, holds = $4, reasons = $5 WHERE workload_id = $1",
        *(item.workload_id, to, now, item.holds and to != "done", dumps(list(reasons or item.reasons))),
    )
    if to == "done" and item.holds:
        await _give_back(tx, [item])


async def yield_places(tx: Transaction, items: Sequence[Member], now: datetime, reason: Reason) -> None:
    """Have a job's members end whose place another has got already."""
    await move_all(tx, [(one, _stopped(one), (reason,)) for one in items], now)
    leaving = [one for one in items if not one.held_back]
    await tx.change(
        "UPDATE member SET holds = false WHERE workload_id = ANY($1::text[])",
        [one.workload_id for one in leaving],
    )
    await _give_back(tx, [one for one in leaving if one.holds])


async def _give_back(tx: Transaction, items: Sequence[Member]) -> None:
    if not items:
        return
    memory: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    for one in items:
        memory[one.node_id] += one.memory_mib
        cpu[one.node_id] += one.cpu_milli
    node_ids = sorted(memory)
    await tx.change(
        "UPDATE node SET memory_taken_mib = memory_taken_mib - given.memory_mib,"
        " cpu_taken_milli = cpu_taken_milli - given.cpu_milli"
        " FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS given (id, memory_mib, cpu_milli)"
        " WHERE node_id = given.id",
        *(node_ids, [memory[one] for one in node_ids], [cpu[one] for one in node_ids]),
    )
    await give_back(tx, [(one.node_id, held) for one in items for held in one.devices])


def _member(row: Row) -> Member:
    # A row is its reader's own: a large gang is read often.
    row["devices"] = _all(row["devices"], list[Held])
    row["reasons"] = _all(row["reasons"], list[Reason])
    row["node_reasons"] = _all(row["node_reasons"], list[Reason])
    return Member(**row)


def _all(said: str, kind: Any) -> tuple[Any, ...]:
    return () if said == "[]" else tuple(loads(said, kind))
