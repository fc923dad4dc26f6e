"""The door for leases: gateways ask for their shares ahead of need, each every second or two.

One transaction, and as few statements as it takes however many scopes are asked for. The rows of the
scopes are locked in one order everywhere: what two gateways are given at a time never exceeds what is there.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.metering import Lease, Leases, LeaseWish, RenewLeases
from meshkit.clock import Clock
from meshkit.store import Transaction

from metering import ceilings, holdings, lending, store
from metering.domain.scopes import Scope
from metering.domain.shares import LEASE_MS, share
from metering.holdings import Share


async def renew_leases(
    ask: RenewLeases, _principal: Principal, tx: Transaction, _clock: Clock
) -> Leases | Problem:
    """Answer with the gateway's shares of the scopes it names, and the price book.

    No counter ever falls, so an answer that was lost is told by the next one. A share that shrank
    is free for others at once: a gateway that did not hear of it may go by the larger one until it
    asks again, or until that lease is over.
    """
    until = tx.now + timedelta(milliseconds=LEASE_MS)
    settled_below = min(ask.settled_below, ask.epoch)
    if not await holdings.alive(tx, ask.producer, ask.epoch, settled_below, until):
        return _epoch_over(ask)
    wishes = {wish.scope_id: wish for wish in ask.wishes}
    scopes = await ceilings.lock_leased(tx, wishes, ask.producer, settled_below)
    await holdings.settle(tx, ask.producer, settled_below)
    gateways = await holdings.count_alive(tx)
    leases = {
        scope.scope_id: Lease(scope_id=scope.scope_id)
        for scope in scopes
        if scope.limit_id is not None or scope.budget_id is not None
    }
    for lease in await _shares(ask, wishes, scopes, until, tx):
        leases[lease.scope_id] = lease
    spending = [scope for scope in scopes if scope.budget_id is not None]
    for money in await lending.lend(tx, ask, spending, gateways):
        leases[money.scope_id] = msgspec.structs.replace(
            leases[money.scope_id],
            granted_microeur=money.granted,
            left_microeur=money.left,
            period_start=money.start,
            period_end=money.end,
        )
    return Leases(
        items=list(leases.values()),
        lease_ms=LEASE_MS,
        gateways=gateways,
        prices=await store.prices(tx),
    )


async def _shares(
    ask: RenewLeases,
    wishes: Mapping[str, LeaseWish],
    scopes: Sequence[Scope],
    until: datetime,
    tx: Transaction,
) -> list[Lease]:
    limited = [scope for scope in scopes if scope.limit_id is not None]
    if not limited:
        return []
    others: dict[str, list[Share]] = {}
    for one in await holdings.shares(tx, [scope.scope_id for scope in limited], ask.producer):
        others.setdefault(one.scope_id, []).append(one)
    mine = [
        _share(ask.producer, wishes[scope.scope_id], scope, others.get(scope.scope_id, []))
        for scope in limited
    ]
    await holdings.keep_shares(tx, mine, until)
    return [
        Lease(
            scope_id=one.scope_id,
            requests_per_minute=one.requests,
            tokens_per_minute=one.tokens,
            parallel_requests=one.parallel,
        )
        for one in mine
    ]


def _share(me: str, wish: LeaseWish, scope: Scope, others: Sequence[Share]) -> Share:
    """Return the share of one gateway, given those of the others."""
    rows = [
        (one.producer, one.requests_wanted, one.tokens_wanted, one.parallel_wanted) for one in others
    ]
    rows.append((me, wish.requests_per_minute, wish.tokens_per_minute, wish.parallel))

    def part(
        ceiling: int | None, place: int, held: Mapping[str, int | None], in_use: int = 0
    ) -> int | None:
        if ceiling is None:
            return None
        demands = {str(row[0]): int(row[place]) for row in rows}
        others_have = {name: had or 0 for name, had in held.items()}
        return share(ceiling, me, demands, others_have, in_use=in_use)

    return Share(
        scope_id=scope.scope_id,
        producer=me,
        requests_wanted=wish.requests_per_minute,
        tokens_wanted=wish.tokens_per_minute,
        parallel_wanted=wish.parallel,
        requests=part(scope.requests_per_minute, 1, {one.producer: one.requests for one in others}),
        tokens=part(scope.tokens_per_minute, 2, {one.producer: one.tokens for one in others}),
        parallel=part(
            scope.parallel_requests,
            3,
            {one.producer: one.parallel for one in others},
            wish.parallel_active,
        ),
    )


def _epoch_over(ask: RenewLeases) -> Problem:
    return Problem(
        title="This start of the gateway is over",
        status=409,
        code="epoch_over",
        detail=(
            f"{ask.producer} has asked with a newer epoch than {ask.epoch}, or an operator has released what"
            " it held: start it again"
        ),
        param="epoch",
    )
