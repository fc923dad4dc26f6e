"""One request of the hot routes on its connection: uvicorn's, without a second look at what is our own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from inference_gateway.http.wire import HOOKS, Headers

CLOSE = (b"connection", b"close")
_END = b"0\r\n\r\n"


class Cycle(RequestResponseCycle):
    """Sends what the door says as it is (names in lower case, checked where they were made)."""

    left: Callable[[], None] | None = None
    """Called when the client closes the connection before its answer is whole."""

    # What most requests leave as it is stands here once, not in each of them.
    logger = logging.getLogger("uvicorn.error")
    access_log = False
    default_headers: list[tuple[bytes, bytes]] = []  # noqa: RUF012 - nobody adds to it
    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    _head = b""

    def __init__(
        self,
        scope: Any,
        transport: asyncio.Transport,
        flow: FlowControl,
        *,
        bell: asyncio.Event,
        expect_100_continue: bool,
        keep_alive: bool,
        on_response: Callable[[], None],
    ) -> None:
        self.scope = scope
        self.transport = transport
        self.flow = flow
        self.message_event = bell
        self.on_response = on_response
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expect_100_continue
        self.body = bytearray()

    def leaving(self, then: Callable[[], None]) -> None:
        """Have ``then`` called when the client leaves; at once where it has left."""
        self.left = then
        if self.disconnected:
            then()

    def run_asgi(self, app: Any) -> Awaitable[None]:  # type: ignore[override]
        """Return the answering itself; ``finish`` follows where it did not say all."""
        return app(self.scope, self.receive, self.send)  # type: ignore[no-any-return]

    async def finish(self) -> None:
        """Let no client wait for an answer that nobody gives any more."""
        if self.disconnected:
            return
        self.logger.error("a request of the hot routes was left without its whole answer")
        if self.response_started:
            self.transport.close()
        else:
            await self.send_500_response()

    def forget(self) -> None:
        """Let go of what the request held: what it gave out points back to it."""
        self.left = None
        scope: Any = self.scope
        scope.pop(HOOKS, None)

    def arrived(self) -> bytes | None:
        """Return the whole body where all of it is here already, so that nobody waits for it."""
        if self.more_body or self.disconnected:
            return None
        body, self.body = bytes(self.body), bytearray()
        return body

    def more(self, body: bytes) -> bool:
        """Send a part of an answer that has begun; false, and nothing sent, where that is ``send``'s to do."""
        if self.flow.write_paused or self._head or not self.chunked_encoding:
            return False
        if not self.disconnected:
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    async def at_once(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer that is known whole."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.chunked_encoding = False
        self._head_of(status, [*headers, (b"content-length", b"%d" % len(body))])
        self._go_on(body, more=False)

    async def send(self, message: Any) -> None:
        """Write a part of the answer, waiting while the client does not read."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
        else:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))

    def _begin(self, status: int, headers: Headers) -> None:
        self.chunked_encoding = all(name != b"content-length" for name, _ in headers)
        if self.chunked_encoding:
            headers = [*headers, (b"transfer-encoding", b"chunked")]
        self._head_of(status, headers)

    def _head_of(self, status: int, headers: Headers) -> None:
        assert not self.response_started, "an answer begins once"
        self.response_started = True
        self.waiting_for_100_continue = False
        if CLOSE in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers = [*headers, CLOSE]
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        self._head = b"%b%b\r\n" % (STATUS_LINE[status], lines)

    def _go_on(self, body: bytes, *, more: bool) -> None:
        # The head waits for the first part: both leave in one write.
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            body = b""
        if self.chunked_encoding and self.scope["method"] != "HEAD":
            end = b"" if more else _END
            out = b"%b%x\r\n%b\r\n%b" % (head, len(body), body, end) if body else head + end
        else:
            out = head + body
        self.transport.write(out)
        if more:
            return
        self.response_complete = True
        self.forget()
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
