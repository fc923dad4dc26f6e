"""The SQL of leases."""

# ruff: noqa: S608 - statements are put together from constants of this file alone

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mesh_contracts.placement import Reason
from meshkit.errors import StaleSnapshot
from meshkit.store import Row, Transaction

from placement.domain.leases import OVER, Access, LeaseWish, WantedLease
from placement.domain.members import Place, Turn
from placement.store import dumps, loads

REASONS_MAX = 16
_LEASE = "SELECT l.*, p.name AS project_name FROM lease l JOIN project p ON p.project_id = l.project"


async def keep(tx: Transaction, lease: WantedLease) -> None:
    """Write a new lease down."""
    await tx.change(
        "INSERT INTO lease (lease_id, organization, project, name, site, wished, priority, state,"
        " created_at, since, starts_at, waits_until, due_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12)",
        *(lease.lease_id, lease.organization, lease.project, lease.name, lease.site),
        *(dumps(lease.wished), lease.priority, lease.state, lease.created_at),
        *(lease.starts_at, lease.waits_until, lease.due_at),
    )


async def load(tx: Transaction, lease_id: str) -> WantedLease | None:
    """Return one lease by id, or nothing."""
    row = await tx.row(f"{_LEASE} WHERE l.lease_id = $1", lease_id)
    return None if row is None else _lease(row)


async def load_all(tx: Transaction, ids: Sequence[str]) -> dict[str, WantedLease]:
    """Return those leases that there are, by id."""
    rows = await tx.rows(f"{_LEASE} WHERE l.lease_id = ANY($1::text[])", list(ids))
    return {row["lease_id"]: _lease(row) for row in rows}


async def find(tx: Transaction, project: str | None, text: str) -> list[WantedLease]:
    """Return the lease of that id, or the newest of that name in ``project`` (in each, where it is ``None``)."""
    rows = await tx.rows(
        f"SELECT DISTINCT ON (f.project) f.* FROM ({_LEASE}) AS f WHERE (f.lease_id = $2 OR f.name = $2)"
        " AND ($1::text IS NULL OR f.project = $1) ORDER BY f.project, f.lease_id DESC LIMIT 2",
        *(project, text),
    )
    return [_lease(row) for row in rows]


async def named(tx: Transaction, project: str, name: str) -> bool:
    """Tell whether a lease of the project that has not ended has this name."""
    found = await tx.value(
        "SELECT 1 FROM lease WHERE project = $1 AND name = $2 AND ended_at IS NULL", project, name
    )
    return found is not None


async def count(tx: Transaction, project: str) -> int:
    """Return how many leases of a project have not ended."""
    return int(
        await tx.value("SELECT count(*) FROM lease WHERE project = $1 AND ended_at IS NULL", project)
    )


async def listed(
    tx: Transaction, site: str, project: str | None, after: str, limit: int, *, ended: bool
) -> list[WantedLease]:
    """Return at most ``limit`` leases by name and id, after ``name id``; those that have ended where asked for."""
    rows = await tx.rows(
        f"{_LEASE} WHERE l.site = $1 AND ($2::text IS NULL OR l.project = $2) AND ($3 OR l.ended_at IS NULL)"
        " AND l.name || ' ' || l.lease_id > $4 ORDER BY l.name || ' ' || l.lease_id LIMIT $5",
        *(site, project, ended, after, limit),
    )
    return [_lease(row) for row in rows]


async def waiting(tx: Transaction, site: str) -> list[WantedLease]:
    """Return the leases that the engine has in its queue, what is worth most first, then the oldest."""
    rows = await tx.rows(
        f"{_LEASE} WHERE l.site = $1 AND l.place = 'waits' ORDER BY l.priority DESC, l.created_at, l.lease_id",
        site,
    )
    return [_lease(row) for row in rows]


async def seated(tx: Transaction, site: str) -> list[WantedLease]:
    """Return the leases that have their servers, in the order they were made."""
    rows = await tx.rows(
        f"{_LEASE} WHERE l.site = $1 AND l.place = 'sits' ORDER BY l.created_at, l.lease_id", site
    )
    return [_lease(row) for row in rows]


async def due(tx: Transaction, site: str, now: datetime) -> list[str]:
    """Return the leases whose time begins, whose patience or whose time is over."""
    rows = await tx.rows(
        "SELECT lease_id FROM lease WHERE site = $1 AND ended_at IS NULL AND ("
        "  (state = 'requested' AND ((place IN ('none', 'booked') AND starts_at <= $2)"
        "   OR (place = 'waits' AND waits_until <= $2)))"
        "  OR (state IN ('requested', 'reserved', 'provisioning', 'active') AND due_at <= $2))"
        " ORDER BY priority DESC, created_at, lease_id",
        *(site, now),
    )
    return [row["lease_id"] for row in rows]


