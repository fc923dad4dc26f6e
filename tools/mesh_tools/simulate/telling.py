"""Facts on their way to the bus: many agents' over one connection, those of one agent in order."""

import asyncio
from collections import deque
from typing import Final

from mesh_contracts import wire
from mesh_contracts.fact import Fact, subject_of
from meshkit.bus import Bus
from meshkit.errors import Unavailable

WAITING_MAX: Final = 200_000
"""Facts that wait to be told. Past it a simulation is too large for its machine, and ends."""
ON_THE_WAY_MAX: Final = 64
AGAIN_AFTER_S: Final = 0.1


class Teller:
    """Tells facts until each is kept. ``run`` it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[Fact] = deque()
        self._news = asyncio.Event()
        self._keys: set[str] = set()
        self._later: dict[str, deque[Fact]] = {}
        self._free = asyncio.Semaphore(ON_THE_WAY_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self.told = 0

    @property
    def waits(self) -> int:
        """How many facts are not kept yet."""
        return len(self._waiting) + len(self._tasks) + sum(len(one) for one in self._later.values())

    def tell(self, *facts: Fact) -> None:
        """Have facts be told, in this order. Raises ``OverflowError`` where too many wait."""
        if len(self._waiting) > WAITING_MAX:
            raise OverflowError(
                f"more than {WAITING_MAX} facts wait: the bus is too slow for so many agents"
            )
        self._waiting.extend(facts)
        self._news.set()

    async def run(self) -> None:
        """Tell what waits, until cancelled."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while self._waiting:
                    fact = self._waiting.popleft()
                    if fact.key in self._keys:
                        self._later.setdefault(fact.key, deque()).append(fact)
                        continue
                    await self._free.acquire()
                    self._keys.add(fact.key)
                    task = asyncio.create_task(self._chain(fact))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _chain(self, fact: Fact) -> None:
        """Tell one fact and all of its key that came meanwhile."""
        key = fact.key
        try:
            while True:
                await self._keep(fact)
                self.told += 1
                if key not in self._later:
                    return
                fact = self._later[key].popleft()
                if not self._later[key]:
                    del self._later[key]
        finally:
            self._keys.discard(key)
            self._free.release()

    async def _keep(self, fact: Fact) -> None:
        subject, data = subject_of(fact), wire.encode(fact)
        while True:
            try:
                await self._bus.store(subject, data, msg_id=fact.fact_id)
            except Unavailable:
                await asyncio.sleep(AGAIN_AFTER_S)
            else:
                return
