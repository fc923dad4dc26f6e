"""A kept connection to a replica, on the parser alone: one request at a time, bytes as they come."""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools

from inference_gateway.settings import ANSWER_BYTES_MAX
from inference_gateway.upstream.exchange import Broken, Inflating

HIGH_BYTES = 256 * 1024
"""What one answer may have here unread before its engine is read no further."""

HEAD_BYTES_MAX = 64 * 1024
HEARD = frozenset({b"content-encoding", b"content-length", b"transfer-encoding", b"retry-after"})
"""Headers of an answer that decide something here."""


class Line(asyncio.Protocol):
    """One connection. ``free`` is called with it whenever it can take another request."""

    def __init__(self, loop: asyncio.AbstractEventLoop, free: Callable[["Line"], None]) -> None:
        self._loop = loop
        self._free = free
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._whole_only = False
        self._head_bytes = 0
        self._heard: dict[bytes, bytes] = {}
        self._inflating: Inflating | None = None
        self._broken: str | None = None
        self._in_head = True
        self._complete = False
        self._used = False
        self._kept = False
        self.open = False
        self.idle_since = 0.0
        self.status = 0

    # What a call does.

    def send(self, request: bytes, *, whole: bool) -> None:
        """Send a whole request; the line is then this request's until it is released.

        Where its answer is wanted ``whole``, ``begun`` returns once all of it is here.
        """
        self._heard = {}
        self._inflating = None
        self._in_head, self._complete, self._whole_only = True, False, whole
        self._head_bytes = 0
        self.status = 0
        self._transport.write(request)

    async def begun(self) -> None:
        """Return once the answer's head is here. Raises ``Broken``."""
        while self._in_head or (self._whole_only and not self._complete):
            self._resume()
            await self._more()

    async def read(self) -> bytes:
        """Return what came since the last read, nothing at the end. Raises ``Broken``."""
        while not self._parts:
            if self._complete:
                return b""
            await self._more()
        return self._take()

    async def whole(self, bytes_max: int) -> bytes:
        """Return all that is left of the answer once it is here. Raises ``Broken``."""
        while not self._complete:
            self._resume()
            await self._more()
        data = self._take()
        if len(data) > bytes_max:
            raise Broken("too_large")
        return data

    def header(self, name: bytes) -> bytes | None:
        """Return a header of the answer that decides something here, or nothing."""
        return self._heard.get(name)

    def release(self) -> None:
        """Give the line back where its answer was read whole, else close it at once."""
        self._used = True
        if self._complete and self._kept and self._broken is None and not self._parts:
            self._free(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once: the engine need not go on."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def _take(self) -> bytes:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._size = 0
        if self._paused:
            self._resume()
        return data

    def _resume(self) -> None:
        if self._size > ANSWER_BYTES_MAX:
            raise Broken("too_large")
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _more(self) -> asyncio.Future[None]:
        """Return what to wait for until there is more. Raises ``Broken``."""
        if self._broken is not None:
            raise Broken(self._broken)
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the connection tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be open."""
        self._transport = transport
        self.open = True

    def data_received(self, data: bytes) -> None:
        """Read on. What comes though nothing was asked ends the line."""
        if self._complete and self._used:
            self.abort()
            return
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, Broken) as fault:
            inner = fault.__context__ if isinstance(fault, httptools.HttpParserError) else fault
            self._fail(inner.kind if isinstance(inner, Broken) else "garbage")
            return
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._fail("garbage")
        elif self._size > HIGH_BYTES and not self._paused and not self._complete:
            self._paused = True
            self._transport.pause_reading()
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is under way: whole where the end of the connection ends the answer, else broken."""
        del exc
        self.open = False
        if self._complete:
            return
        if self._in_head:
            self._fail("stale" if self._used and not self._head_bytes else "reset")
        elif b"content-length" in self._heard or b"transfer-encoding" in self._heard:
            self._fail("truncated")
        else:
            self._complete = True
            self._wake()

    # What the parser tells.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what decides something."""
        name = name.lower()
        if name in HEARD:
            self._heard[name] = value

    def on_headers_complete(self) -> None:
        """Have begun, unless this is only a word that goes before."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        self.status = status
        self._in_head = False
        encoding = self._heard.get(b"content-encoding", b"identity").lower()
        if encoding in {b"gzip", b"deflate"}:
            self._inflating = Inflating()
        elif encoding != b"identity":
            raise Broken("garbage")
        if not self._whole_only:
            self._wake()

    def on_body(self, body: bytes) -> None:
        """Keep a part until it is read."""
        if self._inflating is not None:
            body = self._inflating.feed(body, ANSWER_BYTES_MAX)
        self._parts.append(body)
        self._size += len(body)
        if not self._whole_only:
            self._wake()

    def on_message_complete(self) -> None:
        """Be whole."""
        if self._in_head:
            return
        self._kept = bool(self._parser.should_keep_alive())
        self._complete = True
        self._wake()

    def _fail(self, kind: str) -> None:
        if self._broken is None:
            self._broken = kind
        self.abort()
        self._wake()
