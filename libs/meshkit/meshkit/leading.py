"""One process of several serves; the others stand by, and take over from one that died or was frozen.

Who leads holds a lock that ends with its database session, and beats in the table ``writer``. A standby that
finds the lock free, or the beat standing still, ends whatever sessions the other has left, takes the lock and
raises the epoch. Every commit of a leader compares the epoch (``still_leads``), and so does the bus with each
put: what has been taken over from can commit and put nothing, whatever it believes. Beats only say when to try.
"""

import asyncio
import contextlib
import logging
import time
from typing import Any, Final

import asyncpg

from meshkit.errors import Unavailable
from meshkit.lock import LET_GO_WITHIN_S, NAMESPACE
from meshkit.store import Store, is_away
from meshkit.tasks import Work, supervise
from meshkit.telemetry import METRICS

BEAT_EVERY_S: Final = 0.5
LOST_AFTER_S: Final = 3.0
"""A beat that has stood still for so long is no longer somebody's."""
LOOK_EVERY_S: Final = 0.25
PREPARE_AGAIN_S: Final = 0.25
FOLLOW_EVERY_S: Final = 0.25
"""How far a standby is behind, and so what a takeover still has to make up for."""
LEVEL_WITHIN_S: Final = 10.0
"""How long a process catches up before it tries to lead."""
LOOK_WITHIN_S: Final = 1.0
"""A look that took longer says nothing about the other: the database was slow."""
FENCE: Final = 1
"""The lock that ``still_leads`` shares and a takeover does not."""
LEAD: Final = 2

_END = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = $1 AND pid <> pg_backend_pid() AND datname = current_database()
"""

logger = logging.getLogger(__name__)


class Lead:
    """Whether this process leads the others of its owner. ``take``, then ``hold``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Any = None
        self.looked = asyncio.Event()
        """Set once it is known whether somebody else leads."""
        self.epoch = 0

    async def take(self) -> None:
        """Return once this process leads, in an epoch of its own; the store is fenced with it."""
        while True:
            try:
                connection = await self._store.connection()
            except Unavailable:
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            try:
                await self._stand_by(connection)
                self.epoch = await self._begin(connection)
            except BaseException as fault:
                connection.terminate()
                if not (is_away(fault) or isinstance(fault, asyncpg.LockNotAvailableError)):
                    raise
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            self._connection = connection
            self._store.fence(self.epoch)
            METRICS.set("mesh_leads", 1, owner=self._store.owner)
            logger.info("%s leads in epoch %d", self._store.name, self.epoch)
            return

    async def hold(self) -> None:
        """Beat, and return once another process has taken over."""
        while True:
            await asyncio.sleep(BEAT_EVERY_S)
            try:
                beaten = await self._connection.execute(
                    "UPDATE writer SET beat = beat + 1 WHERE epoch = $1", self.epoch
                )
            except Exception as fault:
                if not is_away(fault):
                    raise
                self._connection.terminate()
                if not await self._regained():
                    break
            else:
                if beaten != "UPDATE 1":
                    break
        self._store.deposed = True
        METRICS.set("mesh_leads", 0, owner=self._store.owner)

    async def let_go(self) -> None:
        """Let the next one lead."""
        if self._connection is None:
            return
        faults = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
        try:
            with contextlib.suppress(*faults):
                await self._connection.close(timeout=LET_GO_WITHIN_S)
        finally:
            # A beat that is under way keeps it from being closed in order.
            self._connection.terminate()

    async def _stand_by(self, connection: Any) -> None:
        """Return with the lock: once it is free, or whoever holds it has not beaten for too long."""
        seen, since = None, time.monotonic()
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", NAMESPACE, LEAD):
            METRICS.set("mesh_leads", 0, owner=self._store.owner)
            began = time.monotonic()
            row = await connection.fetchrow("SELECT epoch, beat, holder FROM writer")
            self.looked.set()
            now = time.monotonic()
            if tuple(row) != seen or now - began > LOOK_WITHIN_S:
                seen, since = tuple(row), now
            elif now - since > LOST_AFTER_S:
                logger.warning("%s does not beat any more; its sessions are ended", row["holder"])
                await connection.fetchval(_END, row["holder"])
                since = now
            await asyncio.sleep(LOOK_EVERY_S)

    async def _begin(self, connection: Any) -> int:
        """Raise the epoch: from its commit on nobody commits in an older one."""
        before = await connection.fetchval("SELECT holder FROM writer")
        if before:
            # It may live, and only have lost the lock with its session: what it has under way ends here.
            await connection.fetchval(_END, before)
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '2s'")
            await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", NAMESPACE, FENCE)
            epoch: int = await connection.fetchval(
                "UPDATE writer SET epoch = epoch + 1, holder = $1, beat = 0 RETURNING epoch",
                self._store.name,
            )
        # A beat that a crash takes back is no loss: none waits for the disk.
        await connection.execute("SET synchronous_commit = off")
        return epoch

    async def _regained(self) -> bool:
        """Return whether this process still leads, once it has the lock again or another has taken over."""
        while True:
            connection = None
            try:
                connection = await self._store.connection()
                while True:
                    if await connection.fetchval("SELECT epoch FROM writer") != self.epoch:
                        await connection.close(timeout=LET_GO_WITHIN_S)
                        return False
                    lock = "SELECT pg_try_advisory_lock($1, $2)"
                    if await connection.fetchval(lock, NAMESPACE, LEAD):
                        self._connection = connection
                        return True
                    await asyncio.sleep(LOOK_EVERY_S)
            except BaseException as fault:
                if connection is not None:
                    connection.terminate()
                if not (is_away(fault) or isinstance(fault, Unavailable)):
                    raise
                await asyncio.sleep(LOOK_EVERY_S)


async def take_turn(lead: Lead, follow: Work, prepare: Work, serve: Work) -> None:
    """Stand by until it is our turn, serve, and return once another process has taken over.

    ``follow`` catches up with who leads, again and again until then, and once before it is tried: of two that
    stand by the one that knows everything is first. ``prepare`` comes before ``serve``, which returns once all
    doors are open.
    """
    level = asyncio.Event()

    async def follows() -> None:
        while True:
            await follow()
            level.set()
            await asyncio.sleep(FOLLOW_EVERY_S)

    following = asyncio.create_task(supervise("follow", follows))
    try:
        # One that cannot catch up at all leads nevertheless, where nobody else does, and says why it cannot serve.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEVEL_WITHIN_S):
                await level.wait()
        await lead.take()
    finally:
        following.cancel()
    holding = asyncio.create_task(lead.hold(), name="beat")
    try:
        while not holding.done():
            try:
                await prepare()
            except Unavailable as fault:
                logger.warning("what leads cannot serve yet: %s", fault)
                await asyncio.sleep(PREPARE_AGAIN_S)
            else:
                await serve()
                break
        await holding
    finally:
        holding.cancel()
