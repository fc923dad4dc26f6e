"""The door for budgets: what a scope may spend in a period."""

import msgspec
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.metering import Budget, Budgets, DeleteBudget, ListBudgets, SetBudget
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.store import Transaction

from metering import ceilings, crossing, holdings, store
from metering.domain import escrow, wishes
from metering.domain.scopes import Scope, Span, Spend, budget_of, end_of, start_of
from metering.naming import named


async def set_budget(
    ask: SetBudget, _principal: Principal, tx: Transaction, _clock: Clock
) -> Budget | Problem:
    """Answer with the scope's budget, now this one; with the same as before nothing changes.

    What the scope has spent in the period already counts: it is summed up from the ledger. What
    gateways hold of a budget that it had before stays held.
    """
    fault = wishes.bad_budget(ask)
    if fault is not None:
        return fault
    meant = await named(tx, ask.scope_kind, ask.scope)
    if isinstance(meant, Problem):
        return meant
    await ceilings.summing(tx)
    scope = await ceilings.lock_one(tx, ask.scope_kind, *meant)
    fault = wishes.moved_on("budget", scope.budget_generation, ask.generation)
    if fault is not None:
        return fault
    start = start_of(ask.period, tx.now)
    after = msgspec.structs.replace(
        scope,
        budget_id=scope.budget_id or derived_id("budget", ask.asked_at, ask.ask_id),
        budget_generation=scope.budget_generation + 1,
        amount_microeur=ask.amount_microeur,
        period=ask.period,
        hard=ask.hard,
        warn_percent=ask.warn_percent,
        hardened=scope.hardened + (ask.hard and not scope.escrowed),
        period_start=start,
        period_end=end_of(ask.period, start),
        generation=scope.generation + 1,
    )
    if scope.budget_id is not None and wishes.same_budget(scope, after):
        return (await _shown(tx, [scope]))[0]
    await _keep(tx, ask, scope, after)
    return (await _shown(tx, [after]))[0]


async def list_budgets(
    ask: ListBudgets, principal: Principal, tx: Transaction, _clock: Clock
) -> Budgets:
    """Answer with the budgets by scope, of what the principal sees, as they stand now."""
    only = None if principal.sees(None) else principal.project or ""
    most = store.bounded(ask.page)
    found = await ceilings.listed(tx, "budget_id", ask.page, most + 1, only)
    following = found[most - 1].scope_id if len(found) > most else None
    return Budgets(items=await _shown(tx, found[:most]), next=following)


async def delete_budget(
    ask: DeleteBudget, _principal: Principal, tx: Transaction, _clock: Clock
) -> Budget | Problem:
    """Answer with the budget as it was; the scope has none now."""
    scope = await ceilings.lock_found(tx, "budget_id", ask.budget)
    if scope is None:
        return wishes.not_found("budget", ask.budget)
    fault = wishes.moved_on("budget", scope.budget_generation, ask.generation)
    if fault is not None:
        return fault
    (was,) = await _shown(tx, [scope])
    after = msgspec.structs.replace(
        scope,
        budget_id=None,
        budget_generation=0,
        amount_microeur=None,
        hard=False,
        period_start=None,
        period_end=None,
        generation=scope.generation + 1,
    )
    await ceilings.keep(tx, after)
    await crossing.show(tx, after, "none")
    return was


async def _keep(tx: Transaction, ask: SetBudget, before: Scope, after: Scope) -> None:
    """Keep a budget with what was spent so far; tell where it is crossed further than it was."""
    start = after.period_start
    assert start is not None, "a budget has a period"
    span = after.scope_id, start
    spent, organization, project = await ceilings.summed_up(tx, after, start, after.period_end)
    if after.project is None and after.scope_kind in {"key", "endpoint"}:
        after = msgspec.structs.replace(after, organization=organization, project=project)
    crossed = escrow.crossed(after, spent)
    await ceilings.keep(tx, after)
    known = before.budget_id is not None and before.period_start == start
    spends = await ceilings.spends(tx, [span]) if known else {}
    earlier = spends.get(span, Spend()).crossed
    now = Spend(spent, crossed)
    await ceilings.keep_spends(tx, {span: now})
    if crossed != "none" and escrow.further(earlier, crossed) != earlier:
        await crossing.tell(tx, ask, after, start, now)
    await crossing.show(tx, after, crossed)


async def _shown(tx: Transaction, scopes: list[Scope]) -> list[Budget]:
    spans: list[Span] = [(scope.scope_id, start_of(scope.period, tx.now)) for scope in scopes]
    spends, held = await ceilings.spends(tx, spans), await holdings.held(tx, spans)
    shown = []
    for scope, span in zip(scopes, spans, strict=True):
        spend = spends.get(span, Spend())
        shown.append(
            budget_of(
                scope,
                span[1],
                spent=spend.spent,
                leased=held.get(span, 0),
                crossed=spend.crossed,
            )
        )
    return shown
