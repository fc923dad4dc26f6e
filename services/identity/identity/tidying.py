"""What is over is let go: join tokens, and what the bucket says of keys that ended long ago."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from meshkit.clock import Clock
from meshkit.errors import Unavailable
from meshkit.store import Store

from identity import store

TIDY_EVERY_S = 3_600.0
ROWS_AT_ONCE = 1_000

logger = logging.getLogger(__name__)


async def tidy(owner: Store, now: datetime) -> int:
    """Let go of what ended ``store.ENDED_SHOWN`` before ``now``; return how many rows."""
    gone = 0
    for some in (store.forget_tokens, store.hide_keys):
        rows = ROWS_AT_ONCE
        while rows == ROWS_AT_ONCE:
            async with owner.transaction() as tx:
                rows = await some(tx, now - store.ENDED_SHOWN, ROWS_AT_ONCE)
            gone += rows
    return gone


async def keep_tidy(opened: Callable[[], Store], clock: Clock) -> None:
    """Tidy at once and every hour, for ever."""
    while True:
        try:
            await tidy(opened(), clock.now())
        except Unavailable as fault:
            logger.info("tidying waits: %s", fault)
        await asyncio.sleep(TIDY_EVERY_S)
