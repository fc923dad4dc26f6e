"""The road of a fact without a store: guard, decode, order per key, trace, acknowledge.

:mod:`meshkit.reader` is the road with a store: heard once, dead letters. What both share, looking
at what comes in, is in :mod:`meshkit.ears`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from zlib import crc32

from mesh_contracts.fact import Fact

from meshkit.consumer import Pulled
from meshkit.ears import DELIVER_MAX, RETRY_WAITS_S, Ears, Fate, Heard, Source, traced
from meshkit.telemetry import METRICS

LANES: Final = 16
"""Handlers at work at once; facts of one key share a lane."""
TURN_MAX: Final = 128
"""Facts that one lane handles before it lets others have a turn."""

logger = logging.getLogger(__name__)

Handle = Callable[[Any], Awaitable[None]]


class Lanes:
    """The road without a store: each fact to its handler, in order per key, acknowledged one by one.

    Give ``heard`` to the pull consumer's ``start``. A handler that fails is tried again after
    ``RETRY_WAITS_S`` while its key waits and others go on; after ``DELIVER_MAX`` tries the fact is
    counted, logged and let go: without a store there is nowhere to keep it.
    """

    def __init__(self, consumer: str, source: Source, handlers: Mapping[type[Fact], Handle]) -> None:
        self._consumer = consumer
        self._source = source
        self._handlers = dict(handlers)
        self._ears = Ears(handlers)
        self._lanes: list[deque[Heard]] = [deque() for _ in range(LANES)]
        self._bells = [asyncio.Event() for _ in range(LANES)]
        self._waiting: dict[str, deque[Heard]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Open the lanes."""
        for lane, bell in zip(self._lanes, self._bells, strict=True):
            self._begin(self._drive(lane, bell))

    def heard(self, message: Pulled) -> None:
        """Take a delivery in."""
        heard = self._ears.look(message)
        if heard.fate is not Fate.HANDLE:
            METRICS.count("mesh_facts_refused_total", consumer=self._consumer, fate=heard.fate.value)
            logger.warning("a fact on %s is let go: it %s", self._consumer, heard.reason)
            self._source.ack(message)
            return
        number = crc32(heard.key.encode()) % LANES
        self._lanes[number].append(heard)
        self._bells[number].set()

    async def stop(self) -> None:
        """Let go of what has not begun; it is delivered again to the next reader."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, lane: deque[Heard], bell: asyncio.Event) -> None:
        waiting, source = self._waiting, self._source
        while True:
            await bell.wait()
            bell.clear()
            handled = 0
            while lane:
                heard = lane.popleft()
                if heard.key in waiting:
                    waiting[heard.key].append(heard)
                    continue
                if await self._handled(heard):
                    source.ack(heard.message)
                    handled += 1
                else:
                    waiting[heard.key] = deque([heard])
                    self._begin(self._again(heard.key, lane, bell))
                if handled % TURN_MAX == 0:
                    await asyncio.sleep(0)
            METRICS.count("mesh_facts_handled_total", handled, consumer=self._consumer)

    async def _handled(self, heard: Heard) -> bool:
        assert heard.fact is not None
        handler = self._handlers[type(heard.fact)]
        traced_span = traced(heard, self._consumer)
        try:
            if traced_span is None:
                await handler(heard.fact)
            else:
                with traced_span:
                    await handler(heard.fact)
        except Exception:
            heard.tries += 1
            logger.exception("a fact on %s was not handled (try %d)", self._consumer, heard.tries)
            return False
        return True

    async def _again(self, key: str, lane: deque[Heard], bell: asyncio.Event) -> None:
        """Try the first fact of a key again until it is handled or given up on; then let the key go on."""
        first = self._waiting[key][0]
        while first.tries < DELIVER_MAX:
            await asyncio.sleep(RETRY_WAITS_S[first.tries - 1])
            self._source.working(first.message)
            if await self._handled(first):
                break
        else:
            METRICS.count("mesh_facts_refused_total", consumer=self._consumer, fate="given-up")
        self._source.ack(first.message)
        left = self._waiting.pop(key)
        left.popleft()
        lane.extendleft(reversed(left))
        bell.set()
