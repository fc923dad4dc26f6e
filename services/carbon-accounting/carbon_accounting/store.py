"""All of the SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from mesh_contracts import wire
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.metering import RatedRow
from mesh_contracts.node import NodeJoined
from meshkit.store import Row, Transaction

from carbon_accounting.domain.meter import Interval, Reading
from carbon_accounting.domain.split import OPERATOR, weight

SETTLE_LOCK = 0x63617262
"""One settlement at a time: carries and sums follow one another."""

_INTERVAL = (
    "cause_id, node_id, site, start_at, end_at, energy_uj, idle_uj, quality, source, traceparent"
)


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose share is not settled yet."""

    request_id: str
    organization: str
    project: str
    weight: int
    traceparent: str | None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is settled with."""

    request_id: str
    energy_uj: int
    carbon_ug: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it is kept, settled or not."""

    row: RatedRow
    site: str
    project: str
    node_id: str | None
    jurisdiction: str | None
    settled_at: datetime | None
    energy_uj: int | None
    carbon_ug: int | None
    factor_id: str | None
    quality: str | None
    energy_source: str | None


async def one_at_a_time(tx: Transaction) -> None:
    """Wait until no other settlement is under way; held until this transaction ends."""
    await tx.row("SELECT pg_advisory_xact_lock($1)", SETTLE_LOCK)


async def keep_project(tx: Transaction, fact: ProjectAdmitted) -> None:
    """Know a project by its id and names."""
    await tx.change(
        "INSERT INTO project (project_id, organization, organization_name, name) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (project_id) DO UPDATE SET name = $4, organization_name = $3",
        *(fact.key, fact.organization or "", fact.organization_name, fact.name),
    )


async def keep_node(tx: Transaction, fact: NodeJoined) -> None:
    """Know where a node stands, and so which grid feeds it."""
    await tx.change(
        "INSERT INTO node (node_id, site, jurisdiction) VALUES ($1, $2, $3)"
        " ON CONFLICT (node_id) DO UPDATE SET site = $2, jurisdiction = $3",
        *(fact.node_id, fact.site, fact.jurisdiction),
    )


async def load_reading(tx: Transaction, node_id: str) -> Reading | None:
    """Return a node's last reading, or nothing."""
    row = await tx.row(
        "SELECT epoch, measured_at, counter_uj, idle_counter_uj, quality FROM meter"
        " WHERE node_id = $1 FOR UPDATE",
        node_id,
    )
    return None if row is None else Reading(**row)


async def keep_reading(tx: Transaction, node_id: str, reading: Reading) -> None:
    """Keep a node's last reading."""
    await tx.change(
        "INSERT INTO meter (node_id, epoch, measured_at, counter_uj, idle_counter_uj, quality)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (node_id) DO UPDATE"
        " SET epoch = $2, measured_at = $3, counter_uj = $4, idle_counter_uj = $5, quality = $6",
        *(node_id, reading.epoch, reading.measured_at, reading.counter_uj),
        *(reading.idle_counter_uj, reading.quality),
    )


async def keep_interval(tx: Transaction, interval: Interval) -> None:
    """Keep an interval that is to be settled."""
    await tx.change(
        f"INSERT INTO interval ({_INTERVAL}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",  # noqa: S608 - a constant
        *(getattr(interval, name) for name in interval.__struct_fields__),
    )


async def keep_requests(tx: Transaction, site: str, rows: Sequence[RatedRow]) -> None:
    """Keep ledger lines whose share of energy is to be settled; each request once."""
    await tx.change_many(
        "INSERT INTO request (request_id, organization, project, site, node_id, ended_at, weight, line)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (request_id) DO NOTHING",
        [
            (
                *(row.usage.request_id, row.usage.organization, row.usage.project, site),
                *(row.usage.node_id, row.usage.ended_at),
                *(
                    weight(row.usage.prompt_tokens, row.usage.completion_tokens),
                    wire.encode(row).decode(),
                ),
            )
            for row in rows
        ],
    )


async def next_interval(tx: Transaction, ended_before: datetime) -> Interval | None:
    """Return the oldest interval to settle that ended before, or nothing."""
    row = await tx.row(
        f"SELECT {_INTERVAL} FROM interval WHERE settled_at IS NULL AND held IS NULL AND end_at <= $1"  # noqa: S608 - a constant
        " ORDER BY end_at, cause_id LIMIT 1",
        ended_before,
    )
    return None if row is None else Interval(**row)


async def jurisdiction_of(tx: Transaction, node_id: str) -> str | None:
    """Return where a node stands, or nothing where it is not known."""
    found: str | None = await tx.value("SELECT jurisdiction FROM node WHERE node_id = $1", node_id)
    return found


async def hold(tx: Transaction, interval: Interval, why: str) -> None:
    """Leave an interval unsettled, and say why."""
    await tx.change("UPDATE interval SET held = $2 WHERE cause_id = $1", interval.cause_id, why)


async def release_held(tx: Transaction) -> int:
    """Try again what was held; return how many intervals."""
    return await tx.change(
        "UPDATE interval SET held = NULL WHERE held IS NOT NULL AND settled_at IS NULL"
    )


