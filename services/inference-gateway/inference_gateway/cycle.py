"""One request of the hot routes on its connection: uvicorn's, without a second look at what is our own."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from inference_gateway.http.wire import HOOKS, Headers

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

    async def at_once(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer that is known whole."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self._begin(status, [*headers, (b"content-length", b"%d" % len(body))])
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
        assert not self.response_started, "an answer begins once"
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        self.chunked_encoding = True
        for name, value in headers:
            if name == b"content-length":
                self.chunked_encoding = False
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
                continue
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding:
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)

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
