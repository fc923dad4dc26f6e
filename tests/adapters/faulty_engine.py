"""A double of an engine, with faults: raw HTTP on a socket, each request answered as scripted, and counted.

It stands for what we do not own. Its counts are its own, like the counters of a real engine: they are
kept where the tokens are made, whatever becomes of them on the way.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from mesh_contracts.placement import Replica
from meshkit.testing import test_id

HELD_AT_MOST_S = 10.0
AT_ONCE_RESET = struct.pack("ii", 1, 0)


@dataclass
class Counted:
    """One request as the engine counted it: what it was asked, and what it made of it."""

    body: dict[str, Any]
    raw: bytes
    headers: dict[str, str]
    prompt_tokens: int
    made: int = 0
    reported: tuple[Any, Any] | None = None
    """Prompt and completion tokens as the engine told them, where it told them whole."""
    closed_at: float | None = None
    """When the engine saw that the gateway had closed the connection on it."""


class Gone(Exception):
    """The gateway closed the connection."""


class Line(asyncio.Protocol):
    """One connection: bytes in, bytes out, and whether the other side is still there."""

    def __init__(self, engine: "FaultyEngine") -> None:
        self._engine = engine
        self._buffer = b""
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.gone = asyncio.Event()
        self.gone_at = 0.0
        self.transport: asyncio.Transport
        self._task: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._engine.lines.add(self)
        self._task = asyncio.ensure_future(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._news.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> bool:
        self._left()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self._left()
        self._engine.lines.discard(self)

    def _left(self) -> None:
        if not self.gone.is_set():
            self.gone_at = asyncio.get_running_loop().time()
            self.gone.set()
        self._news.set()
        self._writable.set()

    async def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            await self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    async def _more(self) -> None:
        if self.gone.is_set():
            raise Gone
        self._news.clear()
        await self._news.wait()

    async def write(self, data: bytes) -> None:
        await self._writable.wait()
        if self.gone.is_set():
            raise Gone
        self.transport.write(data)
        # Each piece is a read of its own for whoever listens.
        await asyncio.sleep(0)

    async def _serve(self) -> None:
        with suppress(Gone, asyncio.IncompleteReadError):
            while True:
                await self._engine.answer(self)
        self.transport.close()

    async def stop(self) -> None:
        self._task.cancel()
        self.transport.abort()
        with suppress(asyncio.CancelledError):
            await self._task


class Exchange:
    """One request and the means to answer it, well or badly."""

    def __init__(self, engine: "FaultyEngine", line: Line, seen: Counted) -> None:
        self.engine = engine
        self.line = line
        self.seen = seen
        self.stream = bool(seen.body.get("stream"))
        self.chunked = False

    async def at(self, stage: str) -> None:
        """Say that this stage is reached; stay there while the engine is held at it."""
        self.engine.reached[stage].set()
        if self.engine.held_at == stage:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.line.gone.wait(), HELD_AT_MOST_S)
                raise Gone

    async def head(self, status: int = 200, **headers: Any) -> None:
        """Begin the answer: a stream in chunks, anything with a ``content_length`` as it is."""
        self.chunked = "content_length" not in headers
        told = {"content_type": "text/event-stream" if self.stream else "application/json"} | headers
        if self.chunked:
            told["transfer_encoding"] = "chunked"
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in told.items())
        await self.line.write(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode())

    async def send(self, data: bytes) -> None:
        """Send bytes of the body."""
        await self.line.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    async def end(self) -> None:
        """End the body as HTTP wants it."""
        if self.chunked:
            await self.line.write(b"0\r\n\r\n")

    async def whole(self, status: int, body: bytes, **headers: Any) -> None:
        """Answer all at once."""
        await self.head(status, content_length=len(body), **headers)
        await self.line.write(body)

    async def event(self, said: Any) -> None:
        """Send one server-sent event."""
        text = said if isinstance(said, str) else json.dumps(said)
        await self.send(f"data: {text}\n\n".encode())

    async def reset(self) -> None:
        """Reset the connection, as a killed process does, once what was sent is on its way."""
        await asyncio.sleep(0.05)
        given: socket.socket = self.line.transport.get_extra_info("socket")
        given.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE_RESET)
        self.line.transport.abort()
        raise Gone

    async def close(self) -> None:
        """Close the connection in order, whatever was promised."""
        self.line.transport.close()
        raise Gone

    async def stall(self) -> None:
        """Say nothing more until the gateway has had enough."""
        await self.line.gone.wait()
        raise Gone


Behaviour = Callable[[Exchange], Awaitable[None]]


@dataclass
class FaultyEngine:
    """An engine that answers its next requests as scripted, and the rest as the last of the script."""

    script: list[Behaviour]
    name: str = "r1"
    refuses: bool = False
    held_at: str | None = None
    seen: list[Counted] = field(default_factory=list)
    lines: set[Line] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.reached = {stage: asyncio.Event() for stage in ("asked", "head", "middle")}
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A port that is bound and not listened at refuses, and nobody else can take it.
        self._held.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._held.getsockname()[1]}"
        self._server: asyncio.Server | None = None

    def then(self, *behaviours: Behaviour) -> None:
        """Answer the next requests so."""
        self.script[:] = behaviours

    async def start(self) -> None:
        if not self.refuses:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Line(self), sock=self._held, backlog=4_096)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for line in list(self.lines):
            await line.stop()
        self._held.close()

    async def answer(self, line: Line) -> None:
        """Read one request, answer it as scripted."""
        first, *lines = (await line.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
        }
        if first.startswith("GET "):
            # It has no figures to scrape.
            await line.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        raw = await line.exactly(int(headers["content-length"]))
        body = json.loads(raw)
        seen = Counted(body, raw, headers, prompt_tokens=_words(body))
        self.seen.append(seen)
        self.reached["asked"].set()
        behaviour = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        working = asyncio.ensure_future(behaviour(Exchange(self, line, seen)))
        leaving = asyncio.ensure_future(line.gone.wait())
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if line.gone.is_set():
                seen.closed_at = line.gone_at
            if not working.done():
                raise Gone
            await working
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    def replica(self) -> Replica:
        return Replica(
            workload_id=test_id("workload", self.name),
            address=self.address,
            api_key="the key of a faulty engine",
            node_id=test_id("node", self.name),
        )


def _words(body: dict[str, Any]) -> int:
    """Return how many tokens the prompt has for this engine: its words."""
    said = [str(message.get("content", "")) for message in body.get("messages", [])]
    return sum(len(text.split()) for text in said)


@asynccontextmanager
async def faulty(*scripts: Behaviour, **fields: Any) -> AsyncIterator[list[FaultyEngine]]:
    """Give one engine for each behaviour, each a replica of its own; all are stopped at the end."""
    made = [FaultyEngine([one], name=f"r{number}", **fields) for number, one in enumerate(scripts)]
    for engine in made:
        await engine.start()
    try:
        yield made
    finally:
        for engine in made:
            await engine.stop()