async def load_waiting(tx: Transaction, interval: Interval, limit: int) -> list[Waiting]:
    """Return the node's requests that ended by the end of the interval and are not settled.

    A line heard after the interval in which it ended was settled is among those of the next one.
    """
    rows = await tx.rows(
        "SELECT request_id, organization, project, weight,"
        " line::json -> 'usage' ->> 'traceparent' AS traceparent FROM request"
        " WHERE node_id = $1 AND ended_at <= $2 AND settled_at IS NULL ORDER BY request_id LIMIT $3",
        *(interval.node_id, interval.end_at, limit),
    )
    return [Waiting(**row) for row in rows]


async def settle_requests(
    tx: Transaction, interval: Interval, shares: Sequence[Share], factor_id: str, now: datetime
) -> None:
    """Write down what requests are settled with."""
    await tx.change_many(
        "UPDATE request SET settled_at = $2, energy_uj = $3, carbon_ug = $4, factor_id = $5, quality = $6,"
        " energy_source = $7 WHERE request_id = $1 AND settled_at IS NULL",
        [
            (
                *(share.request_id, now, share.energy_uj, share.carbon_ug),
                *(factor_id, interval.quality, interval.source),
            )
            for share in shares
        ],
    )


async def settle_interval(
    tx: Transaction, interval: Interval, *, factor_id: str, operator_uj: int, now: datetime
) -> None:
    """Write down that an interval is settled. The table refuses sums that do not close."""
    await tx.change(
        "UPDATE interval SET settled_at = $2, factor_id = $3, projects_uj = $4, operator_uj = $5"
        " WHERE cause_id = $1",
        *(interval.cause_id, now, factor_id, interval.energy_uj - operator_uj, operator_uj),
    )


async def load_carry(tx: Transaction, account: str, factor_id: str) -> int:
    """Return what is carried of an account's carbon by one factor."""
    found = await tx.value(
        "SELECT remainder FROM carry WHERE account = $1 AND factor_id = $2", account, factor_id
    )
    return int(found or 0)


async def book(
    tx: Transaction,
    account: str,
    interval: Interval,
    *,
    factor_id: str,
    requests: int,
    energy_uj: int,
    carbon_ug: int,
    remainder: int,
) -> None:
    """Add to an account, and keep what is carried."""
    await tx.change(
        "INSERT INTO carry (account, factor_id, remainder) VALUES ($1, $2, $3)"
        " ON CONFLICT (account, factor_id) DO UPDATE SET remainder = $3",
        *(account, factor_id, remainder),
    )
    await tx.change(
        "INSERT INTO account (account, requests, energy_uj, carbon_ug, estimated)"
        " VALUES ($1, $2, $3::bigint, $4::bigint, $5) ON CONFLICT (account) DO UPDATE"
        " SET requests = account.requests + $2, energy_uj = account.energy_uj + $3::bigint,"
        " carbon_ug = account.carbon_ug + $4::bigint, estimated = account.estimated OR $5",
        *(account, requests, energy_uj, carbon_ug, interval.quality == "estimated"),
    )


async def load_request(tx: Transaction, request_id: str) -> Kept | None:
    """Return a request as it is kept, or nothing."""
    row = await tx.row(
        "SELECT r.line, r.site, r.project, r.node_id, n.jurisdiction, r.settled_at, r.energy_uj,"
        " r.carbon_ug, r.factor_id, r.quality, r.energy_source FROM request r"
        " LEFT JOIN node n USING (node_id) WHERE request_id = $1",
        request_id,
    )
    if row is None:
        return None
    fields: dict[str, Any] = dict(row)
    return Kept(row=wire.decode(fields.pop("line").encode(), RatedRow), **fields)


async def held_of(tx: Transaction, node_id: str | None) -> str | None:
    """Return why a node's intervals are not settled, or nothing."""
    why: str | None = await tx.value(
        "SELECT held FROM interval WHERE node_id = $1 AND settled_at IS NULL AND held IS NOT NULL LIMIT 1",
        node_id,
    )
    return why


async def list_accounts(tx: Transaction, project: str | None, after: str, limit: int) -> list[Row]:
    """Return at most ``limit`` projects' sums by project id, after ``after``."""
    return await tx.rows(
        "SELECT a.account, coalesce(p.name, a.account) AS name, a.requests, a.energy_uj, a.carbon_ug,"
        " a.estimated FROM account a LEFT JOIN project p ON p.project_id = a.account"
        " WHERE a.account <> $4 AND ($1::text IS NULL OR a.account = $1) AND a.account > $2"
        " ORDER BY a.account LIMIT $3",
        *(project, after, limit, OPERATOR),
    )


async def operator_account(tx: Transaction) -> tuple[int, int]:
    """Return the energy and the carbon that stay with the operator."""
    row = await tx.row("SELECT energy_uj, carbon_ug FROM account WHERE account = $1", OPERATOR)
    return (0, 0) if row is None else (int(row["energy_uj"]), int(row["carbon_ug"]))


async def forget_settled(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` requests settled before; the sums stay. Return how many."""
    return await tx.change(
        "DELETE FROM request WHERE request_id IN (SELECT request_id FROM request"
        " WHERE settled_at < $1 LIMIT $2)",
        *(before, batch),
    )
