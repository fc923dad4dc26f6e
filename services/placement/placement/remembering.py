"""What the memory does beside deciding: a standby follows it, a leader keeps snapshots and forgets what is old."""

import asyncio
import gc
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from meshkit.store import Store

from placement import logbook, memory
from placement.domain.kept import parts_of

KEEP_EVERY_S: Final = 1.0
PRUNE_EVERY: Final = 60
"""Looks for a snapshot that is due, from one pruning to the next."""
KEPT: Final = timedelta(days=7)
KEPT_MAX: Final = 2_000_000
"""Decisions that are kept though a snapshot covers them: for so long, and so many."""
PRUNE_BATCH: Final = 10_000
GARBAGE: Final = (50_000, 20, 100)
"""How much is made before it is looked for garbage in: what is placed stays, and a look goes through all of it."""


async def follow(opened: Callable[[], Store], site: str) -> None:
    """Decide again what another process has decided since."""
    async with opened().transaction() as tx:
        await memory.of(tx.beside).at(site).catch_up(tx)


async def prepare(opened: Callable[[], Store], site: str) -> None:
    """Have the site's engine where the database is, before anybody asks it."""
    async with opened().transaction() as tx:
        await memory.hold(tx, site)
    # What is there now stays: looking through it for garbage, again and again, would hold everybody up.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


async def keep(opened: Callable[[], Store], site: str) -> None:
    """Keep snapshots as they fall due, and forget the decisions that are past their time; for ever."""
    ticks = 0
    while True:
        await asyncio.sleep(KEEP_EVERY_S)
        ticks += 1
        await keep_due(opened(), site)
        if ticks % PRUNE_EVERY == 0:
            await prune(opened(), site)


async def keep_due(store: Store, site: str) -> None:
    """Keep the snapshot that is due, if one is."""
    due = memory.of(store.beside).at(site).take_due()
    if due is None:
        return
    state = []
    for part in parts_of(due[1]):
        state.append(part)
        # Those who ask have their turn in between.
        await asyncio.sleep(0)
    async with store.transaction() as tx:
        await logbook.keep_snapshot(tx, site, due[0], state)


async def prune(store: Store, site: str) -> None:
    """Forget the decisions that are past their time."""
    gone = PRUNE_BATCH
    while gone == PRUNE_BATCH:
        async with store.transaction() as tx:
            gone = await logbook.prune(tx, site, tx.now - KEPT, KEPT_MAX, PRUNE_BATCH)
