"""Housekeeping: what the roads no longer need is deleted, a bounded number of rows at a time."""

import asyncio
import logging
from datetime import timedelta
from typing import Final

from mesh_contracts.streams import STREAMS

from meshkit.errors import Unavailable
from meshkit.idempotency import REPLY_KEPT
from meshkit.store import Store

KEEP_EVERY_S: Final = 60.0
ROWS_AT_ONCE: Final = 5_000

INBOX_KEPT: Final = timedelta(seconds=max(spec.max_age_s for spec in STREAMS)) + timedelta(days=1)
"""Longer than any stream keeps a fact: what can come again is still known."""

DEAD_LETTER_KEPT: Final = timedelta(days=30)
"""Time enough to mend what a fact failed on."""

_OLD = {
    "inbox": "DELETE FROM inbox WHERE ctid = ANY (ARRAY(SELECT ctid FROM inbox WHERE at < $1 LIMIT $2))",
    "dead_letter": "DELETE FROM dead_letter WHERE id = ANY (ARRAY(SELECT id FROM dead_letter WHERE at < $1 LIMIT $2))",
    "reply": "DELETE FROM reply WHERE ctid = ANY (ARRAY(SELECT ctid FROM reply WHERE at < $1 LIMIT $2))",
}
_KEPT = {"inbox": INBOX_KEPT, "reply": REPLY_KEPT, "dead_letter": DEAD_LETTER_KEPT}

logger = logging.getLogger(__name__)


async def tidy(store: Store) -> int:
    """Delete what is past its time; return how many rows went."""
    gone = 0
    for table, sql in _OLD.items():
        rows = ROWS_AT_ONCE
        while rows == ROWS_AT_ONCE:
            async with store.transaction() as tx:
                rows = await tx.change(sql, tx.now - _KEPT[table], ROWS_AT_ONCE)
            gone += rows
            if rows and table == "dead_letter":
                logger.warning("%d dead letters of %s are past their time and gone", rows, store.owner)
    return gone


async def keep_house(store: Store) -> None:
    """Tidy for ever."""
    while True:
        try:
            await tidy(store)
        except Unavailable as fault:
            logger.info("housekeeping waits: %s", fault)
        await asyncio.sleep(KEEP_EVERY_S)
