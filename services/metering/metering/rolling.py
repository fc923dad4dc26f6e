"""A new period begins: the bucket shows it, also where nobody asks; and what is over is forgotten."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec
from meshkit.errors import Unavailable
from meshkit.store import Store, Transaction

from metering import ceilings, crossing, holdings
from metering.domain.scopes import Spend, end_of, start_of

ROLL_EVERY_S: Final = 1.0
"""How late the bucket may show a new period, while everything is up."""
ROLLED_AT_ONCE: Final = 200
TIDY_EVERY: Final = 600
"""Looks between two times that shares which are over are forgotten."""

logger = logging.getLogger(__name__)


async def roll(tx: Transaction) -> int:
    """Show the period that has begun of scopes whose shown one is over; return how many.

    What gateways held in the period before the one that is over is forgotten: its lines have come.
    """
    over = await ceilings.lock_over(tx, tx.now, ROLLED_AT_ONCE)
    ended = [(scope.scope_id, scope.period_start) for scope in over if scope.period_start is not None]
    begun = {}
    for scope in over:
        start = start_of(scope.period, tx.now)
        begun[scope.scope_id, start] = msgspec.structs.replace(
            scope, period_start=start, period_end=end_of(scope.period, start)
        )
    if not begun:
        return 0
    spends = await ceilings.spends(tx, begun)
    for span, scope in begun.items():
        # A line may have been quicker than this look.
        await crossing.show(tx, scope, spends.get(span, Spend()).crossed)
    await ceilings.keep_periods(tx, begun.values())
    await holdings.forget_before(tx, ended)
    return len(begun)


async def keep_rolling(opened: Callable[[], Store]) -> None:
    """Look each second, for ever."""
    looks = 0
    while True:
        try:
            rolled = ROLLED_AT_ONCE
            while rolled == ROLLED_AT_ONCE:
                async with opened().transaction() as tx:
                    rolled = await roll(tx)
            if looks % TIDY_EVERY == 0:
                async with opened().transaction() as tx:
                    await holdings.forget_shares(tx)
            looks += 1
        except Unavailable as fault:
            logger.info("a new period is shown later: %s", fault)
        await asyncio.sleep(ROLL_EVERY_S)
