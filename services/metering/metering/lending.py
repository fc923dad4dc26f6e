"""Money for gateways: what each holds of the budgets it asks for, and what is granted to it now."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from mesh_contracts.metering import RenewLeases
from meshkit.store import Transaction

from metering import ceilings, crossing, holdings
from metering.domain import escrow
from metering.domain.escrow import Account
from metering.domain.scopes import Scope, Span, Spend, end_of, start_of

Key = tuple[str, datetime, str, int]


class Money(msgspec.Struct, frozen=True):
    """What a gateway is told of one budget: what it was granted in all (of a hard one), and what is left."""

    scope_id: str
    granted: int | None
    left: int
    start: datetime
    end: datetime | None


async def lend(
    tx: Transaction, ask: RenewLeases, scopes: Sequence[Scope], gateways: int
) -> list[Money]:
    """Take back what the gateway returns, grant what can be granted, and keep both.

    All ``scopes`` have a budget, and are held.
    """
    if not scopes:
        return []
    wishes = {wish.scope_id: wish for wish in ask.wishes}
    now: dict[str, Span] = {
        scope.scope_id: (scope.scope_id, start_of(scope.period, tx.now)) for scope in scopes
    }
    before = await _accounts(ask, scopes, now, tx)
    accounts = _returned(ask, before)
    held: dict[Span, int] = {}
    for one in accounts.values():
        span = one.scope_id, one.period_start
        held[span] = held.get(span, 0) + one.outstanding
    spends = await ceilings.spends(tx, now.values())
    in_vain: dict[Span, Spend] = {}
    answers = []
    for scope in scopes:
        span = now[scope.scope_id]
        spend, wanted = spends.get(span, Spend()), wishes[scope.scope_id].wanted_microeur
        assert scope.amount_microeur is not None, "a budget has an amount"
        granted, left = None, escrow.left_of(scope.amount_microeur, spend.spent, 0)
        if scope.escrowed:
            mine = accounts.get((*span, ask.producer, ask.epoch)) or _opened(ask, scope, span)
            after, left = escrow.renew(
                scope,
                mine,
                spent=spend.spent,
                others=held.get(span, 0) - mine.outstanding,
                wanted=wanted,
                gateways=gateways,
                asked_at=ask.asked_at,
            )
            granted = after.granted
            if after != mine:
                accounts[_key(after)] = after
            elif wanted:
                crossed = await crossing.cross(
                    tx, ask, scope, span[1], before=spend, spent=spend.spent, in_vain=True
                )
                if crossed != spend:
                    in_vain[span] = crossed
        answers.append(Money(scope.scope_id, granted, left, span[1], end_of(scope.period, span[1])))
    await ceilings.keep_spends(tx, in_vain)
    changed = [one for key, one in accounts.items() if one != before.get(key)]
    await holdings.keep_accounts(tx, changed)
    return answers


async def _accounts(
    ask: RenewLeases, scopes: Sequence[Scope], now: Mapping[str, Span], tx: Transaction
) -> dict[Key, Account]:
    """Return all accounts of the hard budgets now, and of the periods that the gateway speaks of."""
    spans = {now[scope.scope_id] for scope in scopes if scope.escrowed}
    spans |= {
        (wish.scope_id, wish.period_start)
        for wish in ask.wishes
        if wish.scope_id in now and wish.period_start is not None
    }
    return {_key(one): one for one in await holdings.accounts(tx, spans)}


def _returned(ask: RenewLeases, accounts: Mapping[Key, Account]) -> dict[Key, Account]:
    """Return the accounts once what the gateway gave back is out of its own."""
    after = dict(accounts)
    for wish in ask.wishes:
        if wish.period_start is not None:
            mine = after.get((wish.scope_id, wish.period_start, ask.producer, ask.epoch))
            if mine is not None:
                after[_key(mine)] = escrow.give_back(mine, wish.returned_microeur)
    return after


def _opened(ask: RenewLeases, scope: Scope, span: Span) -> Account:
    return Account(
        scope_id=span[0],
        period_start=span[1],
        producer=ask.producer,
        epoch=ask.epoch,
        since=ask.asked_at,
        hardened=scope.hardened,
    )


def _key(one: Account) -> Key:
    return one.scope_id, one.period_start, one.producer, one.epoch
