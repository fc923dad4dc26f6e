"""The door for limits: what a scope may ask for in a minute, and at once."""

import msgspec
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.metering import DeleteLimit, Limit, Limits, ListLimits, SetLimit
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.store import Transaction

from metering import ceilings, crossing, store
from metering.domain import wishes
from metering.domain.scopes import Scope, Spend, limit_of
from metering.naming import named


async def set_limit(
    ask: SetLimit, _principal: Principal, tx: Transaction, _clock: Clock
) -> Limit | Problem:
    """Answer with the scope's limits, now these; with the same as before nothing changes."""
    fault = wishes.bad_limit(ask)
    if fault is not None:
        return fault
    meant = await named(tx, ask.scope_kind, ask.scope)
    if isinstance(meant, Problem):
        return meant
    scope = await ceilings.lock_one(tx, ask.scope_kind, *meant)
    known = scope.limit_id is not None
    fault = wishes.moved_on("limit", scope.limit_generation if known else 0, ask.generation)
    if fault is not None:
        return fault
    after = msgspec.structs.replace(
        scope,
        limit_id=scope.limit_id or derived_id("limit", ask.asked_at, ask.ask_id),
        limit_generation=scope.limit_generation + 1 if known else 1,
        requests_per_minute=ask.requests_per_minute,
        tokens_per_minute=ask.tokens_per_minute,
        parallel_requests=ask.parallel_requests,
        generation=scope.generation + 1,
    )
    if known and wishes.same_limit(scope, after):
        return limit_of(scope)
    await _keep(tx, after)
    return limit_of(after)


async def list_limits(ask: ListLimits, principal: Principal, tx: Transaction, _clock: Clock) -> Limits:
    """Answer with the limits by scope, of what the principal sees."""
    only = None if principal.sees(None) else principal.project or ""
    most = store.bounded(ask.page)
    found = await ceilings.listed(tx, "limit_id", ask.page, most + 1, only)
    following = found[most - 1].scope_id if len(found) > most else None
    return Limits(items=[limit_of(scope) for scope in found[:most]], next=following)


async def delete_limit(
    ask: DeleteLimit, _principal: Principal, tx: Transaction, _clock: Clock
) -> Limit | Problem:
    """Answer with the limits as they were; the scope has none now."""
    scope = await ceilings.lock_found(tx, "limit_id", ask.limit)
    if scope is None:
        return wishes.not_found("limit", ask.limit)
    fault = wishes.moved_on("limit", scope.limit_generation, ask.generation)
    if fault is not None:
        return fault
    after = msgspec.structs.replace(
        scope,
        limit_id=None,
        limit_generation=0,
        requests_per_minute=None,
        tokens_per_minute=None,
        parallel_requests=None,
        generation=scope.generation + 1,
    )
    await _keep(tx, after)
    return limit_of(scope)


async def _keep(tx: Transaction, scope: Scope) -> None:
    """Keep the scope, and show it with what its budget has come to."""
    await ceilings.keep(tx, scope)
    spend = Spend()
    if scope.period_start is not None:
        span = scope.scope_id, scope.period_start
        spend = (await ceilings.spends(tx, [span])).get(span, spend)
    await crossing.show(tx, scope, spend.crossed)
