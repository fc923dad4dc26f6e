"""One admitted request: asked of a replica, relayed, recorded once."""

import asyncio
import logging
from contextlib import suppress

import aiohttp
from mesh_contracts.inference import UsageRow
from mesh_contracts.placement import Replica, Route
from meshkit import semconv
from meshkit.telemetry import METRICS, SpanKind, span, traceparent

from inference_gateway.domain.body import Operation, Wanted, for_engine
from inference_gateway.domain.directory import least_busy, not_serving
from inference_gateway.domain.faults import UNREADABLE, Fault, unavailable
from inference_gateway.domain.refusals import Refusal, journal_full, malformed, refusal_of, unreachable
from inference_gateway.domain.sse import EventTooLong, Splitter
from inference_gateway.domain.stream import DONE, Reading, whole_answer
from inference_gateway.http.wire import (
    Headers,
    Receive,
    Send,
)
from inference_gateway.recording import CLIENT_LEFT, STOPPING, Recording
from inference_gateway.reply import Reply
from inference_gateway.room import Room
from inference_gateway.settings import (
    ANSWER_BYTES_MAX,
    ATTEMPTS_MAX,
    CLIENT_STUCK_S,
    FIRST_BYTE_WAIT_S,
    IDLE_GAP_S,
)

REFUSAL_BYTES_MAX = 64 * 1024


BAD_NEWS_WITHIN_S = 1.0
READ_OUT_WITHIN_S = 0.05
"""How long the end of an engine's stream is waited for, so that its connection can be kept."""

log = logging.getLogger(__name__)


