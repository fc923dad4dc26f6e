"""All of metering's SQL."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from mesh_contracts.ask import Page
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.inference import Explained, UsageMetered, UsageRow
from mesh_contracts.metering import EARLIER_SHOWN_MAX, Price, RatedRow, RequestRecord, Usage
from mesh_contracts.units import MoneyMicroeur
from meshkit.errors import StaleSnapshot
from meshkit.store import Row, Transaction

from metering.domain import numbers
from metering.domain.numbers import Ranges
from metering.domain.rate import Debtor

PAGE_MAX = 1_000
"""Items of a list that are answered at one time, whatever is asked for."""

_COLUMNS: dict[str, str] = {
    "request_id": "text",
    "organization": "text",
    "project": "text",
    "key_id": "text",
    "endpoint_id": "text",
    "model": "text",
    "route": "text",
    "streamed": "boolean",
    "started_at": "timestamptz",
    "ended_at": "timestamptz",
    "state": "text",
    "status": "integer",
    "tokens_from": "text",
    "prompt_tokens": "bigint",
    "completion_tokens": "bigint",
    "cached_tokens": "bigint",
    "workload_id": "text",
    "node_id": "text",
    "attempts": "integer",
    "queue_us": "bigint",
    "first_token_us": "bigint",
    "reason": "text",
    "traceparent": "text",
    "output_token_us": "bigint",
    "finish_reason": "text",
    "admitted_epoch": "bigint",
    "explained": "text",
}
assert tuple(_COLUMNS) == UsageRow.__struct_fields__, "the ledger keeps the whole row"
_LINE = {**_COLUMNS, "cost_microeur": "bigint", "price_id": "text"}
_UNNESTED = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(_LINE.values(), 5))

# The names of columns are this module's own; every value is a parameter.
_ADD_LINES = f"""
INSERT INTO usage_row (producer, epoch, sequence, recorded_at, {", ".join(_LINE)})
SELECT $1::text, $2::bigint, $3::bigint, $4::timestamptz, line.* FROM unnest({_UNNESTED}) AS line
ON CONFLICT (request_id) DO NOTHING
"""  # noqa: S608

# In one order everywhere, so that two transactions never wait for each other.
_ADD_HOURS = """
INSERT INTO usage_hour AS held
    (project, model, hour, requests, prompt_tokens, completion_tokens, cost_microeur, aborted, failed)
SELECT project, model, date_trunc('hour', started_at, 'UTC'), count(*),
       coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), sum(cost_microeur),
       count(*) FILTER (WHERE state = 'aborted'), count(*) FILTER (WHERE state = 'failed')
FROM usage_row WHERE request_id = ANY($1::text[])
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (project, model, hour) DO UPDATE SET
    requests = held.requests + excluded.requests,
    prompt_tokens = held.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = held.completion_tokens + excluded.completion_tokens,
    cost_microeur = held.cost_microeur + excluded.cost_microeur,
    aborted = held.aborted + excluded.aborted,
    failed = held.failed + excluded.failed
"""

_SUMS = """
SELECT coalesce(p.name, u.project) AS project, u.project AS project_id, u.model,
       u.requests, u.prompt_tokens, u.completion_tokens, u.cost_microeur, u.aborted, u.failed
FROM (
    SELECT project, model, sum(requests)::bigint AS requests,
           sum(prompt_tokens)::bigint AS prompt_tokens,
           sum(completion_tokens)::bigint AS completion_tokens,
           sum(cost_microeur)::bigint AS cost_microeur,
           sum(aborted)::bigint AS aborted, sum(failed)::bigint AS failed
    FROM usage_hour
    WHERE ($1::text IS NULL OR project = $1) AND (project, model) > ($2, $3)
    GROUP BY project, model ORDER BY project, model LIMIT $4
) u LEFT JOIN project p ON p.project_id = u.project
ORDER BY u.project, u.model
"""

_SUMS_BETWEEN = """
SELECT coalesce(p.name, u.project) AS project, u.project AS project_id, u.model,
       u.requests, u.prompt_tokens, u.completion_tokens, u.cost_microeur, u.aborted, u.failed
