"""The teller of demand: looks at what stands at each endpoint, and tells placement what it needs to know."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from itertools import islice

from mesh_contracts.inference import DEMANDS_MAX, DemandChanged
from mesh_contracts.units import Site, derived_id
from meshkit.clock import Clock
from meshkit.errors import JournalFull
from meshkit.journal import Journal
from meshkit.telemetry import METRICS

from inference_gateway.domain.demand import (
    STANDS_MS,
    Said,
    Seen,
    demand_of,
    remembered,
    worth_telling,
)

LOOK_EVERY_S = 0.25
LOOK_PAUSE_S = 0.05
"""The least time between two looks, however often it is rung."""

BACKLOG_MAX = 64
"""Facts that may wait in the journal: behind more, a word about now would arrive when it is none."""

TOLD = "mesh_gateway_demand_told_total"
HELD_BACK = "mesh_gateway_demand_held_back_total"
"""Looks at which there was something to tell, and no room or no way to tell it."""

Snapshot = Callable[[], Mapping[str, Seen]]


class DemandTeller:
    """Tells what ``snapshot`` shows, by endpoint id: at once where somebody waits, else at a calm pace.

    ``on_told`` is called with the journal's position of each fact: nothing up to it is needed here.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        site: Site,
        snapshot: Snapshot,
        *,
        on_told: Callable[[int], None] | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._site = site
        self._snapshot = snapshot
        self._on_told = on_told
        self._said: dict[str, Said] = {}
        # Of two facts the higher number is the truth, also across a restart.
        self._sequence = journal.epoch << 32
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """Have it look now: a request waits, and no replica serves."""
        self._bell.set()

    async def run(self) -> None:
        """Look and tell, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._bell.wait()
            self._bell.clear()
            self.look()
            await asyncio.sleep(LOOK_PAUSE_S)

    def look(self) -> int:
        """Tell what is worth telling now; return of how many endpoints."""
        seen = self._snapshot()
        worth = worth_telling(self._said, seen, self._clock.monotonic())
        told: dict[str, Said] = {}
        words = iter(worth.items())
        while part := dict(islice(words, DEMANDS_MAX)):
            if self._journal.backlog >= BACKLOG_MAX or not self._tell(part):
                METRICS.count(HELD_BACK)
                break
            told |= part
        self._said = remembered(self._said, told, seen)
        METRICS.count(TOLD, len(told))
        return len(told)

    def _tell(self, words: Mapping[str, Said]) -> bool:
        """Write one fact; false where the journal is full, which only means that it is told later."""
        now, producer, sequence = self._clock.now(), self._journal.producer, self._sequence + 1
        fact = DemandChanged(
            fact_id=derived_id("fact", now, producer, "demand", str(sequence)),
            key=producer,
            site=self._site,
            occurred_at=now,
            producer=producer,
            sequence=sequence,
            stands_ms=STANDS_MS,
            demands=[
                demand_of(endpoint_id, word, self._said.get(endpoint_id))
                for endpoint_id, word in words.items()
            ],
        )
        try:
            position = self._journal.tell(fact)
        except JournalFull:
            return False
        self._sequence = sequence
        if self._on_told is not None:
            self._on_told(position)
        return True
