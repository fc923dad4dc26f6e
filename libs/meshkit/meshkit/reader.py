"""The road of a fact with a store: heard once, in order per key, many to a transaction, none lost.

A batch of queued facts is one transaction: the inbox says which are new, their handlers run, and
after the commit each is acknowledged. Where a batch fails its facts are redone one by one. One that
fails waits for its next try, and its key with it; after ``DELIVER_MAX`` tries it is a dead letter and
its key goes on. A database or bus that is away is nobody's fault: then the whole reader waits.
"""

import asyncio
import contextlib
import heapq
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from meshkit import deadletter
from meshkit.consumer import Pulled
from meshkit.ears import DELIVER_MAX, RETRY_WAITS_S, Fate, Heard, Source, traced
from meshkit.errors import Unavailable
from meshkit.handled import Handled
from meshkit.pace import Pace, weight
from meshkit.places import Places
from meshkit.telemetry import METRICS
from meshkit.transaction import Transaction

AWAY_WAIT_S: Final = 0.25
"""Between two tries while the database or the bus is away."""
WORKING_EVERY_S: Final = 3.0
"""How often the bus is told that what is held is still being worked on (a third of the ack wait)."""

_HEAR = """
WITH said AS (INSERT INTO heard_version AS held (reader, key, version)
    SELECT $1, key, version FROM unnest($4::text[], $5::bigint[]) AS newest (key, version) ORDER BY key
    ON CONFLICT (reader, key) DO UPDATE SET version = greatest(held.version, excluded.version)
), placed AS (INSERT INTO reader (name, settled) VALUES ($1, $6)
    ON CONFLICT (name) DO UPDATE SET settled = excluded.settled, given_back = 0)
INSERT INTO inbox (reader, fact_id, at) SELECT $1, fact_id, $3 FROM unnest($2::text[]) AS fact_id
ON CONFLICT DO NOTHING RETURNING fact_id
"""

logger = logging.getLogger(__name__)


