"""One at a time: a lock that lasts as long as its database session, which ends with its process."""

import asyncio
import contextlib
import math
import time
from typing import Any, Final
from zlib import crc32

import asyncpg

from meshkit.errors import Unavailable
from meshkit.store import Store, is_away

LOCK_POLL_S: Final = 0.25
"""How often a standby asks whether the lock is free."""
LET_GO_WITHIN_S: Final = 1.0
NAMESPACE: Final = 0x6D657368


class SessionLock:
    """A named lock of one owner's database, held on a connection of its own."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.lost = asyncio.Event()
        connection.add_termination_listener(self._ended)

    @classmethod
    async def take(
        cls, store: Store, name: str, *, patience_s: float = math.inf
    ) -> "SessionLock | None":
        """Return the lock once nobody else holds it; waits for a database that is away, too.

        Returns nothing where somebody else has held it for ``patience_s``.
        """
        number = crc32(name.encode()) - 2**31
        while True:
            try:
                connection = await store.connection()
            except Unavailable:
                await asyncio.sleep(LOCK_POLL_S)
                continue
            until = time.monotonic() + patience_s
            try:
                while True:
                    taken = await connection.fetchval(
                        "SELECT pg_try_advisory_lock($1, $2)", NAMESPACE, number
                    )
                    if taken:
                        return cls(connection)
                    if time.monotonic() > until:
                        await connection.close(timeout=LET_GO_WITHIN_S)
                        return None
                    await asyncio.sleep(LOCK_POLL_S)
            except BaseException as fault:
                connection.terminate()
                if not is_away(fault):
                    raise
                await asyncio.sleep(LOCK_POLL_S)

    @classmethod
    async def take_unless(
        cls, told: asyncio.Event, store: Store, name: str, *, patience_s: float = math.inf
    ) -> "SessionLock | None":
        """Return the lock as ``take`` does, or nothing once ``told`` is set."""
        take = asyncio.create_task(cls.take(store, name, patience_s=patience_s))
        stopping = asyncio.create_task(told.wait())
        try:
            await asyncio.wait({take, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return take.result() if take.done() else None
        finally:
            stopping.cancel()
            if not take.done():
                take.cancel()

    async def let_go(self) -> None:
        """Give the lock to the next one."""
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self.connection.close(timeout=LET_GO_WITHIN_S)

    def _ended(self, _connection: Any) -> None:
        self.lost.set()
