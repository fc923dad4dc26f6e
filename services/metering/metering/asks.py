"""The door for questions: one function each."""

from datetime import UTC, datetime

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.metering import (
    GetRequest,
    ListPrices,
    ListUsage,
    Prices,
    RequestRecord,
    Usages,
)
from meshkit.clock import Clock
from meshkit.store import Transaction

from metering import store

LEDGER_LATE_S = 2
"""After this long a request that has ended stands in the ledger, while everything is up."""


async def list_usage(
    ask: ListUsage, principal: Principal, tx: Transaction, _clock: Clock
) -> Usages | Problem:
    """Answer with the ledger's sums by project and model, of the projects the principal sees."""
    for name, bound in (("since", ask.since), ("until", ask.until)):
        if bound is not None and not _in_the_calendar(bound):
            return _invalid_time(name)
    only = None if principal.sees(None) else principal.project or ""
    found = await store.usages(tx, ask.page, only, ask.since, ask.until)
    limit = store.bounded(ask.page)
    items = found[:limit]
    following = f"{items[-1].project_id}/{items[-1].model}" if len(found) > limit else None
    return Usages(items=items, next=following)


async def list_prices(
    _ask: ListPrices, _principal: Principal, tx: Transaction, _clock: Clock
) -> Prices:
    """Answer with the whole price book, by model and time."""
    return Prices(items=await store.prices(tx))


async def get_request(
    ask: GetRequest, principal: Principal, tx: Transaction, _clock: Clock
) -> RequestRecord | Problem:
    """Answer with a request's ledger line; another tenant's looks like one that does not exist."""
    record = await store.request(tx, ask.request_id)
    if record is None or not principal.sees(record.usage.project):
        return Problem(
            title="No such request",
            status=404,
            code="request_not_found",
            detail=(
                f"no request that you may see has the id {ask.request_id!r} in the ledger;"
                " one that has just ended stands there within seconds: ask again, or check x-request-id"
            ),
            param="request_id",
            retry_after_s=LEDGER_LATE_S,
        )
    return record


def _in_the_calendar(bound: datetime) -> bool:
    try:
        bound.astimezone(UTC)
    except OverflowError:
        return False
    return True


def _invalid_time(name: str) -> Problem:
    return Problem(
        title="The time cannot be used",
        status=422,
        code="invalid_time",
        detail=f"{name} lies before the year 1 or after the year 9999 in UTC: name a time between",
        param=name,
    )
