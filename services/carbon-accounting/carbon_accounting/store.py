"""All of the SQL that settles; what asks read is in ``reading``."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from mesh_contracts import wire
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.metering import RatedRow
from mesh_contracts.node import NodeJoined
from meshkit.store import Row, Transaction

from carbon_accounting.domain.meter import Interval, Reading
from carbon_accounting.domain.serving import Span
from carbon_accounting.domain.split import Division, weight

SETTLE_LOCK = 0x63617262
"""One settlement at a time: carries and sums follow one another."""

_INTERVAL = (
    "cause_id, node_id, site, start_at, end_at, energy_uj, idle_uj, quality, source, traceparent,"
    " starting_uj, full_power_w"
)


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose share is not settled yet."""

    request_id: str
    organization: str
    project: str
    weight: int
    span: Span
    traceparent: str | None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is settled with."""

    request_id: str
    energy_uj: int
    carbon_ug: int


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
        "SELECT epoch, measured_at, counter_uj, idle_counter_uj, quality, starting_counter_uj FROM meter"
        " WHERE node_id = $1 FOR UPDATE",
        node_id,
    )
    return None if row is None else Reading(**row)


async def keep_reading(tx: Transaction, node_id: str, reading: Reading) -> None:
    """Keep a node's last reading."""
    await tx.change(
        "INSERT INTO meter"
        " (node_id, epoch, measured_at, counter_uj, idle_counter_uj, quality, starting_counter_uj)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (node_id) DO UPDATE SET epoch = $2,"
        " measured_at = $3, counter_uj = $4, idle_counter_uj = $5, quality = $6, starting_counter_uj = $7",
        *(node_id, reading.epoch, reading.measured_at, reading.counter_uj),
        *(reading.idle_counter_uj, reading.quality, reading.starting_counter_uj),
    )


async def keep_interval(tx: Transaction, interval: Interval) -> None:
    """Keep an interval that is to be settled."""
    await tx.change(
        f"INSERT INTO interval ({_INTERVAL}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",  # noqa: S608 - a constant
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


async def release_held(tx: Transaction, node_id: str | None = None) -> int:
    """Try again what was held, of one node or of all; return how many intervals."""
    return await tx.change(
        "UPDATE interval SET held = NULL WHERE held IS NOT NULL AND settled_at IS NULL"
        " AND ($1::text IS NULL OR node_id = $1)",
        node_id,
    )


async def load_waiting(tx: Transaction, interval: Interval, limit: int) -> list[Waiting]:
    """Return the node's requests that ended by the end of the interval and are not settled.

    A line heard after the interval in which it ended was settled is among those of the next one.
    """
    rows = await tx.rows(
        "SELECT request_id, organization, project, weight, line FROM request"
        " WHERE node_id = $1 AND ended_at <= $2 AND settled_at IS NULL ORDER BY request_id LIMIT $3",
        *(interval.node_id, interval.end_at, limit),
    )
    return [_waiting(row) for row in rows]


def _waiting(row: Row) -> Waiting:
    usage = wire.decode(row.pop("line").encode(), RatedRow).usage
    sent_at = usage.started_at + timedelta(microseconds=usage.queue_us or 0)
    return Waiting(**row, span=(sent_at, usage.ended_at), traceparent=usage.traceparent)


async def settle_requests(
    tx: Transaction, interval: Interval, shares: Sequence[Share], factor_id: str, now: datetime
) -> None:
    """Write down what requests are settled with, and where their node stood."""
    await tx.change_many(
        "UPDATE request SET settled_at = $2, energy_uj = $3, carbon_ug = $4, factor_id = $5, quality = $6,"
        " energy_source = $7, jurisdiction = (SELECT jurisdiction FROM node WHERE node_id = request.node_id)"
        " WHERE request_id = $1 AND settled_at IS NULL",
        [
            (
                *(share.request_id, now, share.energy_uj, share.carbon_ug),
                *(factor_id, interval.quality, interval.source),
            )
            for share in shares
        ],
    )


async def settle_interval(
    tx: Transaction, interval: Interval, division: Division, *, factor_id: str, now: datetime
) -> None:
    """Write down that an interval is settled. The table refuses sums that do not close."""
    await tx.change(
        "UPDATE interval SET settled_at = $2, factor_id = $3, projects_uj = $4, operator_uj = $5,"
        " non_serving_uj = $6 WHERE cause_id = $1",
        *(interval.cause_id, now, factor_id, sum(division.shares.values())),
        *(division.operator_uj, division.non_serving_uj),
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


async def forget_requests(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` requests that ended before; the sums stay. Return how many."""
    return await tx.change(
        "DELETE FROM request WHERE request_id IN (SELECT request_id FROM request"
        " WHERE ended_at < $1 LIMIT $2)",
        *(before, batch),
    )


async def forget_intervals(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` settled intervals that ended before; the sums stay. Return how many."""
    return await tx.change(
        "DELETE FROM interval WHERE cause_id IN (SELECT cause_id FROM interval"
        " WHERE end_at < $1 AND settled_at IS NOT NULL LIMIT $2)",
        *(before, batch),
    )
