"""One replica asked for one request: the body it is sent, what it says, and what of that is relayed."""

from contextlib import suppress

from meshkit import semconv
from meshkit.telemetry import SpanKind, span

from inference_gateway.domain.admission import Held
from inference_gateway.domain.body import Wanted, for_engine
from inference_gateway.domain.names import Way
from inference_gateway.domain.refusals import refusal_of
from inference_gateway.domain.routing.affinity import cache_salt
from inference_gateway.domain.routing.fleet import Chosen
from inference_gateway.recording import Recording
from inference_gateway.relay import EngineRefused, Relay
from inference_gateway.room import Room
from inference_gateway.settings import ANSWER_BYTES_MAX
from inference_gateway.upstream import Broken, Exchange

REFUSAL_BYTES_MAX = 64 * 1024


class Attempt:
    """One way to one replica. ``run`` it once; raises ``EngineRefused``, ``Broken`` or ``EventTooLong``."""

    def __init__(
        self,
        room: Room,
        way: Way,
        chosen: Chosen,
        *,
        held: Held,
        recording: Recording,
        relay: Relay,
        path: str,
        wanted: Wanted,
        kept: bool,
    ) -> None:
        self._room = room
        self._way = way
        self._chosen = chosen
        self._held = held
        self._recording = recording
        self._path = path
        self._wanted = wanted
        self._kept = kept
        self.relay = relay

    async def run(self, *, fresh: bool) -> None:
        """Ask and relay; ``fresh`` over a new connection."""
        if not self._kept:
            await self._exchange(fresh=fresh)
            return
        host, _, port = self._chosen.replica.address.partition("/")[0].rpartition(":")
        attributes = {
            semconv.HTTP_REQUEST_METHOD: "POST",
            semconv.SERVER_ADDRESS: host,
            semconv.SERVER_PORT: port,
            semconv.MESH_ENDPOINT_ID: self._way.route.endpoint_id,
        }
        with span(f"POST {self._path}", kind=SpanKind.CLIENT, attributes=attributes) as seen:
            status = await self._exchange(fresh=fresh)
            seen.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, status)

    async def _exchange(self, *, fresh: bool) -> int:
        room, route, wanted = self._room, self._way.route, self._wanted
        body = for_engine(
            wanted,
            route.engine,
            self._way.lora or route.model_id,
            cap=self._held.cap,
            salt=cache_salt(route, room.salt) if route.engine == "vllm" else None,
        )
        now = room.lines.loop.time
        sent_at = now()
        replica, trace = self._chosen.replica, self._recording.opening.traceparent
        whole = not wanted.stream
        exchange: Exchange | None = None
        if not fresh:
            exchange = room.upstreams.kept(replica, self._path, body, trace, whole=whole)
        if exchange is None:
            exchange = await room.upstreams.send(
                replica, self._path, body, trace, whole=whole, fresh=fresh
            )
        try:
            await exchange.begun()
            if exchange.status != 200:
                raw = await _refusal_in(exchange)
                raise EngineRefused(refusal_of(exchange.status, raw, route.name))
            if wanted.stream:
                began = now()
                room.lines.fleet.first_byte(
                    self._chosen, began - sent_at, self._held.estimate.prompt_tokens, began
                )
                await self.relay.stream(exchange)
            else:
                await self.relay.whole(await exchange.whole(ANSWER_BYTES_MAX))
            return exchange.status
        finally:
            exchange.release()


async def _refusal_in(exchange: Exchange) -> bytes:
    raw = b""
    with suppress(Broken):
        while len(raw) < REFUSAL_BYTES_MAX and (part := await exchange.read()):
            raw += part
    return raw[:REFUSAL_BYTES_MAX]
