"""What befalls two placements: sessions that end, a leader that stands still, or dies."""

import asyncio
import signal
import time
from collections import Counter
from random import Random

from meshkit.store import Store

from tests.adapters.standby import Placement, Processes

LOOK_EVERY_S = 0.1
READY_WITHIN_S = 60.0
FROZEN_S = 1.0
"""How long a leader stands still that another has taken over from."""


class Trouble:
    """Makes trouble, and starts anew whatever ended of it."""

    def __init__(self, processes: Processes, store: Store, seed: int) -> None:
        self._processes, self._store = processes, store
        self._chance = Random(f"{seed} trouble")
        self.made: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()
        self.took_over_s: list[float] = []
        self._ended: set[Placement] = set()

    async def keep_two(self) -> None:
        """Start another for each that ended, until cancelled."""
        while True:
            for one in [one for one in self._processes.all if one not in self._ended]:
                code = one.process.poll()
                if code is not None:
                    self._ended.add(one)
                    self.codes[code] += 1
                    self._processes.spawn()
            await asyncio.sleep(LOOK_EVERY_S)

    async def end_sessions(self) -> None:
        """End some of the sessions that placement has with its database, or all."""
        self.made["sessions ended"] += 1
        share = self._chance.choice([0.3, 0.6, 1.0])
        async with self._store.transaction() as tx:
            pids = await tx.rows(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'placement/%' ORDER BY pid"
            )
            for row in pids:
                if self._chance.random() < share:
                    await tx.rows("SELECT pg_terminate_backend($1)", row["pid"])

    async def freeze(self) -> None:
        """Have the leader stand still until the other leads, then go on."""
        leader, other = await self._two()
        self.made["leader frozen"] += 1
        leader.send(signal.SIGSTOP)
        await self._takes_over(other)
        await asyncio.sleep(FROZEN_S)
        leader.send(signal.SIGCONT)

    async def kill(self) -> None:
        """Kill the leader."""
        leader, other = await self._two()
        self.made["leader killed"] += 1
        leader.send(signal.SIGKILL)
        await self._takes_over(other)

    async def any(self, least_s: float, most_s: float) -> None:
        """Make trouble of each kind, again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._chance.uniform(least_s, most_s))
            await self._chance.choice([self.end_sessions, self.end_sessions, self.freeze, self.kill])()

    async def _two(self) -> tuple[Placement, Placement]:
        """Return who leads and who stands by, once there are such two."""
        until = time.monotonic() + READY_WITHIN_S
        while True:
            alive = [one for one in self._processes.all if one.process.poll() is None]
            leads = [one for one in alive if one.leads()]
            others = [one for one in alive if not one.leads()]
            if len(leads) == len(others) == 1 and await asyncio.to_thread(others[0].ready):
                return leads[0], others[0]
            assert time.monotonic() < until, "there is no leader with a standby"
            await asyncio.sleep(LOOK_EVERY_S)

    async def _takes_over(self, other: Placement) -> None:
        began = time.monotonic()
        while not other.leads():
            assert time.monotonic() - began < READY_WITHIN_S, "nobody takes over"
            await asyncio.sleep(LOOK_EVERY_S)
        self.took_over_s.append(time.monotonic() - began)
