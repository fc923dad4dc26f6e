"""A client of the door on a bare socket: it leaves when told to, reads as slowly as told, and notes what it saw."""

import asyncio
import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.adapters.faulty_engine import FaultyEngine

STAYS, SLOW = "stays", "reads_slowly"
LEAVES = ("before_the_body", "after_the_body", "before_the_first_byte", "midway")
PATH = "/v1/chat/completions"
ENOUGH_EVENTS = 2
WAITS_AT_MOST_S = 30.0


@dataclass
class Saw:
    """What a client saw of one request. ``whole``: the answer ended as HTTP had announced it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    left_at: float | None = None

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def events(self) -> list[Any]:
        """The data of each whole event; ``[DONE]`` as it is."""
        found = []
        for event in self.body.split(b"\n\n")[:-1]:
            if event.startswith(b"data: "):
                data = event.removeprefix(b"data: ")
                found.append("[DONE]" if data == b"[DONE]" else json.loads(data))
        return found

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that was told, in the body or as the last event."""
        if self.status == 200:
            last = self.events[-1] if self.events else None
            return last.get("error") if isinstance(last, dict) else None
        said = json.loads(self.body) if self.whole else {}
        error: dict[str, Any] | None = said.get("error")
        return error

    @property
    def words(self) -> int:
        """How many tokens of the answer arrived."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return self.body.count(b'"word ')
        return self.body.count(b"word ")


class Client:
    """One request over a connection of its own."""

    def __init__(self, port: int, key: str, behaves: str, engine: FaultyEngine) -> None:
        self._port = port
        self._key = key
        self._behaves = behaves
        self._engine = engine
        self.saw = Saw()

    async def ask(self, body: dict[str, Any], path: str = PATH) -> Saw:
        """Send one request and behave as told."""
        raw = json.dumps(body).encode()
        given = socket.socket()
        given.setblocking(False)
        if self._behaves == SLOW:
            given.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        await asyncio.get_running_loop().sock_connect(given, ("127.0.0.1", self._port))
        reader, writer = await asyncio.open_connection(sock=given, limit=2**22)
        head = f"POST {path} HTTP/1.1\r\nhost: door\r\nauthorization: Bearer {self._key}\r\n"
        writer.write(f"{head}content-length: {len(raw)}\r\n\r\n".encode())
        try:
            async with asyncio.timeout(WAITS_AT_MOST_S):
                if self._behaves == "before_the_body":
                    writer.write(raw[: len(raw) // 2])
                    await writer.drain()
                    await asyncio.sleep(0.05)
                    return self._left()
                writer.write(raw)
                await writer.drain()
                if self._behaves == "after_the_body":
                    return self._left()
                await self._read_until_it_leaves(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
        return self.saw

    def _left(self) -> Saw:
        self.saw.left_at = asyncio.get_running_loop().time()
        return self.saw

    async def _read_until_it_leaves(self, reader: asyncio.StreamReader) -> None:
        reading = asyncio.ensure_future(self._read(reader))
        stage = {"before_the_first_byte": "head", "midway": "middle"}.get(self._behaves)
        if stage is None:
            await reading
            return
        staying = asyncio.ensure_future(self._stays_until(stage))
        await asyncio.wait((reading, staying), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            self._left()
        for task in (reading, staying):
            task.cancel()
            with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
                await task

    async def _stays_until(self, stage: str) -> None:
        await self._engine.reached[stage].wait()
        while stage == "middle" and self.saw.words < ENOUGH_EVENTS and self._streams:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    @property
    def _streams(self) -> bool:
        return bool(self._engine.seen and self._engine.seen[-1].body.get("stream"))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.saw.status = int(first.split()[1])
        pairs = (line.partition(":") for line in lines if line)
        self.saw.headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = self.saw.headers.get("content-length")
        if length is not None:
            await self._take(reader, int(length))
        while length is None:
            size = int((await reader.readuntil(b"\r\n")).strip(), 16)
            await self._take(reader, size)
            await reader.readexactly(2)
            if size == 0:
                break
        self.saw.whole = True

    async def _take(self, reader: asyncio.StreamReader, size: int) -> None:
        while size:
            if self._behaves == SLOW:
                await asyncio.sleep(0.01)
            part = await reader.read(min(size, 64 if self._behaves == SLOW else 2**16))
            if not part:
                raise asyncio.IncompleteReadError(b"", size)
            self.saw.body += part
            size -= len(part)