class EngineRefused(Exception):
    """A replica gave no answer that could be relayed, before anything was."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.fault.code)
        self.refusal = refusal


class Call:
    """One request from its admission to its end. ``run`` it once."""

    def __init__(
        self,
        room: Room,
        operation: Operation,
        wanted: Wanted,
        recording: Recording,
    ) -> None:
        self._room = room
        self._operation = operation
        self._wanted = wanted
        self._recording = recording
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._reply: Reply | None = None
        self._why: str | None = None
        self.due = self._loop.time() + FIRST_BYTE_WAIT_S
        self.due_why = "engine_first_byte_timeout"

    async def run(self, receive: Receive, send: Send, headers: Headers) -> UsageRow | None:
        """Answer the client; return the row (nothing where the request was not admitted)."""
        self._task = asyncio.current_task()
        reply = self._reply = Reply(send, headers, self._wait_for_client)
        leaving = asyncio.create_task(self._heed_leaving(receive))
        self._room.calls.enter(self)
        try:
            await self._answer(reply)
        except asyncio.CancelledError:
            if self._why is None:
                self._recording.close(STOPPING, started=reply.started)
                raise
            assert self._task is not None
            self._task.uncancel()
            await self._say_cut(self._why, reply)
        except Exception:
            # Our own mistake: the request is still answered, and still has its row.
            log.exception("a call failed here")
            await self._say_cut("gateway_fault", reply)
        finally:
            self._room.calls.leave(self)
            leaving.cancel()
            self._recording.close(self._why or "gateway_fault", started=reply.started)
        return self._recording.row

    def cut(self, why: str) -> None:
        """End the call now, whatever it waits for."""
        if self._why is None and self._task is not None and not (self._reply and self._reply.done):
            self._why = why
            self._task.cancel()

    async def _heed_leaving(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.cut(CLIENT_LEFT)

    async def _answer(self, reply: Reply) -> None:
        """Ask one replica after the other until one answers; nothing is asked twice once bytes flow."""
        tried: list[str] = []
        refusal: Refusal | None = None
        stale = False
        for attempt in range(1, ATTEMPTS_MAX + 1):
            route, replica = self._next(tried)
            if route is None or replica is None:
                break
            if not self._recording.open(replica, attempt):
                await reply.refuse(journal_full())
                return
            try:
                await self._ask(route, replica, reply, fresh=stale)
            except EngineRefused as refused:
                refusal = refused.refusal
                if not refusal.elsewhere:
                    break
            except (aiohttp.ClientError, OSError, EventTooLong) as broken:
                if reply.started:
                    await self._break_off("engine_lost", reply)
                    return
                refusal = Refusal(unreachable(route.name), elsewhere=True)
                METRICS.count("mesh_gateway_engine_faults_total", kind=type(broken).__name__)
                if not stale and _is_stale(broken):
                    # An engine may close a kept connection just as we write: no sign of illness.
                    stale = True
                    continue
            else:
                return
            tried.append(replica.workload_id)
            METRICS.count("mesh_gateway_retries_total")
        await self._refuse(refusal, reply)

    def _next(self, tried: list[str]) -> tuple[Route | None, Replica | None]:
        opening = self._recording.opening
        route = self._room.directory.find(opening.project, opening.model)
        if route is None:
            return None, None
        busy = self._room.engines.in_flight
        return route, least_busy(route.replicas, busy, tried, self._room.calls.turn())

    async def _ask(self, route: Route, replica: Replica, reply: Reply, *, fresh: bool) -> None:
        body = for_engine(self._wanted, route.engine, route.model_id)
        host, _, port = replica.address.partition("/")[0].rpartition(":")
        attributes = {
            semconv.HTTP_REQUEST_METHOD: "POST",
            semconv.SERVER_ADDRESS: host,
            semconv.SERVER_PORT: port,
            semconv.MESH_ENDPOINT_ID: route.endpoint_id,
        }
        with span(f"POST {self._operation.path}", kind=SpanKind.CLIENT, attributes=attributes) as seen:
            exchange = self._room.engines.ask(
                replica, self._operation.path, body, traceparent(), fresh=fresh
            )
            async with exchange:
                answer = await exchange.answer()
                seen.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, answer.status)
                if answer.status != 200:
                    raw = await _refusal_in(answer)
                    raise EngineRefused(refusal_of(answer.status, raw, route.name))
                if self._wanted.stream:
                    await self._relay(route, answer, reply)
                    await _read_out(answer)
                else:
                    await self._relay_whole(route, answer, reply)

    async def _relay_whole(self, route: Route, answer: aiohttp.ClientResponse, reply: Reply) -> None:
        parts, size = [], 0
        async for part in answer.content.iter_any():
            parts.append(part)
            size += len(part)
            self._await(IDLE_GAP_S, "engine_idle_timeout")
            if size > ANSWER_BYTES_MAX:
                raise EventTooLong
        try:
            body, usage = whole_answer(b"".join(parts), route.name)
        except UNREADABLE:
            raise EngineRefused(Refusal(malformed(), elsewhere=True)) from None
        if self._recording.complete(usage):
            await reply.whole(body)
        else:
            await reply.refuse(journal_full())

    async def _relay(self, route: Route, answer: aiohttp.ClientResponse, reply: Reply) -> None:
        wanted = self._wanted
        reading = Reading(
            route.engine,
            route.name,
            show_usage=wanted.show_usage,
            show_timings=wanted.show_timings,
            choices=wanted.choices * wanted.prompts,
        )
        splitter = Splitter()
        async for data in answer.content.iter_any():
            out = reading.take_all(splitter.feed(data))
            if not reply.started:
                if reading.fault is not None:
                    break
                if not out and not reading.done:
                    continue
            if not self._recording.read(reading):
                await reply.break_off("journal_full")
                return
            if out:
                await reply.part(out)
            if reading.fault is not None or reading.done:
                break
            self._await(IDLE_GAP_S, "engine_idle_timeout")
        await self._finish(reading, reply)

    async def _finish(self, reading: Reading, reply: Reply) -> None:
        """End a stream whose engine says no more: whole, or broken off."""
        if self._recording.row is None:
            if reading.finish_reason is None or reading.fault is not None:
                if not reply.started:
                    raise EngineRefused(Refusal(malformed(), elsewhere=True))
                await self._break_off(reading.fault or "engine_ended_early", reply)
                return
            self._recording.complete(None)
        await reply.end(DONE)

    async def _break_off(self, why: str, reply: Reply) -> None:
        """End a stream that has begun and cannot go on: the client is told, the part is recorded."""
        if self._recording.row is None:
            self._recording.fail(200, why)
            await reply.break_off(why)
        else:
            await reply.end(DONE)

    async def _refuse(self, refusal: Refusal | None, reply: Reply) -> None:
        """Answer that no replica would; an admitted request gets its row."""
        if refusal is not None:
            fault: Fault = refusal.fault
        else:
            route, _ = self._next([])
            fault = not_serving(route) if route else unreachable(self._recording.opening.model)
        if self._recording.admitted:
            self._recording.fail(fault.status, fault.code)
        await reply.refuse(fault)

    async def _say_cut(self, why: str, reply: Reply) -> None:
        self._recording.close(why, started=reply.started)
        if why == CLIENT_LEFT or reply.done:
            return
        # Nothing watches this call any more: the client has a moment to take the bad news.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(BAD_NEWS_WITHIN_S):
                if reply.started:
                    await reply.break_off(why)
                else:
                    said = f"The model did not answer in time ({why}). Send the request again."
                    await reply.refuse(unavailable(why, said))

    def _wait_for_client(self) -> None:
        self._await(CLIENT_STUCK_S, CLIENT_LEFT)

    def _await(self, seconds: float, why: str) -> None:
        self.due = self._loop.time() + seconds
        self.due_why = why


def _is_stale(broken: Exception) -> bool:
    """Tell whether a kept connection was gone before we used it, rather than an engine out of reach."""
    reset = isinstance(broken, OSError) and not isinstance(broken, aiohttp.ClientConnectorError)
    return reset or isinstance(broken, aiohttp.ServerDisconnectedError)


async def _refusal_in(answer: aiohttp.ClientResponse) -> bytes:
    raw = b""
    while len(raw) < REFUSAL_BYTES_MAX:
        part = await answer.content.read(REFUSAL_BYTES_MAX - len(raw))
        if not part:
            break
        raw += part
    return raw


async def _read_out(answer: aiohttp.ClientResponse) -> None:
    """Read what follows the end of a stream: nothing, and then the connection is free again."""
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(READ_OUT_WITHIN_S):
            while await answer.content.readany():
                pass
