"""What bounds a scope, as it is kept and as it is shown; and which period a moment lies in."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from mesh_contracts.inference import UsageRow
from mesh_contracts.metering import Budget, Ceiling, Limit, Period, ScopeKind
from mesh_contracts.units import MoneyMicroeur

Crossed = Literal["none", "soft", "hard"]

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""When the only period of a budget for all time began."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds one scope: its limit, its budget, either or neither.

    ``project`` is the one it belongs to, where metering knows it. ``hardened`` rises each time the
    budget begins to be hard; ``period_start`` and ``period_end`` name the period that is shown.
    """

    scope_id: str
    scope_kind: ScopeKind
    organization: str | None = None
    project: str | None = None
    generation: int = 0
    limit_id: str | None = None
    limit_generation: int = 0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None
    budget_id: str | None = None
    budget_generation: int = 0
    amount_microeur: int | None = None
    period: Period = "total"
    hard: bool = False
    warn_percent: int = 80
    hardened: int = 0
    period_start: datetime | None = None
    period_end: datetime | None = None

    @property
    def escrowed(self) -> bool:
        """Whether its money is granted before it is spent."""
        return self.budget_id is not None and self.hard


class Spend(msgspec.Struct, frozen=True):
    """What a scope has spent in a period, and how far that has come."""

    spent: int = 0
    crossed: Crossed = "none"


Span = tuple[str, datetime]
"""A scope's id and the beginning of a period: what spend and accounts belong to."""


def start_of(period: Period, at: datetime) -> datetime:
    """Return the beginning of the period that ``at`` lies in."""
    if period == "total":
        return BEGINNING
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day if period == "day" else day.replace(day=1)


def end_of(period: Period, start: datetime) -> datetime | None:
    """Return the end of the period that begins at ``start``; all time has none."""
    if period == "total":
        return None
    if period == "day":
        return start + timedelta(days=1)
    return (start + timedelta(days=31)).replace(day=1)


def ids_of(row: UsageRow) -> tuple[str, str, str, str]:
    """Return the scopes that a request belongs to."""
    return row.organization, row.project, row.key_id, row.endpoint_id


def ceiling_of(scope: Scope, crossed: Crossed) -> Ceiling | None:
    """Return what the bucket shows of a scope; nothing where nothing bounds it."""
    if scope.limit_id is None and scope.budget_id is None:
        return None
    limits = Ceiling(
        scope_id=scope.scope_id,
        scope_kind=scope.scope_kind,
        requests_per_minute=scope.requests_per_minute,
        tokens_per_minute=scope.tokens_per_minute,
        parallel_requests=scope.parallel_requests,
        generation=scope.generation,
    )
    if scope.amount_microeur is None:
        return limits
    return msgspec.structs.replace(
        limits,
        budget_microeur=MoneyMicroeur(scope.amount_microeur),
        period=scope.period,
        hard=scope.hard,
        crossed=crossed,
    )


def budget_of(scope: Scope, start: datetime, *, spent: int, leased: int, crossed: Crossed) -> Budget:
    """Return a scope's budget as people see it, in the period that begins at ``start``."""
    assert scope.budget_id is not None, "only a budget is shown as one"
    assert scope.amount_microeur is not None, "a budget has an amount"
    return Budget(
        id=scope.budget_id,
        scope_kind=scope.scope_kind,
        scope_id=scope.scope_id,
        amount_microeur=MoneyMicroeur(scope.amount_microeur),
        period=scope.period,
        hard=scope.hard,
        warn_percent=scope.warn_percent,
        spent_microeur=MoneyMicroeur(spent),
        leased_microeur=MoneyMicroeur(leased),
        crossed=crossed,
        period_start=start,
        generation=scope.budget_generation,
    )


def limit_of(scope: Scope) -> Limit:
    """Return a scope's limit as people see it."""
    assert scope.limit_id is not None, "only a limit is shown as one"
    return Limit(
        id=scope.limit_id,
        scope_kind=scope.scope_kind,
        scope_id=scope.scope_id,
        requests_per_minute=scope.requests_per_minute,
        tokens_per_minute=scope.tokens_per_minute,
        parallel_requests=scope.parallel_requests,
        generation=scope.limit_generation,
    )
