"""A crowd of streaming clients on bare connections, and an engine that is light enough to serve them all."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from inference_gateway.server import allow_files
from mesh_contracts.placement import Replica
from mesh_tools.bench.gateway import words
from mesh_tools.bench.gateway.wire import Message
from meshkit.testing import test_id

from tests.adapters.gateways import ENGINE_KEY, Town
from tests.adapters.roads import until
from tests.servers_nats import free_port

AT_ONCE = 100
"""Connections that are opened at the same time: a crowd comes in one after the other, too."""
SLOW_MS = 2_000
MARK = words.MARK.encode()


class Stream(asyncio.Protocol):
    """One stream on a connection of its own. ``ended`` is done once its connection or its answer is."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._message = Message()
        self._transport: asyncio.Transport
        self._began = 0.0
        self._tail = b""
        self.body = b""
        self.tokens = 0
        self.first_s: float | None = None
        """How long its first bytes took."""
        self.took_s = 0.0
        loop = asyncio.get_running_loop()
        self.begun, self.ended = loop.create_future(), loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        payload = self._message.feed(data)
        if payload and self.first_s is None:
            self.first_s = time.perf_counter() - self._began
            self.begun.set_result(None)
        self.tokens += payload.count(MARK)
        self._tail = (self._tail + payload)[-len(b"data: [DONE]\n\n") :]
        if self.status != 200:
            self.body += payload
        if self._message.whole:
            self.took_s = time.perf_counter() - self._began
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        for future in (self.begun, self.ended):
            if not future.done():
                future.set_result(None)

    @property
    def status(self) -> int:
        return self._message.status

    @property
    def head(self) -> bytes:
        return self._message.head

    @property
    def whole(self) -> bool:
        """Whether everything came: each token, and the end as the engine wrote it."""
        return (
            self._message.whole and self.tokens == words.TOKENS and self._tail.endswith(b"[DONE]\n\n")
        )


class Crowd:
    """Clients of one door."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        headers = {"Authorization": f"Bearer {key}"}
        body = words.body("chat", words.SMALL_BYTES, stream=True)
        self._request = words.request("door", "/v1/chat/completions", headers, body)

    async def one(self, request: bytes | None = None) -> Stream:
        """Open one connection and ask there."""
        sent = self._request if request is None else request
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: Stream(sent), "127.0.0.1", self._port)
        return made

    async def come(self, count: int) -> list[Stream]:
        """Have so many ask; return once each has its first bytes."""
        opening = asyncio.Semaphore(AT_ONCE)

        async def one() -> Stream:
            async with opening:
                made = await self.one()
                await made.begun
                return made

        return list(await asyncio.gather(*(one() for _ in range(count))))


def p99(seconds: list[float]) -> float:
    """Return the time that 99 in 100 do not pass, in milliseconds."""
    return sorted(seconds)[-(-len(seconds) * 99 // 100) - 1] * 1e3


class LightEngine:
    """An engine in a process of its own: each stream brings a token at once, and further ones at its pace."""

    def __init__(self, here: Town, port: int) -> None:
        self._here, self._port = here, port
        self.replica = Replica(
            workload_id=test_id("workload", "light"),
            address=f"127.0.0.1:{port}",
            api_key=ENGINE_KEY,
            node_id=test_id("node", "light"),
        )

    async def pace(self, gap_ms: int) -> None:
        """Bring a token every ``gap_ms``, after the next one."""
        async with self._here.http.get(f"http://127.0.0.1:{self._port}/pace/{gap_ms}") as answer:
            assert answer.status == 200


@asynccontextmanager
async def light_engine(here: Town) -> AsyncIterator[LightEngine]:
    """Give an engine whose streams take minutes until it is told another pace."""
    allow_files()
    port = free_port()
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh_tools.bench.gateway.mock", str(port))
    )
    try:
        await until(lambda: _listens(port))
        made = LightEngine(here, port)
        await made.pace(SLOW_MS)
        yield made
    finally:
        running.kill()
        await running.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
