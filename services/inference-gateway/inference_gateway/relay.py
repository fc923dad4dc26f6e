"""An engine's answer on its way to the client: as it came, counted before it leaves."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from mesh_contracts.placement import Route

from inference_gateway.domain.body import Wanted
from inference_gateway.domain.faults import UNREADABLE
from inference_gateway.domain.refusals import Refusal, journal_full, malformed, unsayable
from inference_gateway.domain.sse import Splitter
from inference_gateway.domain.stream import Reading, whole_answer
from inference_gateway.recording import Recording
from inference_gateway.reply import Reply
from inference_gateway.settings import IDLE_GAP_S
from inference_gateway.upstream import Broken, Exchange

READ_OUT_WITHIN_S = 0.05
"""How long the end of an engine's stream is waited for, so that its connection can be kept."""


class EngineRefused(Exception):
    """A replica gave no answer that could be relayed, before anything was."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.fault.code)
        self.refusal = refusal


class Relay:
    """One answer of one replica. ``about_to`` is told how long the next wait may last, and what it means if it does."""

    def __init__(
        self,
        route: Route,
        wanted: Wanted,
        recording: Recording,
        reply: Reply,
        about_to: Callable[[float, str], None],
    ) -> None:
        self._route = route
        self._wanted = wanted
        self._recording = recording
        self._reply = reply
        self._about_to = about_to

    async def whole(self, raw: bytes) -> None:
        """Relay a plain answer. Raises ``EngineRefused`` where it is none."""
        try:
            answer = whole_answer(raw, self._route.name)
        except UNREADABLE:
            raise EngineRefused(Refusal(malformed(), elsewhere=True)) from None
        self._recording.finish_reason = answer.finish_reason
        if not self._recording.complete(answer.usage):
            await self._reply.refuse(journal_full())
            return
        try:
            await self._reply.whole(answer.body)
        except UNREADABLE:
            # What the engine made is counted; it cannot be said in the shape that was asked for.
            await self._reply.refuse(unsayable())

    async def stream(self, exchange: Exchange, data: bytes) -> None:
        """Relay a stream that begins with ``data``. Raises ``EngineRefused`` or ``Broken`` where nothing was relayed, ``Broken`` later."""
        route, wanted, reply, recording = self._route, self._wanted, self._reply, self._recording
        reading = Reading(
            route.engine,
            route.name,
            show_usage=wanted.show_usage,
            show_timings=wanted.show_timings,
            choices=wanted.choices * wanted.prompts,
        )
        feed = Splitter().feed
        while data:
            out = reading.take_all(feed(data))
            if reading.fault is not None and not reply.said:
                break
            if out or reading.done or reply.said:
                if not recording.read(reading):
                    await reply.break_off("journal_full")
                    return
                if out:
                    said = reply.spoken(out)
                    if not reply.flows(said):
                        await reply.part(said)
                if reading.fault is not None or reading.done:
                    break
                self._about_to(IDLE_GAP_S, "engine_idle_timeout")
            data = await exchange.read()
        await self._finish(reading)
        await _read_out(exchange)

    async def break_off(self, why: str) -> None:
        """End a stream that has begun and cannot go on: the client is told, the part is recorded."""
        if self._recording.row is None:
            self._recording.fail(200, why)
            await self._reply.break_off(why)
        else:
            # All was said and counted; only the engine's last word is missing.
            await self._reply.end()

    async def _finish(self, reading: Reading) -> None:
        """End a stream whose engine says no more: whole, or broken off."""
        if self._recording.row is None:
            if reading.finish_reason is None or reading.fault is not None:
                if not self._reply.said:
                    raise EngineRefused(Refusal(malformed(), elsewhere=True))
                await self.break_off(reading.fault or "engine_ended_early")
                return
            self._recording.complete(None)
        await self._reply.end(reading.last)


async def _read_out(exchange: Exchange) -> None:
    """Read what follows the end of a stream: nothing, and then the connection is free again."""
    with suppress(TimeoutError, Broken):
        async with asyncio.timeout(READ_OUT_WITHIN_S):
            while await exchange.read():
                pass
