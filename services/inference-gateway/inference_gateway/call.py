"""One admitted request: asked of a replica, relayed, recorded once."""

import asyncio
import logging
from contextlib import suppress

from mesh_contracts.inference import Tried, UsageRow
from mesh_contracts.placement import Replica, Route
from meshkit import semconv
from meshkit.telemetry import METRICS, SpanKind, span

from inference_gateway.domain.body import Operation, Wanted, for_engine
from inference_gateway.domain.directory import least_busy, not_serving
from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.refusals import Refusal, journal_full, refusal_of, unreachable
from inference_gateway.domain.sse import EventTooLong
from inference_gateway.http.wire import Headers, Send
from inference_gateway.recording import CLIENT_LEFT, STOPPING, Recording
from inference_gateway.relay import EngineRefused, Relay
from inference_gateway.reply import Reply
from inference_gateway.room import Room
from inference_gateway.settings import (
    ANSWER_BYTES_MAX,
    ATTEMPTS_MAX,
    CLIENT_STUCK_S,
    FIRST_BYTE_WAIT_S,
)
from inference_gateway.upstream import Broken, Exchange

REFUSAL_BYTES_MAX = 64 * 1024

BAD_NEWS_WITHIN_S = 1.0

log = logging.getLogger(__name__)


class Call:
    """One request from its admission to its end. ``run`` it once."""

    def __init__(
        self, room: Room, operation: Operation, wanted: Wanted, recording: Recording, *, kept: bool
    ) -> None:
        self._room = room
        self._operation = operation
        self._wanted = wanted
        self._recording = recording
        self._kept = kept
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._reply: Reply | None = None
        self._why: str | None = None
        self.due = self._loop.time() + FIRST_BYTE_WAIT_S
        self.due_why = "engine_first_byte_timeout"

    async def run(self, send: Send, headers: Headers) -> UsageRow | None:
        """Answer the client; return the row (nothing where the request was not admitted)."""
        self._task = asyncio.current_task()
        reply = self._reply = Reply(send, headers, self._wait_for_client)
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
            log.exception("a call failed here: %s", self._recording.opening.request_id)
            await self._say_cut("gateway_fault", reply)
        finally:
            self._room.calls.leave(self)
            self._recording.close(self._why or "gateway_fault", started=reply.started)
        return self._recording.row

    def cut(self, why: str) -> None:
        """End the call now, whatever it waits for."""
        if self._why is None and self._task is not None and not (self._reply and self._reply.done):
            self._why = why
            self._task.cancel()

    def left(self) -> None:
        """End the call: its client closed the connection."""
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
            if not self._recording.open(route, replica, attempt):
                await reply.refuse(journal_full())
                return
            try:
                await self._ask(route, replica, reply, fresh=stale)
            except EngineRefused as refused:
                refusal = refused.refusal
                if not refusal.elsewhere:
                    break
                self._tried(replica, refusal.fault.code)
            except (Broken, EventTooLong) as broken:
                kind = broken.kind if isinstance(broken, Broken) else "too_large"
                if reply.started:
                    await self._relay(route, reply).break_off("engine_lost")
                    return
                refusal = Refusal(unreachable(route.name), elsewhere=True)
                METRICS.count("mesh_gateway_engine_faults_total", kind=kind)
                if not stale and kind == "stale":
                    # An engine may close a kept connection just as we write: no sign of illness.
                    stale = True
                    continue
                self._tried(replica, f"engine_{kind}")
            else:
                return
            tried.append(replica.workload_id)
            METRICS.count("mesh_gateway_retries_total")
        await self._refuse(refusal, reply)

    def _tried(self, replica: Replica, reason: str) -> None:
        self._recording.why.tried.append(Tried(workload_id=replica.workload_id, reason=reason))

    def _next(self, tried: list[str]) -> tuple[Route | None, Replica | None]:
        opening = self._recording.opening
        route = self._room.directory.find(opening.project, opening.model)
        if route is None:
            return None, None
        busy = self._room.in_flight
        return route, least_busy(route.replicas, busy, tried, self._room.calls.turn())

    def _relay(self, route: Route, reply: Reply) -> Relay:
        return Relay(route, self._wanted, self._recording, reply, self._await)

    async def _ask(self, route: Route, replica: Replica, reply: Reply, *, fresh: bool) -> None:
        busy = self._room.in_flight
        busy[replica.workload_id] = busy.get(replica.workload_id, 0) + 1
        try:
            if self._kept:
                await self._ask_seen(route, replica, reply, fresh=fresh)
            else:
                await self._exchange(route, replica, reply, fresh=fresh)
        finally:
            busy[replica.workload_id] -= 1
            if not busy[replica.workload_id]:
                del busy[replica.workload_id]

    async def _ask_seen(self, route: Route, replica: Replica, reply: Reply, *, fresh: bool) -> None:
        host, _, port = replica.address.partition("/")[0].rpartition(":")
        attributes = {
            semconv.HTTP_REQUEST_METHOD: "POST",
            semconv.SERVER_ADDRESS: host,
            semconv.SERVER_PORT: port,
            semconv.MESH_ENDPOINT_ID: route.endpoint_id,
        }
        with span(f"POST {self._operation.path}", kind=SpanKind.CLIENT, attributes=attributes) as seen:
            status = await self._exchange(route, replica, reply, fresh=fresh)
            seen.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, status)

    async def _exchange(self, route: Route, replica: Replica, reply: Reply, *, fresh: bool) -> int:
        body = for_engine(self._wanted, route.engine, route.model_id)
        exchange: Exchange = await self._room.upstreams.send(
            replica,
            self._operation.path,
            body,
            self._recording.opening.traceparent,
            fresh=fresh,
            whole=not self._wanted.stream,
        )
        try:
            await exchange.begun()
            if exchange.status != 200:
                raw = await _refusal_in(exchange)
                raise EngineRefused(refusal_of(exchange.status, raw, route.name))
            relay = self._relay(route, reply)
            if self._wanted.stream:
                await relay.stream(exchange)
            else:
                await relay.whole(await exchange.whole(ANSWER_BYTES_MAX))
            return exchange.status
        finally:
            exchange.release()

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


async def _refusal_in(exchange: Exchange) -> bytes:
    raw = b""
    with suppress(Broken):
        while len(raw) < REFUSAL_BYTES_MAX and (part := await exchange.read()):
            raw += part
    return raw[:REFUSAL_BYTES_MAX]