async def with_given_up(tx: Transaction, site: str, lost_before: datetime) -> list[str]:
    """Return the leases on their way out that a server holds up which was lost before then."""
    rows = await tx.rows(
        "SELECT DISTINCT l.lease_id FROM lease l JOIN member m USING (lease_id) JOIN node n USING (node_id)"
        " WHERE n.site = $1 AND n.state = 'lost' AND n.since <= $2 AND m.step <> 'done'"
        " AND l.state IN ('releasing', 'erasing', 'attesting') ORDER BY l.lease_id",
        *(site, lost_before),
    )
    return [row["lease_id"] for row in rows]


async def turn(tx: Transaction, lease: WantedLease, to: Turn, now: datetime) -> None:
    """Make a lease what it turns into."""
    over, active = to.state in OVER, to.state == "active" and lease.state != "active"
    await tx.change(
        "UPDATE lease SET state = $2, reasons = $3, spoilt = spoilt OR $4,"
        " since = CASE WHEN state = $2 THEN since ELSE $5 END,"
        " active_at = CASE WHEN $6 THEN $5 ELSE active_at END,"
        " ended_at = CASE WHEN $7 THEN coalesce(ended_at, $5) END,"
        " position = CASE WHEN $2 = 'requested' THEN position END,"
        " expected_start_at = CASE WHEN $2 = 'requested' THEN expected_start_at END WHERE lease_id = $1",
        *(lease.lease_id, to.state, dumps(list(to.reasons)), to.spoilt, now, active, over),
    )


async def reserve(tx: Transaction, lease: WantedLease, now: datetime) -> None:
    """Note that a lease has its servers."""
    await tx.change(
        "UPDATE lease SET state = 'reserved', since = $2, reasons = '[]', place = 'sits',"
        " position = NULL, expected_start_at = NULL WHERE lease_id = $1",
        *(lease.lease_id, now),
    )


async def set_place(tx: Transaction, lease_id: str, place: Place) -> None:
    """Note what the engine has of a lease."""
    await tx.change("UPDATE lease SET place = $2 WHERE lease_id = $1", lease_id, place)


async def wait(
    tx: Transaction,
    lease_id: str,
    reasons: Sequence[Reason],
    position: int | None,
    start: datetime | None,
) -> None:
    """Note that a lease waits: why, behind how many, and until when at most where that is known."""
    await tx.change(
        "UPDATE lease SET place = 'waits', reasons = $2, position = $3, expected_start_at = $4"
        " WHERE lease_id = $1 AND state = 'requested'",
        *(lease_id, dumps(list(reasons)), position, start),
    )


async def keep_access(tx: Transaction, workload_id: str, access: Access) -> None:
    """Note where a server of a lease is reached."""
    await tx.change(
        "INSERT INTO access (workload_id, address, console) VALUES ($1, $2, $3)"
        " ON CONFLICT (workload_id) DO UPDATE SET address = $2, console = $3",
        *(workload_id, access.address, access.console),
    )


async def access(tx: Transaction, lease_id: str) -> dict[str, Access]:
    """Return where a lease's servers are reached, by workload."""
    rows = await tx.rows(
        "SELECT a.workload_id, a.address, a.console FROM access a JOIN member m USING (workload_id)"
        " WHERE m.lease_id = $1",
        lease_id,
    )
    return {row["workload_id"]: Access(row["address"], row["console"]) for row in rows}


async def spoil(tx: Transaction, lease_id: str, reason: Reason) -> None:
    """Have a lease end as failed, for this reason and those it has."""
    lease = await load(tx, lease_id)
    assert lease is not None, "the table's foreign key holds"
    await tx.change(
        "UPDATE lease SET spoilt = true, reasons = $2 WHERE lease_id = $1",
        *(lease_id, dumps([*lease.reasons, reason][-REASONS_MAX:])),
    )


async def wished(tx: Transaction, lease: WantedLease) -> None:
    """Count one change that somebody asked for. Raises StaleSnapshot where it moved since it was read."""
    changed = await tx.change(
        "UPDATE lease SET generation = generation + 1 WHERE lease_id = $1 AND generation = $2",
        *(lease.lease_id, lease.generation),
    )
    if changed == 0:
        raise StaleSnapshot(lease.lease_id)


async def forget(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` leases that ended before, with their members; return how many."""
    return await tx.change(
        "DELETE FROM lease WHERE lease_id IN (SELECT lease_id FROM lease WHERE ended_at < $1"
        " AND place = 'none' ORDER BY ended_at LIMIT $2)",
        *(before, batch),
    )


def _lease(row: Row) -> WantedLease:
    fields: dict[str, Any] = dict(row)
    fields["wished"] = loads(fields["wished"], LeaseWish)
    fields["reasons"] = tuple(loads(fields["reasons"], list[Reason]))
    return WantedLease(**fields)