class Reader:
    """One consumer's facts, handled; ``heard`` is the pull consumer's callback."""

    def __init__(self, handled: Handled, source: Source) -> None:
        self.name = handled.name
        self._handled = handled
        self._store = handled.store
        self._source = source
        self._queue: deque[Heard] = deque()
        self._waiting: dict[str, deque[Heard]] = {}
        self._due: list[tuple[float, str]] = []
        self._bell = asyncio.Event()
        self._stopping = False
        self._places, self._pace = Places(), Pace()
        self._held: dict[int, Heard] = {}
        self._may_work = asyncio.Event()
        self._may_work.set()

    def heard(self, message: Pulled) -> None:
        """Take a delivery in."""
        heard = self._handled.ears.look(message)
        now = time.monotonic()
        if self._places.arrived(heard, now):
            self._queue.append(heard)
        self._held[id(heard)] = heard
        self._bell.set()

    async def run(self) -> None:
        """Handle what is heard until ``stop``. ``begin`` comes first."""
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._say_working())
            try:
                while not self._stopping:
                    await self._turn()
            finally:
                working.cancel()

    def stop(self) -> None:
        """Begin nothing more; ``run`` returns once the transaction at work has ended."""
        self._stopping = True
        self._bell.set()

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Begin no transaction within the block."""
        self._may_work.clear()
        try:
            yield
        finally:
            self._may_work.set()

    async def give_back(self) -> None:
        """Give back what was not begun: it is delivered again, to the next reader."""
        given = {heard.sequence: heard for heard in self._held.values()}
        self._held.clear()
        for sequence in sorted(given):
            self._source.nak(given[sequence].message)
        async with self._store.transaction() as tx:
            await tx.change(
                "UPDATE reader SET settled = $2, given_back = $3 WHERE name = $1",
                *(self.name, self._places.last, len(given)),
            )

    @property
    def backlog(self) -> int:
        """How many facts are held here."""
        return len(self._held)

    async def begin(self) -> None:
        """Learn where the last reader stopped, and handle what was parked for want of our types.

        Before the first delivery. Raises ``Unavailable``.
        """
        async with self._store.transaction() as tx:
            was = await tx.row("SELECT settled, given_back FROM reader WHERE name = $1", self.name)
            parked = await deadletter.parked(tx, self.name, self._handled.tags)
        if was is not None:
            self._places.expect(was["settled"], was["given_back"], time.monotonic())
        for dead_letter_id in parked:
            await self._handled.unpark(dead_letter_id)

    async def _turn(self) -> None:
        now = time.monotonic()
        self._queue.extend(self._places.released(now))
        while self._due and self._due[0][0] <= now:
            key = heapq.heappop(self._due)[1]
            # Its first fact is tried alone; where that works, the rest of the key follows it.
            rest = self._waiting.pop(key)
            self._queue.extendleft(reversed(rest))
            await self._work([self._queue.popleft()])
        if batch := self._take([]):
            await self._work(batch, more=True)
            return
        self._bell.clear()
        waits = [due for due, _ in self._due[:1]]
        waits += [until] if (until := self._places.held_until) else []
        try:
            async with asyncio.timeout(max(0.0, min(waits) - time.monotonic()) if waits else None):
                await self._bell.wait()
        except TimeoutError:
            pass

    def _take(self, batch: list[Heard]) -> list[Heard]:
        """Return ``batch`` with what else is queued, as far as there is room."""
        room = self._pace.room - sum(weight(heard.message.data) for heard in batch)
        while self._queue and room > 0:
            heard = self._queue[0]
            if heard.key in self._waiting:
                self._waiting[heard.key].append(self._queue.popleft())
                continue
            # A redelivered fact may be what ended its last reader: it goes alone, and is counted.
            if heard.delivered > 1 and batch:
                break
            batch.append(self._queue.popleft())
            room -= weight(heard.message.data)
            if heard.delivered > 1:
                break
        return batch

    async def _work(self, batch: list[Heard], *, more: bool = False) -> None:
        """See a batch through, with what is heard until its turn where ``more`` may join it."""
        while True:
            await self._may_work.wait()
            try:
                if batch[0].delivered > 1 and await self._deadly(batch[0]):
                    return
                await self._transact(batch, more=more and batch[0].delivered == 1)
            except Unavailable as fault:
                METRICS.count("mesh_reader_waits_total", consumer=self.name)
                logger.warning("%s waits: %s", self.name, fault)
                if self._stopping:
                    return
                await asyncio.sleep(AWAY_WAIT_S)
            except Exception as fault:  # noqa: BLE001 - whatever a handler raises is counted as a try
                await self._redo(batch, fault)
                return
            else:
                self._settle(batch)
                return

    async def _redo(self, batch: list[Heard], fault: Exception) -> None:
        """Find out which of a failed batch's facts fail; the others have their effect."""
        if len(batch) == 1:
            await self._failed(batch[0], fault)
            return
        for heard in batch:
            if self._stopping:
                # What is left is given back, and none of it before what came earlier.
                return
            if heard.key in self._waiting:
                self._waiting[heard.key].append(heard)
            else:
                await self._work([heard])

    async def _transact(self, batch: list[Heard], *, more: bool) -> None:
        if self._store.outbox_full:
            # What the handlers would tell has no room: the bus keeps the facts meanwhile.
            raise Unavailable("the outbox is full")
        async with self._store.transaction(changes=True) as tx:
            began = time.monotonic()
            if more:
                self._take(batch)
            newest: dict[str, int] = {}
            for fact in (heard.fact for heard in batch if heard.fact is not None):
                newest[fact.key] = max(fact.version, newest.get(fact.key, 0))
            settled = self._places.settled_with(batch)
            ids = [heard.fact_id for heard in batch if heard.fate is not Fate.DROP]
            new = await tx.rows(
                _HEAR, self.name, ids, tx.now, list(newest), list(newest.values()), settled
            )
            fresh = {row["fact_id"] for row in new}
            for heard in batch:
                if heard.begun:
                    # Whatever it comes to, it did not end its reader.
                    await deadletter.finished(tx, self.name, heard)
                if heard.fate is Fate.DROP or heard.fact_id not in fresh:
                    continue
                # The same fact may stand twice in one batch.
                fresh.discard(heard.fact_id)
                await self._effect(tx, heard)
        self._pace.took(len(batch), time.monotonic() - began)

    async def _effect(self, tx: Transaction, heard: Heard) -> None:
        if heard.fact is None:
            await deadletter.keep(
                tx, self.name, heard, parked=heard.fate is Fate.PARK, reason=heard.reason
            )
            return
        with traced(heard, self.name) or contextlib.nullcontext():
            await self._handled.handle(heard.fact, tx)

    async def _deadly(self, heard: Heard) -> bool:
        """Count a try of a redelivered fact before it is begun; bury it unseen past the bound."""
        if not heard.begun:
            async with self._store.transaction() as tx:
                heard.tries = await deadletter.begun(tx, self.name, heard) - 1
            heard.begun = True
        if heard.tries < DELIVER_MAX:
            return False
        await self._bury(heard, deadletter.GIVEN_UP)
        return True

    async def _failed(self, heard: Heard, fault: Exception) -> None:
        heard.tries += 1
        tag = heard.tag or "a fact"
        # The type alone: a message may quote what must not be logged.
        reason = f"{type(fault).__name__}: {fault}"
        logger.warning(
            "%s: %s was not handled (try %d of %d): %s",
            *(self.name, tag, heard.tries, DELIVER_MAX, type(fault).__name__),
            # Where it failed is told once, as it is given up: the tries before it say the same.
            exc_info=fault if heard.tries >= DELIVER_MAX else None,
        )
        METRICS.count("mesh_facts_failed_total", consumer=self.name)
        if heard.tries >= DELIVER_MAX:
            await self._bury(heard, reason)
            return
        self._waiting[heard.key] = deque([heard])
        heapq.heappush(self._due, (time.monotonic() + RETRY_WAITS_S[heard.tries - 1], heard.key))

    async def _bury(self, heard: Heard, reason: str) -> None:
        heard.fate = Fate.BURY
        heard.reason = reason
        while True:
            try:
                async with self._store.transaction() as tx:
                    await deadletter.bury(tx, self.name, heard, reason)
            except Unavailable:
                if self._stopping:
                    return
                await asyncio.sleep(AWAY_WAIT_S)
            else:
                METRICS.count("mesh_dead_letters_total", consumer=self.name)
                self._settle([heard])
                return

    def _settle(self, batch: list[Heard]) -> None:
        for heard in batch:
            if heard.fate is not Fate.HANDLE:
                METRICS.count("mesh_facts_refused_total", consumer=self.name, fate=heard.fate.value)
                logger.warning(
                    "a fact on %s had no effect (%s): %s", self.name, heard.fate.value, heard.reason
                )
            self._source.ack(heard.message)
            heard.done = True
            self._held.pop(id(heard), None)
        self._places.settle()
        METRICS.count("mesh_facts_handled_total", len(batch), consumer=self.name)

    async def _say_working(self) -> None:
        while True:
            await asyncio.sleep(WORKING_EVERY_S)
            for heard in list(self._held.values()):
                self._source.working(heard.message)