FROM (
    SELECT project, model, count(*) AS requests,
           coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
           coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens,
           sum(cost_microeur)::bigint AS cost_microeur,
           count(*) FILTER (WHERE state = 'aborted') AS aborted,
           count(*) FILTER (WHERE state = 'failed') AS failed
    FROM usage_row
    WHERE ($1::text IS NULL OR project = $1) AND (project, model) > ($2, $3)
      AND started_at >= coalesce($5::timestamptz, '-infinity')
      AND started_at < coalesce($6::timestamptz, 'infinity')
    GROUP BY project, model ORDER BY project, model LIMIT $4
) u LEFT JOIN project p ON p.project_id = u.project
ORDER BY u.project, u.model
"""


def bounded(page: Page) -> int:
    """Return how many items of a list are answered."""
    return max(1, min(page.limit, PAGE_MAX))


async def name_project(tx: Transaction, fact: ProjectAdmitted) -> None:
    """Keep a project's name; an older fact changes nothing."""
    await tx.change(
        "INSERT INTO project AS held (project_id, name, organization_id, organization_name, version)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (project_id) DO UPDATE SET"
        " name = excluded.name, organization_name = excluded.organization_name,"
        " version = excluded.version WHERE held.version < excluded.version",
        *(fact.key, fact.name, fact.organization, fact.organization_name, fact.version),
    )


async def hold_producer(tx: Transaction, producer: str) -> dict[int, Ranges]:
    """Return which numbers are held, by epoch (the newest ones), against others until the end."""
    await tx.change(
        "INSERT INTO producer (producer, heard_at) VALUES ($1, $2)"
        " ON CONFLICT (producer) DO UPDATE SET heard_at = excluded.heard_at",
        *(producer, tx.now),
    )
    rows = await tx.rows(
        "SELECT epoch, held FROM producer_epoch WHERE producer = $1 ORDER BY epoch DESC LIMIT $2",
        *(producer, EARLIER_SHOWN_MAX + 1),
    )
    return {row["epoch"]: _ranges(row["held"]) for row in rows}


async def epoch_held(tx: Transaction, producer: str, epoch: int) -> Ranges:
    """Return which numbers of one epoch are held, however old it is."""
    held = await tx.value(
        "SELECT held FROM producer_epoch WHERE producer = $1 AND epoch = $2", producer, epoch
    )
    return () if held is None else _ranges(held)


async def keep_numbers(tx: Transaction, producer: str, epoch: int, held: Ranges) -> None:
    """Keep which numbers of an epoch are held."""
    await tx.change(
        "INSERT INTO producer_epoch (producer, epoch, held) VALUES ($1, $2, $3)"
        " ON CONFLICT (producer, epoch) DO UPDATE SET held = excluded.held",
        *(producer, epoch, held),
    )


async def marks(tx: Transaction) -> Mapping[str, msgspec.Struct]:
    """Return all that the bucket ``limits`` should hold."""
    rows = await tx.rows("SELECT producer, epoch, held FROM producer_epoch ORDER BY producer, epoch")
    by_producer: dict[str, dict[int, Ranges]] = {}
    for row in rows:
        by_producer.setdefault(row["producer"], {})[row["epoch"]] = _ranges(row["held"])
    return {
        f"producer.{producer}": numbers.mark(producer, epochs)
        for producer, epochs in by_producer.items()
    }


async def known(tx: Transaction, request_ids: Collection[str]) -> set[str]:
    """Return those requests that have a line already."""
    rows = await tx.rows(
        "SELECT request_id FROM usage_row WHERE request_id = ANY($1::text[])", list(request_ids)
    )
    return {row["request_id"] for row in rows}


async def prices(tx: Transaction) -> list[Price]:
    """Return the price book, by model and time."""
    rows = await tx.rows("SELECT * FROM price ORDER BY model, valid_from")
    return [Price(**row) for row in rows]


