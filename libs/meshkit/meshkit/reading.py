"""One live reader a consumer: whoever holds its lock pulls; others stand by."""

import asyncio
import contextlib
import logging
from typing import Final

from mesh_contracts.streams import ConsumerSpec

from meshkit.bus import Bus
from meshkit.consumer import Pull
from meshkit.errors import Unavailable
from meshkit.handled import Handled
from meshkit.lock import SessionLock
from meshkit.reader import AWAY_WAIT_S, Reader
from meshkit.telemetry import METRICS

REGAIN_WITHIN_S: Final = 2.0
"""How long a reader whose lock was lost keeps what it holds while somebody else has the lock."""
FINISH_WITHIN_S: Final = 2.0
COUNTERS: Final = ("mesh_facts_handled_total", "mesh_facts_failed_total", "mesh_dead_letters_total")

logger = logging.getLogger(__name__)


class Reading:
    """Reads one consumer's facts whenever its lock is ours. ``run`` it beside the doors."""

    def __init__(self, bus: Bus, consumer: ConsumerSpec, handled: Handled) -> None:
        self._bus = bus
        self._consumer = consumer
        self._handled = handled
        self._stopping = asyncio.Event()
        self._lock_name = f"reader/{consumer.name}"

    async def run(self) -> None:
        """Read until ``stop``."""
        while not self._stopping.is_set():
            lock = await SessionLock.take_unless(self._stopping, self._handled.store, self._lock_name)
            if lock is None:
                return
            try:
                await self._hold(lock)
            except Unavailable as fault:
                logger.warning("%s waits: %s", self._consumer.name, fault)
                await asyncio.sleep(AWAY_WAIT_S)
            finally:
                await lock.let_go()

    def stop(self) -> None:
        """Finish the transaction at work, give the rest back, and return from ``run``."""
        self._stopping.set()

    async def _hold(self, lock: SessionLock) -> None:
        pull = Pull(self._bus, self._consumer.stream, self._consumer.name)
        reader = Reader(self._handled, pull)
        await reader.begin()
        # What has not gone wrong yet is shown as nought, not as unknown.
        for name in COUNTERS:
            METRICS.count(name, 0, consumer=self._consumer.name)
        await pull.start(reader.heard)
        logger.info("%s reads", self._consumer.name)
        work = asyncio.create_task(reader.run(), name=self._consumer.name)
        try:
            while not work.done() and not self._stopping.is_set():
                stopping = asyncio.create_task(self._stopping.wait())
                lost = asyncio.create_task(lock.lost.wait())
                await asyncio.wait({work, stopping, lost}, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                lost.cancel()
                if lock.lost.is_set() and not self._stopping.is_set():
                    async with reader.paused():
                        # Nobody else can take it while the database is away.
                        taken = await SessionLock.take_unless(
                            self._stopping,
                            self._handled.store,
                            self._lock_name,
                            patience_s=REGAIN_WITHIN_S,
                        )
                    if taken is None:
                        return
                    await lock.let_go()
                    lock = taken
            if work.done():
                work.result()
        finally:
            reader.stop()
            await pull.stop(give_back=False)
            await asyncio.wait({work}, timeout=FINISH_WITHIN_S)
            work.cancel()
            with contextlib.suppress(Unavailable):
                await reader.give_back()
            await lock.let_go()
