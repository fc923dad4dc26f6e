"""Which wishes for budgets and limits are refused, and in what words."""

from datetime import datetime, timedelta

from mesh_contracts.ask import Problem
from mesh_contracts.metering import ScopeKind, SetBudget, SetLimit

from metering.domain.scopes import Scope

RELEASE_AFTER = timedelta(minutes=10)
"""How long a gateway's leases must be over before what it holds may be released: it may merely be cut off."""

AMOUNT_MAX_MICROEUR = 2**53
"""A budget's amount at most: nine thousand million euros."""

_BUDGET = ("amount_microeur", "period", "hard", "warn_percent")
_LIMIT = ("requests_per_minute", "tokens_per_minute", "parallel_requests")


def bad_budget(ask: SetBudget) -> Problem | None:
    """Return what is wrong with a wish for a budget, or nothing."""
    if ask.amount_microeur <= AMOUNT_MAX_MICROEUR:
        return None
    return Problem(
        title="The amount is too large",
        status=422,
        code="invalid_amount",
        detail=f"amount_microeur is at most {AMOUNT_MAX_MICROEUR}: name less, or delete the budget",
        param="amount_microeur",
    )


def bad_limit(ask: SetLimit) -> Problem | None:
    """Return what is wrong with a wish for limits, or nothing."""
    if any(getattr(ask, name) is not None for name in _LIMIT):
        return None
    return Problem(
        title="No limit is named",
        status=422,
        code="missing_field",
        detail=f"name at least one of {', '.join(_LIMIT)}; to have none, delete the limit",
        param=_LIMIT[0],
    )


def same_budget(before: Scope, after: Scope) -> bool:
    """Tell whether two budgets bound alike."""
    return all(getattr(before, name) == getattr(after, name) for name in _BUDGET)


def same_limit(before: Scope, after: Scope) -> bool:
    """Tell whether two limits bound alike."""
    return all(getattr(before, name) == getattr(after, name) for name in _LIMIT)


def lives(producer: str, until: datetime, now: datetime) -> Problem | None:
    """Return why what a gateway holds is not released yet, or nothing where it has been dead for long."""
    free_at = until + RELEASE_AFTER
    if free_at <= now:
        return None
    return Problem(
        title="This gateway may still spend what it holds",
        status=409,
        code="gateway_lives",
        detail=(
            f"{producer[:80]!r} held leases until {until.isoformat()}: stop it, or start it again with its journal,"
            f" which frees it by itself; what it holds may be released from {free_at.isoformat()} on"
        ),
        param="holding",
    )


def moved_on(what: str, now: int, wished: int | None) -> Problem | None:
    """Return why a change from another generation than ``now`` (0 where there is none) is refused."""
    if wished is None or wished == now:
        return None
    at = f"it is at generation {now}" if now else f"the scope has no {what}"
    return Problem(
        title=f"The {what} has changed since",
        status=412,
        code="generation_mismatch",
        detail=f"{at}, not at {wished}: read it again, then repeat your change",
        param="generation",
    )


def not_found(what: str, text: str) -> Problem:
    """Return the refusal of a budget or a limit that is not there."""
    return Problem(
        title=f"No such {what}",
        status=404,
        code=f"{what}_not_found",
        detail=f"there is no {what} with the id {text[:80]!r}: GET /api/v1/{what}s lists them",
        param=what,
    )


def no_scope(kind: ScopeKind, text: str) -> Problem:
    """Return the refusal of a scope that nobody knows, or that is no id."""
    may = {
        "project": "give its id, its name, or organization/name: GET /api/v1/projects lists them",
        "organization": "give its id, or its name once it has a project",
        "key": "give its id: GET /api/v1/keys lists them",
        "endpoint": "give its id: GET /api/v1/endpoints lists them",
    }[kind]
    return Problem(
        title=f"No such {kind}",
        status=404,
        code=f"{kind}_not_found",
        detail=f"{text[:80]!r} is no {kind} that is known here: {may}",
        param="scope.id",
    )


def ambiguous(kind: ScopeKind, text: str, count: int) -> Problem:
    """Return the refusal of a name that several scopes have."""
    return Problem(
        title=f"Several {kind}s have that name",
        status=422,
        code=f"{kind}_ambiguous",
        detail=f"{count} {kind}s are called {text[:80]!r}: give the id",
        param="scope.id",
    )
