"""The SQL of scopes: what bounds each, and what each has spent."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

from mesh_contracts.ask import Page
from mesh_contracts.metering import ScopeKind
from meshkit.store import Row, Transaction

from metering.domain.scopes import Scope, Span, Spend

LEDGER_LOCK: Final = 0x6C656467
"""Held (shared) by whoever charges lines; alone by whoever sums up the ledger for a budget."""

_FIELDS = Scope.__struct_fields__
_PLACES = ", ".join(f"${place}" for place in range(1, len(_FIELDS) + 1))
_OVERWRITTEN = ", ".join(f"{name} = excluded.{name}" for name in _FIELDS[1:])
_LEDGER_COLUMN: Final[dict[ScopeKind, str]] = {
    "organization": "organization",
    "project": "project",
    "key": "key_id",
    "endpoint": "endpoint_id",
}

# The names of columns are this module's own; every value is a parameter.
_SELECT = f"SELECT {', '.join(f'c.{name}' for name in _FIELDS)} FROM ceiling c"  # noqa: S608
_KEEP = (
    f"INSERT INTO ceiling ({', '.join(_FIELDS)}) VALUES ({_PLACES})"  # noqa: S608
    f" ON CONFLICT (scope_id) DO UPDATE SET {_OVERWRITTEN}"
)

_SUM = {
    kind: "SELECT coalesce(sum(cost_microeur), 0)::bigint AS spent,"  # noqa: S608
    " min(organization) AS organization, min(project) AS project"
    f" FROM usage_row WHERE {column} = $1 AND started_at >= $2"
    " AND started_at < coalesce($3::timestamptz, 'infinity')"
    for kind, column in _LEDGER_COLUMN.items()
}


async def charging(tx: Transaction) -> None:
    """Hold off those who sum up the ledger, until the end: what is charged now is in no such sum."""
    await tx.value("SELECT pg_advisory_xact_lock_shared($1)", LEDGER_LOCK)


async def summing(tx: Transaction) -> None:
    """Wait for all who charge, and hold them off until the end."""
    await tx.value("SELECT pg_advisory_xact_lock($1)", LEDGER_LOCK)


async def lock_charged(tx: Transaction, scope_ids: Collection[str]) -> list[Scope]:
    """Return those of the scopes that lines matter to, held against others until the end.

    These have a budget, or belong to a project that is not known yet.
    """
    return await _scopes(
        tx,
        " WHERE c.scope_id = ANY($1::text[]) AND (c.budget_id IS NOT NULL"
        " OR (c.project IS NULL AND c.scope_kind IN ('key', 'endpoint')))"
        " ORDER BY c.scope_id FOR UPDATE",
        list(scope_ids),
    )


async def lock_leased(
    tx: Transaction, scope_ids: Collection[str], producer: str, below: int
) -> list[Scope]:
    """Return the scopes, held against others until the end.

    Held, too, though not returned: those of which ``producer`` has an account of an epoch before ``below``.
    """
    found = await _scopes(
        tx,
        " WHERE c.scope_id = ANY($1::text[]) OR c.scope_id IN"
        " (SELECT scope_id FROM account WHERE producer = $2 AND epoch < $3)"
        " ORDER BY c.scope_id FOR UPDATE",
        *(list(scope_ids), producer, below),
    )
    wanted = set(scope_ids)
    return [scope for scope in found if scope.scope_id in wanted]


async def lock_over(tx: Transaction, now: datetime, most: int) -> list[Scope]:
    """Return scopes whose shown period is over, held against others until the end."""
    return await _scopes(
        tx, " WHERE c.period_end <= $1 ORDER BY c.scope_id LIMIT $2 FOR UPDATE", now, most
    )


async def lock_one(
    tx: Transaction, kind: ScopeKind, scope_id: str, organization: str | None, project: str | None
) -> Scope:
    """Return a scope, bounded or not, held against others until the end."""
    await tx.change(
        "INSERT INTO ceiling (scope_id, scope_kind, organization, project, generation)"
        " VALUES ($1, $2, $3, $4, 1) ON CONFLICT (scope_id) DO NOTHING",
        *(scope_id, kind, organization, project),
    )
    (scope,) = await _scopes(tx, " WHERE c.scope_id = $1 FOR UPDATE", scope_id)
    return scope


async def lock_found(
    tx: Transaction, column: Literal["budget_id", "limit_id"], text: str
) -> Scope | None:
    """Return the scope whose budget or limit has this id, held against others until the end."""
    found = await _scopes(tx, f" WHERE c.{column} = $1 FOR UPDATE", text)
    return found[0] if found else None


async def listed(
    tx: Transaction, column: Literal["budget_id", "limit_id"], page: Page, most: int, only: str | None
) -> list[Scope]:
    """Return scopes that have a budget (or a limit), by id; with ``only``: those of one project."""
    return await _scopes(
        tx,
        f" WHERE c.{column} IS NOT NULL AND c.scope_id > $1"
        " AND ($2::text IS NULL OR c.project = $2) ORDER BY c.scope_id LIMIT $3",
        *(page.cursor or "", only, most),
    )


async def all_shown(tx: Transaction) -> list[Scope]:
    """Return every scope that something bounds."""
    return await _scopes(tx, " WHERE c.budget_id IS NOT NULL OR c.limit_id IS NOT NULL")


async def keep(tx: Transaction, scope: Scope) -> None:
    """Keep a scope as it is now; its row is held."""
    await tx.change(_KEEP, *(getattr(scope, name) for name in _FIELDS))


async def keep_periods(tx: Transaction, scopes: Iterable[Scope]) -> None:
    """Keep which period of each scope is shown."""
    await tx.change_many(
        "UPDATE ceiling SET period_start = $2, period_end = $3 WHERE scope_id = $1",
        [(scope.scope_id, scope.period_start, scope.period_end) for scope in scopes],
    )


async def keep_owner(tx: Transaction, scope: Scope) -> None:
    """Keep which project a scope belongs to."""
    await tx.change(
        "UPDATE ceiling SET organization = $2, project = $3 WHERE scope_id = $1",
        *(scope.scope_id, scope.organization, scope.project),
    )


async def spends(tx: Transaction, spans: Collection[Span]) -> dict[Span, Spend]:
    """Return what was spent in each span that has lines."""
    if not spans:
        return {}
    rows = await tx.rows(
        "SELECT s.scope_id, s.period_start, s.spent_microeur, s.crossed FROM spend s"
        " JOIN unnest($1::text[], $2::timestamptz[]) AS of (scope_id, period_start)"
        " USING (scope_id, period_start)",
        *_columns(spans),
    )
    return {
        (row["scope_id"], row["period_start"]): Spend(row["spent_microeur"], row["crossed"])
        for row in rows
    }


async def keep_spends(tx: Transaction, spends_now: Mapping[Span, Spend]) -> None:
    """Keep what was spent in each span; their scopes are held."""
    if spends_now:
        await tx.change(
            "INSERT INTO spend (scope_id, period_start, spent_microeur, crossed)"
            " SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::text[])"
            " ON CONFLICT (scope_id, period_start) DO UPDATE SET"
            " spent_microeur = excluded.spent_microeur, crossed = excluded.crossed",
            *_columns(spends_now),
            [one.spent for one in spends_now.values()],
            [one.crossed for one in spends_now.values()],
        )


async def summed_up(
    tx: Transaction, scope: Scope, start: datetime, end: datetime | None
) -> tuple[int, str | None, str | None]:
    """Return what a scope's lines between two times cost, and the organization and project in them.

    Reads all of them: for the rare change of a budget, under ``summing``.
    """
    row = await tx.row(_SUM[scope.scope_kind], scope.scope_id, start, end)
    assert row is not None, "a sum is always there"
    return row["spent"], row["organization"], row["project"]


async def projects_called(tx: Transaction, text: str) -> list[Row]:
    """Return the projects (and their organizations) that an id, a name or ``organization/name`` may mean."""
    return await tx.rows(
        "SELECT project_id, organization_id FROM project"
        " WHERE project_id = $1 OR name = $1 OR organization_name || '/' || name = $1",
        text,
    )


async def organizations_called(tx: Transaction, text: str) -> list[str]:
    """Return the ids of organizations that have a project and this name."""
    rows = await tx.rows(
        "SELECT DISTINCT organization_id FROM project"
        " WHERE organization_name = $1 AND organization_id IS NOT NULL",
        text,
    )
    return [row["organization_id"] for row in rows]


async def _scopes(tx: Transaction, where: str, *args: object) -> list[Scope]:
    return [Scope(**row) for row in await tx.rows(_SELECT + where, *args)]


def _columns(spans: Collection[Span]) -> tuple[list[str], list[datetime]]:
    return [scope_id for scope_id, _ in spans], [start for _, start in spans]
