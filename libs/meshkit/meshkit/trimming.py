"""Room in a stream: what all its readers have is let go of, before the stream is full.

A stream refuses the new when it is full, so that nothing is lost unseen. Kept by age alone, a busy
one would be full long before: its owner trims it to what somebody still needs, and some more.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from mesh_contracts.streams import EVENTS, TRIMMED, StreamSpec, consumers, event_filters

from meshkit.bus import Bus
from meshkit.errors import MeshError, Unavailable
from meshkit.telemetry import METRICS

TRIM_EVERY_S: Final = 10.0
TRIM_ABOVE: Final = 0.5
"""A stream is trimmed once it holds this share of the bytes it may hold ..."""
TRIM_TO: Final = 0.3
"""... to about this share, never below what somebody still needs."""
FOLLOWED_WITHIN_S: Final = 5.0
"""``EVENTS`` was heard to follow at most so long ago (the server looks once a second)."""
ANSWER_WITHIN_S: Final = 5.0

logger = logging.getLogger(__name__)


class _Sequence(msgspec.Struct, frozen=True):
    stream_seq: int = 0


class _State(msgspec.Struct, frozen=True):
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


class _Source(msgspec.Struct, frozen=True):
    name: str
    lag: int = 0
    active: int = -1


class _Stream(msgspec.Struct, frozen=True):
    state: _State = _State()
    sources: list[_Source] = []


class _Consumer(msgspec.Struct, frozen=True):
    ack_floor: _Sequence = _Sequence()
    num_ack_pending: int = 0
    num_pending: int = 0


class Trim:
    """Makes room in one stream; ``look`` again and again."""

    def __init__(self, bus: Bus, spec: StreamSpec) -> None:
        self._bus = bus
        self._spec = spec
        self._readers = [one.name for one in consumers() if one.stream == spec.name]
        self._followed = spec.name in {stream for stream, _ in event_filters()}
        self._last_before = 0

    async def look(self) -> int:
        """Let go of what all have, where the stream is more than half full; return up to which sequence.

        0 where nothing was let go of. Raises ``Unavailable``, ``PermissionsViolation``.
        """
        told: _Stream = await self._info(f"STREAM.INFO.{self._spec.name}", _Stream)
        state = told.state
        last_before, self._last_before = self._last_before, state.last_seq
        METRICS.set("mesh_stream_bytes", state.bytes, stream=self._spec.name)
        if state.bytes <= TRIM_ABOVE * self._spec.max_bytes:
            return 0
        surplus = 1 - TRIM_TO * self._spec.max_bytes / state.bytes
        wished = state.first_seq + int((state.last_seq - state.first_seq) * surplus)
        # What was there at the look before: EVENTS says once a second how far behind it is.
        floors = [min(wished, last_before if await self._followed_whole() else 0)]
        floors += [await self._handled(name, state.last_seq) for name in self._readers]
        floor = min(floors)
        if floor < state.first_seq:
            return 0
        body = msgspec.json.encode({"seq": floor + 1})
        await self._ask(f"STREAM.PURGE.{self._spec.name}", body)
        METRICS.count("mesh_stream_trimmed_total", floor + 1 - state.first_seq, stream=self._spec.name)
        logger.info("%s let go of %d facts that all have", self._spec.name, floor + 1 - state.first_seq)
        return floor

    async def _followed_whole(self) -> bool:
        """Tell whether ``EVENTS``, where it follows this stream, had all of it a moment ago."""
        if not self._followed:
            return True
        info: _Stream = await self._info(f"STREAM.INFO.{EVENTS.name}", _Stream)
        source = next((one for one in info.sources if one.name == self._spec.name), None)
        return source is not None and source.lag == 0 and 0 <= source.active < FOLLOWED_WITHIN_S * 1e9

    async def _handled(self, reader: str, last: int) -> int:
        info: _Consumer = await self._info(f"CONSUMER.INFO.{self._spec.name}.{reader}", _Consumer)
        done = info.num_pending == 0 and info.num_ack_pending == 0
        return last if done else info.ack_floor.stream_seq

    async def _info(self, what: str, kind: Any) -> Any:
        return msgspec.json.decode(await self._ask(what, b""), type=kind)

    async def _ask(self, what: str, body: bytes) -> bytes:
        answer = await self._bus.request(f"$JS.API.{what}", body, within_s=ANSWER_WITHIN_S)
        fault = msgspec.json.decode(answer.data).get("error") if not answer.status else answer.status
        if fault:
            raise Unavailable(f"{what} was refused: {fault}")
        return answer.data


async def keep_room(bus: Bus, owner: str) -> None:
    """Make room in the streams of ``owner``, for ever."""
    trims: Iterable[Trim] = [Trim(bus, spec) for spec in TRIMMED if spec.owner == owner]
    said_at = 0.0
    while True:
        for trim in trims:
            try:
                await trim.look()
            except MeshError as fault:
                if time.monotonic() - said_at > TRIM_EVERY_S * 6:
                    said_at = time.monotonic()
                    logger.warning("a stream of %s was not looked at: %s", owner, fault)
        await asyncio.sleep(TRIM_EVERY_S)
