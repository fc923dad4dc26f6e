"""The head of a request is bounded, in bytes and in time: uvicorn by itself waits and gathers for ever."""

import asyncio
import logging
import math
from typing import Any
from urllib.parse import unquote

import httptools
from meshkit.telemetry import METRICS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from inference_gateway.cycle import Cycle
from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.heads import (
    HEAD_BYTES_MAX,
    HEAD_WAIT_S,
    TOO_LATE,
    TOO_LONG,
    UNREADABLE,
    refusal,
)
from inference_gateway.http.wire import HOOKS, Receive, Scope, Send, send_fault

log = logging.getLogger(__name__)

HOT = b"/v1/"
"""Where the hot routes are."""

LAST_WAIT_S = 0.5
"""How long a head may take to arrive once the door stops."""

REST_WAIT_S = 30.0
"""How long the rest of a request may come in that was answered before it was whole."""

LINGER_S = 2.0
"""How long a refused client is heard out, so that it reads why, before its connection is dropped."""

LINGER_BYTES_MAX = 8 * 1024**2
LINE_BYTES = len(b": \r\n")

NEVER = math.inf
ASGI = {"version": "3.0", "spec_version": "2.3"}


class HeadTooLong(Exception):
    """Raised within the parser, which then stops."""


class Shared(ServerState):
    """What all connections share; ``stopping`` once no more are taken."""

    stopping = False


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's connection, which refuses heads that are too long, too late or no HTTP."""

    server_state: Shared

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # A stranger's noise is counted, not logged: otherwise anybody could fill the log.
        self.logger.setLevel(logging.ERROR)
        self._in_head = True
        self._head_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._next: tuple[RequestResponseCycle, Any] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._rests: asyncio.Future[None] | None = None
        self._bell = asyncio.Event()
        self._why = UNREADABLE
        self._discarded: int | None = None
        self._due = NEVER
        self._keeps = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait(LAST_WAIT_S if self.server_state.stopping else HEAD_WAIT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more; tell whoever answers here that nobody listens."""
        self._wait(None)
        super().connection_lost(exc)
        if self._rests is not None and not self._rests.done():
            self._rests.set_result(None)
        cycle = self._answering
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            if isinstance(cycle, Cycle) and cycle.left is not None:
                left, cycle.left = cycle.left, None
                left()

    def data_received(self, data: bytes) -> None:
        """Read on, within the bounds."""
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES_MAX:
                self.transport.abort()
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._due is NEVER or self._keeps:
                self._wait(HEAD_WAIT_S)
        self._read(data)
        if self._discarded is not None:
            return
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(TOO_LONG)
        elif not self._in_head and self._due is NEVER and self.cycle.response_complete:
            self._wait(REST_WAIT_S)

    def _read(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(self._why)
        except httptools.HttpParserUpgrade:
            # Nobody needs to heed a wish to speak another protocol: the request is answered in this one.
            pass

    def on_message_begin(self) -> None:
        """Begin a head; the scope is made once it is known what for."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Let the request begin. Raises ``HeadTooLong``."""
        if self._head_bytes > HEAD_BYTES_MAX and self._size_of_head() > HEAD_BYTES_MAX:
            self._why = TOO_LONG
            raise HeadTooLong
        self._in_head = False
        self._wait(None)
        if self.url.startswith(HOT):
            self._on_hot(self.url)
        else:
            said = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.headers, self.expect_100_continue = said
            self.scope["headers"] = self.headers
            super().on_headers_complete()
            self.cycle.keep_alive = self.cycle.keep_alive and not self.server_state.stopping

    def _size_of_head(self) -> int:
        """Return how long the head is by itself: a body may have come with it."""
        return len(self.url) + sum(len(name) + len(value) + LINE_BYTES for name, value in self.headers)

    def _on_hot(self, url: bytes) -> None:
        """Begin a request of the hot routes, as uvicorn does, on a cycle of our own."""
        version = self.parser.get_http_version()
        raw_path, _, query = url.partition(b"?")
        path = raw_path.decode("ascii")
        scope: Any = {
            "type": "http",
            "asgi": ASGI,
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
        }
        before = self.cycle
        self._bell.clear()
        cycle = self.cycle = Cycle(
            scope,
            self.transport,
            self.flow,
            bell=self._bell,
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0"
            and self.parser.should_keep_alive()
            and not self.server_state.stopping,
            on_response=self.on_response_complete,
        )
        scope[HOOKS] = cycle
        crowded = self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency
        app: Any = _crowded if crowded else self.app
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin to answer. One task serves a connection: it costs more to make one than to wake it."""
        self._answering = cycle
        self._next = (cycle, app)
        if self._runner is None:
            self._runner = self.loop.create_task(self._run())
            self._runner.add_done_callback(self.tasks.discard)
            self.tasks.add(self._runner)
        elif self._rests is not None and not self._rests.done():
            self._rests.set_result(None)

    async def _run(self) -> None:
        """Answer one request after the other, until the connection is lost."""
        while True:
            if self._next is not None:
                (cycle, app), self._next = self._next, None
                try:
                    await cycle.run_asgi(app)
                except asyncio.CancelledError:
                    # This gateway stops, and waits no longer for whom it serves.
                    self.transport.close()
                    raise
                except Exception:
                    log.exception("a request of the hot routes failed here")
                if isinstance(cycle, Cycle) and not cycle.response_complete:
                    await cycle.finish()
                cycle.on_response = _nothing
            elif self.parser is None:
                return
            else:
                self._rests = self.loop.create_future()
                try:
                    await self._rests
                finally:
                    self._rests = None

    def on_message_complete(self) -> None:
        """Expect another head."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def on_response_complete(self) -> None:
        """Begin the next request that came already, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._due is NEVER and self._in_head and not self._head_bytes:
            self._wait(self.timeout_keep_alive)
            self._keeps = True

    def look(self, now: float) -> None:
        """Do what is due: one look a moment for all connections, not a timer for each request."""
        if now >= self._due:
            self._late()

    def shutdown(self) -> None:
        """Close after the next answer; at once where none is expected."""
        rests = self.cycle is None or self.cycle.response_complete
        if rests and self._in_head and self._discarded is None and not self._keeps:
            # Somebody has just come, or is just asking: another door would have served them.
            self._wait(LAST_WAIT_S)
        else:
            super().shutdown()

    def _wait(self, seconds: float | None) -> None:
        self._keeps = False
        self._due = NEVER if seconds is None else self.loop.time() + seconds

    def _late(self) -> None:
        self._due = NEVER
        if self._discarded is not None:
            self.transport.abort()
        elif self.cycle is not None and not self.cycle.response_complete:
            # The next request is late, but this one is being answered.
            self._wait(HEAD_WAIT_S)
        elif self._in_head and self._head_bytes:
            self._refuse(TOO_LATE)
        else:
            self.transport.close()

    def _refuse(self, fault: Fault) -> None:
        METRICS.count("mesh_gateway_unreadable_total", reason=fault.code)
        self._wait(None)
        if self.cycle is not None and not self.cycle.response_complete:
            # An answer is on its way here: ours would stand in the middle of it.
            self.transport.close()
            return
        self._discarded = 0
        self.transport.write(refusal(fault))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._wait(LINGER_S)


def _nothing() -> None:
    """Do nothing: nobody answers here any more."""


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - as ASGI calls it
    """Answer a request on one connection too many."""
    said = "Too many connections are open here. Try again."
    await send_fault(send, unavailable("overloaded", said), [(b"connection", b"close")])
