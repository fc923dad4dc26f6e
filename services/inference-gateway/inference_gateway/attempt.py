"""One replica asked for one request: the body it is sent, what it says, and what of that is relayed."""

from collections.abc import Coroutine
from contextlib import suppress

from meshkit import semconv
from meshkit.telemetry import SpanKind, span

from inference_gateway.domain.admission import Held
from inference_gateway.domain.body import Wanted, for_engine
from inference_gateway.domain.names import Way
from inference_gateway.domain.refusals import Refusal, refusal_of
from inference_gateway.domain.routing.affinity import cache_salt
from inference_gateway.domain.routing.fleet import Chosen
from inference_gateway.recording import Recording
from inference_gateway.relay import EngineRefused, Relay
from inference_gateway.room import Room
from inference_gateway.settings import ANSWER_BYTES_MAX
from inference_gateway.upstream import Broken, Exchange

REFUSAL_BYTES_MAX = 64 * 1024


class Attempt:
    """One replica asked: ``begin`` once; where that succeeds ``go_on`` once, or ``release`` it."""

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
        self.chosen = chosen
        self._held = held
        self._recording = recording
        self._path = path
        self._wanted = wanted
        self._kept = kept
        self._exchange: Exchange | None = None
        self._first = b""
        self.relay = relay

    def begin(self, *, fresh: bool) -> Coroutine[None, None, None]:
        """Ask, over a new connection where ``fresh``; return once the answer has begun, or all of a plain one is here.

        Raises ``EngineRefused`` where it is a refusal, ``Broken`` where there is none.
        """
        return self._seen(fresh=fresh) if self._kept else self._begin(fresh=fresh)

    async def _seen(self, *, fresh: bool) -> None:
        """Ask within a span."""
        host, _, port = self.chosen.replica.address.partition("/")[0].rpartition(":")
        attributes = {
            semconv.HTTP_REQUEST_METHOD: "POST",
            semconv.SERVER_ADDRESS: host,
            semconv.SERVER_PORT: port,
            semconv.MESH_ENDPOINT_ID: self._way.route.endpoint_id,
        }
        with span(f"POST {self._path}", kind=SpanKind.CLIENT, attributes=attributes) as seen:
            await self._begin(fresh=fresh)
            seen.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, 200)

    def go_on(self) -> Coroutine[None, None, None]:
        """Relay what has begun, to its end; then ``release`` it. Raises ``EngineRefused``, ``Broken`` or ``EventTooLong``."""
        exchange = self._exchange
        assert exchange is not None, "it has begun"
        if self._wanted.stream:
            return self.relay.stream(exchange, self._first)
        return self._whole(exchange)

    def release(self) -> None:
        """Ask nothing more of it."""
        if self._exchange is not None:
            self._exchange.release()

    async def _whole(self, exchange: Exchange) -> None:
        await self.relay.whole(await exchange.whole(ANSWER_BYTES_MAX))

    async def _begin(self, *, fresh: bool) -> None:
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
        replica, trace = self.chosen.replica, self._recording.opening.traceparent
        whole = not wanted.stream
        exchange: Exchange | None = None
        if not fresh:
            exchange = room.upstreams.kept(replica, self._path, body, trace, whole=whole)
        if exchange is None:
            exchange = await room.upstreams.send(
                replica, self._path, body, trace, whole=whole, fresh=fresh
            )
        refusal: Refusal | None = None
        try:
            await exchange.begun()
            if exchange.status != 200:
                refusal = await _refusal_in(exchange, route.name)
            elif wanted.stream:
                # A head without an answer behind it is none: another replica may still be asked.
                self._first = await exchange.read()
        except BaseException:
            exchange.release()
            raise
        if refusal is not None:
            exchange.release()
            raise EngineRefused(refusal)
        self._exchange = exchange
        if wanted.stream:
            began = now()
            room.lines.fleet.first_byte(
                self.chosen, began - sent_at, self._held.estimate.prompt_tokens, began
            )


async def _refusal_in(exchange: Exchange, model: str) -> Refusal:
    raw = b""
    with suppress(Broken):
        while len(raw) < REFUSAL_BYTES_MAX and (part := await exchange.read()):
            raw += part
    retry_after = exchange.header(b"retry-after")
    return refusal_of(exchange.status, raw[:REFUSAL_BYTES_MAX], model, retry_after)
