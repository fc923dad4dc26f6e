"""What lines mean for budgets: spend rises, what was held is freed, crossings are told and shown."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from mesh_contracts.ask import Ask
from mesh_contracts.fact import Fact, born_of
from mesh_contracts.inference import UsageMetered
from mesh_contracts.metering import BudgetCrossed, RatedRow
from mesh_contracts.units import MoneyMicroeur
from meshkit.store import Transaction

from metering import ceilings, holdings, store
from metering.domain import escrow
from metering.domain.scopes import Crossed, Scope, Span, Spend, ceiling_of, ids_of, start_of


async def charge(tx: Transaction, batch: UsageMetered, lines: Sequence[RatedRow]) -> None:
    """Charge new lines to every budget that they belong to, in the period in which each started.

    A line whose request was reserved from what its gateway holds frees as much of that.
    """
    by_scope: dict[str, list[RatedRow]] = {}
    for line in lines:
        for scope_id in ids_of(line.usage):
            by_scope.setdefault(scope_id, []).append(line)
    await ceilings.charging(tx)
    scopes: dict[str, Scope] = {}
    due: dict[Span, list[RatedRow]] = {}
    for found in await ceilings.lock_charged(tx, by_scope):
        owned = by_scope[found.scope_id]
        scope = scopes[found.scope_id] = await _learned(tx, found, owned[0])
        if scope.budget_id is not None:
            for line in owned:
                start = start_of(scope.period, line.usage.started_at)
                due.setdefault((scope.scope_id, start), []).append(line)
    if due:
        await _charge(scopes, due, batch, tx)


async def _charge(
    scopes: Mapping[str, Scope],
    due: Mapping[Span, Sequence[RatedRow]],
    batch: UsageMetered,
    tx: Transaction,
) -> None:
    spends = await ceilings.spends(tx, due)
    accounts = {
        (one.scope_id, one.period_start, one.epoch): one
        for one in await holdings.accounts_of(tx, batch.producer, due)
    }
    changed = {}
    for (scope_id, start), lines in due.items():
        scope = scopes[scope_id]
        assert scope.period_start is not None, "a budget has a period"
        if start < scope.period_start and (scope_id, start) not in spends:
            continue  # It was over before there was this budget.
        before = spends.get((scope_id, start), Spend())
        spent = before.spent + sum(line.cost_microeur for line in lines)
        changed[scope_id, start] = await cross(tx, batch, scope, start, before=before, spent=spent)
        for line in lines:
            usage = line.usage
            epoch = batch.epoch if usage.admitted_epoch is None else usage.admitted_epoch
            account = accounts.get((scope_id, start, epoch))
            if account is not None and account.covers(scope, usage.started_at):
                accounts[scope_id, start, epoch] = escrow.charge(account, line.cost_microeur)
    await ceilings.keep_spends(tx, changed)
    await holdings.keep_accounts(tx, list(accounts.values()))


async def cross(
    tx: Transaction,
    cause: Fact | Ask,
    scope: Scope,
    start: datetime,
    *,
    before: Spend,
    spent: int,
    in_vain: bool = False,
) -> Spend:
    """Return the spend as it is now; where it has come further than ``before``, tell it and show it."""
    now = escrow.further(before.crossed, escrow.crossed(scope, spent, in_vain=in_vain))
    if now != before.crossed:
        await tell(tx, cause, scope, start, Spend(spent, now))
        if start == scope.period_start:
            await show(tx, scope, now)
    return Spend(spent, now)


async def tell(tx: Transaction, cause: Fact | Ask, scope: Scope, start: datetime, spend: Spend) -> None:
    """Tell that a budget was crossed in the period that begins at ``start``."""
    assert scope.budget_id is not None, "only a budget is crossed"
    assert scope.amount_microeur is not None, "a budget has an amount"
    assert spend.crossed != "none", "what is told has happened"
    owner = {"organization": scope.organization, "project": scope.project}
    salt = f"{start.isoformat()}/{spend.crossed}"
    born = born_of(cause, tx.now, BudgetCrossed, key=scope.budget_id, salt=salt, **owner)
    fact = BudgetCrossed(
        **born,
        budget_id=scope.budget_id,
        scope_kind=scope.scope_kind,
        scope_id=scope.scope_id,
        crossed=spend.crossed,
        amount_microeur=MoneyMicroeur(scope.amount_microeur),
        spent_microeur=MoneyMicroeur(spend.spent),
        period_start=start,
    )
    await tx.tell(fact)


async def show(tx: Transaction, scope: Scope, crossed: Crossed) -> None:
    """Have the bucket show what bounds a scope; nothing where nothing does."""
    key = f"ceiling.{scope.scope_id}"
    ceiling = ceiling_of(scope, crossed)
    if ceiling is None:
        await tx.drop("limits", key)
    else:
        await tx.put("limits", key, ceiling)


async def all_shown(tx: Transaction) -> Mapping[str, msgspec.Struct]:
    """Return all that the bucket ``limits`` should hold: the marks, and what bounds each scope."""
    shown: dict[str, msgspec.Struct] = dict(await store.marks(tx))
    scopes = await ceilings.all_shown(tx)
    spans = [(scope.scope_id, scope.period_start) for scope in scopes if scope.period_start is not None]
    spends = {scope_id: spend for (scope_id, _), spend in (await ceilings.spends(tx, spans)).items()}
    for scope in scopes:
        ceiling = ceiling_of(scope, spends.get(scope.scope_id, Spend()).crossed)
        assert ceiling is not None, "only what is bounded was loaded"
        shown[f"ceiling.{scope.scope_id}"] = ceiling
    return shown


async def _learned(tx: Transaction, scope: Scope, line: RatedRow) -> Scope:
    """Return the scope with its project: whose key or endpoint it is, a line says."""
    if scope.project is not None or scope.scope_kind not in {"key", "endpoint"}:
        return scope
    usage = line.usage
    owned = msgspec.structs.replace(scope, organization=usage.organization, project=usage.project)
    await ceilings.keep_owner(tx, owned)
    return owned
