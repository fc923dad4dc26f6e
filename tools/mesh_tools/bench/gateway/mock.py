"""The mock upstream: an OpenAI-compatible server whose answers are ready before they are asked for.

``python -m mesh_tools.bench.gateway.mock PORT`` serves until it is ended. ``GET /pace/2`` makes the
streams from then on bring a chunk every 2 ms, all of them at the same beat, as an engine that decodes
in batches does; ``GET /pace/0`` makes them bring all at once.
"""

import asyncio
import sys
from contextlib import suppress
from typing import cast

import uvloop

from mesh_tools.bench.gateway import words
from mesh_tools.bench.gateway.wire import Message, NotHttp

COMPLETION = words.completion()
STREAM = words.stream()
BURST = words.STREAM_HEAD + b"".join(STREAM)
FIRST = words.STREAM_HEAD + STREAM[0]
WELL = words.answer({"status": "ok"})
MODELS = words.answer(
    {
        "object": "list",
        "data": [{"id": words.MODEL, "object": "model", "created": words.CREATED, "owned_by": "mock"}],
    }
)
MISSING = words.answer({"error": {"message": "the mock has no such path"}}, "404 Not Found")


class Beat:
    """Streams that bring one chunk at each beat, for as long as there are any."""

    def __init__(self) -> None:
        self.gap_s = 0.0
        self._streams: dict[asyncio.Transport, int] = {}
        self._next = 0.0

    def join(self, transport: asyncio.Transport) -> None:
        """Let a stream whose first chunk is sent have the others."""
        if not self._streams:
            loop = asyncio.get_running_loop()
            self._next = loop.time() + self.gap_s
            loop.call_later(self.gap_s, self._strike)
        self._streams[transport] = 1

    def leave(self, transport: asyncio.Transport) -> None:
        """Forget a stream that nobody reads any more."""
        self._streams.pop(transport, None)

    def _strike(self) -> None:
        ended = []
        for transport, at in self._streams.items():
            transport.write(STREAM[at])
            if at + 1 == len(STREAM):
                ended.append(transport)
            else:
                self._streams[transport] = at + 1
        for transport in ended:
            del self._streams[transport]
        if self._streams:
            # A beat that comes late is not made up for: streams slow down, they do not bunch.
            loop = asyncio.get_running_loop()
            self._next = max(self._next + self.gap_s, loop.time())
            loop.call_later(self._next - loop.time(), self._strike)


class Upstream(asyncio.Protocol):
    """One connection of a gateway."""

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        self._message = Message(request=True)
        self._body = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what was being streamed."""
        del exc
        self._beat.leave(self._transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole."""
        message = self._message
        try:
            body = message.feed(data)
        except (NotHttp, ValueError):
            self._transport.abort()
            return
        self._body = self._body + body if self._body else body
        if message.whole:
            self._answer(message.head, self._body)
            self._body = b""
            message.again()

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"post ") and b"completions " in head[:64]:
            if b'"stream":true' not in body and b'"stream": true' not in body:
                self._transport.write(COMPLETION)
            elif self._beat.gap_s:
                self._transport.write(FIRST)
                self._beat.join(self._transport)
            else:
                self._transport.write(BURST)
        else:
            path = head.split(b" ", 2)[1]
            self._transport.write(self._other(path))

    def _other(self, path: bytes) -> bytes:
        if path.startswith(b"/pace/"):
            self._beat.gap_s = int(path[6:]) / 1e3
            return WELL
        return {b"/health": WELL, b"/v1/models": MODELS}.get(path, MISSING)


async def serve(port: int) -> None:
    """Serve on loopback until cancelled."""
    beat = Beat()
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(beat), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1])))
