"""The door for operators: which gateways hold what of budgets, and what a lost one holds made free again."""

import logging

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.fact import born_of
from mesh_contracts.metering import (
    RELEASED_MAX,
    Holding,
    HoldingReleased,
    Holdings,
    ListHoldings,
    Released,
    ReleaseHolding,
)
from mesh_contracts.units import MoneyMicroeur
from meshkit.clock import Clock
from meshkit.store import Transaction

from metering import ceilings, holdings, store
from metering.domain import wishes

logger = logging.getLogger(__name__)


async def list_holdings(
    ask: ListHoldings, _principal: Principal, tx: Transaction, _clock: Clock
) -> Holdings:
    """Answer with the gateways that hold anything, alive or not."""
    most = store.bounded(ask.page)
    found = await holdings.holders(tx, ask.page.cursor or "", most + 1)
    return Holdings(items=found[:most], next=found[most - 1].id if len(found) > most else None)


async def release_holding(
    ask: ReleaseHolding, principal: Principal, tx: Transaction, _clock: Clock
) -> Holding | Problem:
    """Answer with what the gateway held; it is free now, and its epochs so far are over.

    Only of one that has been dead for a while. It is an operator's word that the journal is lost: nothing
    here could tell that from one that comes back, and a line of it may pass a hard budget then.
    """
    holding = await holdings.hold_holder(tx, ask.producer)
    if holding is None:
        return wishes.not_found("holding", ask.producer)
    fault = wishes.lives(ask.producer, holding.lives_until, tx.now)
    if fault is not None:
        return fault
    # In the order in which renewals lock: the gateway, then its scopes.
    await ceilings.lock_leased(tx, [], ask.producer, holding.epoch + 1)
    freed = await holdings.outstanding_of(tx, ask.producer, RELEASED_MAX)
    epoch = max([holding.epoch, *(account.epoch + 1 for account in freed)])
    await holdings.release(tx, freed, principal.principal_id)
    await holdings.end_epochs(tx, ask.producer, epoch)
    born = born_of(ask, tx.now, HoldingReleased, key=ask.producer, actor=principal.principal_id)
    released = [
        Released(
            scope_id=account.scope_id,
            period_start=account.period_start,
            epoch=account.epoch,
            amount_microeur=MoneyMicroeur(account.outstanding),
        )
        for account in freed
    ]
    await tx.tell(HoldingReleased(**born, producer=ask.producer, epoch=epoch, released=released))
    logger.warning(
        "%s released what gateway %s held of %d budgets",
        *(principal.principal_id, ask.producer, len(freed)),
    )
    return holding