async def owed(tx: Transaction, debtors: Collection[Debtor]) -> dict[Debtor, int]:
    """Return what rounding has left over, held against others until the end."""
    wanted = sorted(set(debtors))
    projects, price_ids = [one[0] for one in wanted], [one[1] for one in wanted]
    await tx.change(
        "INSERT INTO remainder (project_id, price_id, remainder)"
        " SELECT project_id, price_id, 0 FROM unnest($1::text[], $2::text[]) AS of (project_id, price_id)"
        " ON CONFLICT DO NOTHING",
        *(projects, price_ids),
    )
    rows = await tx.rows(
        "SELECT r.project_id, r.price_id, r.remainder FROM remainder r"
        " JOIN unnest($1::text[], $2::text[]) AS of (project_id, price_id) USING (project_id, price_id)"
        " ORDER BY r.project_id, r.price_id FOR UPDATE OF r",
        *(projects, price_ids),
    )
    return {(row["project_id"], row["price_id"]): row["remainder"] for row in rows}


async def record(
    tx: Transaction, batch: UsageMetered, lines: Sequence[RatedRow], remainders: Mapping[Debtor, int]
) -> None:
    """Write the lines of a batch, their hours' sums and the remainders.

    Raises ``StaleSnapshot`` where another transaction wrote one of these requests meanwhile.
    """
    columns = [[_column(line.usage, name) for line in lines] for name in _COLUMNS]
    costs = [int(line.cost_microeur) for line in lines]
    added = await tx.change(
        _ADD_LINES,
        *(batch.producer, batch.epoch, batch.sequence, tx.now),
        *columns,
        *(costs, [line.price_id for line in lines]),
    )
    if added != len(lines):
        raise StaleSnapshot(batch.fact_id)
    await tx.change(_ADD_HOURS, columns[0])
    await tx.change(
        "UPDATE remainder SET remainder = now.remainder"
        " FROM unnest($1::text[], $2::text[], $3::integer[]) AS now (project_id, price_id, remainder)"
        " WHERE remainder.project_id = now.project_id AND remainder.price_id = now.price_id",
        [project for project, _ in remainders],
        [price_id for _, price_id in remainders],
        list(remainders.values()),
    )


async def usages(
    tx: Transaction,
    page: Page,
    only: str | None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Usage]:
    """Return sums by project and model, one more than asked for where there are more.

    With ``since`` or ``until``: of the requests that started in ``[since, until)``.
    """
    project, _, model = (page.cursor or "").partition("/")
    args = (only, project, model, bounded(page) + 1)
    if since is None and until is None:
        rows = await tx.rows(_SUMS, *args)
    else:
        rows = await tx.rows(_SUMS_BETWEEN, *args, since, until)
    return [Usage(**{**row, "cost_microeur": MoneyMicroeur(row["cost_microeur"])}) for row in rows]


async def request(tx: Transaction, request_id: str) -> RequestRecord | None:
    """Return one request's line."""
    row = await tx.row(
        "SELECT u.*, coalesce(p.name, u.project) AS project_name"
        " FROM usage_row u LEFT JOIN project p ON p.project_id = u.project WHERE u.request_id = $1",
        request_id,
    )
    return None if row is None else _record(row)


def _record(row: Row) -> RequestRecord:
    fields = {name: row[name] for name in _COLUMNS}
    if fields["explained"] is not None:
        fields["explained"] = msgspec.json.decode(fields["explained"], type=Explained)
    usage = UsageRow(**fields)
    trace = usage.traceparent
    return RequestRecord(
        request_id=usage.request_id,
        project=row["project_name"],
        usage=usage,
        cost_microeur=MoneyMicroeur(row["cost_microeur"]),
        price_id=row["price_id"],
        trace_id=None if trace is None else trace.split("-")[1],
        recorded_at=row["recorded_at"],
    )


def _column(usage: UsageRow, name: str) -> Any:
    value = getattr(usage, name)
    return msgspec.json.encode(value).decode() if isinstance(value, Explained) else value


def _ranges(held: Any) -> Ranges:
    return tuple((int(low), int(high)) for low, high in held)
