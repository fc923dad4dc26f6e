"""Several gateways on one port, one a core: each serves its part, and one that dies takes only its own along."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from inference_gateway.server import listen
from meshkit.errors import ConfigError

from tests.adapters.gateway_process import Process
from tests.adapters.gateways import Town, engines, streaming, town
from tests.servers_nats import NatsServer, free_port

MORE = 40
"""Connections after the kill: were half of them sent to the dead one, hardly a run would not see it."""

LOOK_S = 0.05

LOST_MAX = 1
"""Connections that may be made in the very moment in which a door stops to listen: the kernel resets them."""

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}


def test_a_shared_port_takes_nobody_before_it_is_served_and_no_stranger_beside_it() -> None:
    with listen("127.0.0.1", 0, shared=True) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port, shared=True) as second:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
            second.listen()
            socket.create_connection(("127.0.0.1", port)).close()
            with pytest.raises(ConfigError, match="GATEWAY_PORT"):
                listen("127.0.0.1", port)


class Callers:
    """Clients that make one request after the other, each on a connection of its own."""

    def __init__(self, here: Town, base: str, http: aiohttp.ClientSession, count: int = 4) -> None:
        self.made = self.lost = 0
        self._on = True
        self._tasks = [asyncio.create_task(self._call(here, base, http)) for _ in range(count)]

    async def end(self) -> None:
        """Make no more; raise what any of them met."""
        self._on = False
        await asyncio.gather(*self._tasks)

    async def _call(self, here: Town, base: str, http: aiohttp.ClientSession) -> None:
        while self._on:
            try:
                await asked(here, base, http)
                self.made += 1
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                self.lost += 1


async def asked(here: Town, base: str, http: aiohttp.ClientSession) -> None:
    """Make one request on a connection of its own; it is served."""
    headers = {"authorization": f"Bearer {here.key}"}
    async with http.post(f"{base}/v1/chat/completions", json=CHAT, headers=headers) as answer:
        assert answer.status == 200, await answer.read()
        await answer.read()


@asynccontextmanager
async def two_gateways(
    folder: Path, nats_url: str
) -> AsyncIterator[tuple[Town, list[Process], aiohttp.ClientSession]]:
    """Run two gateways on one port, and give a client that makes a connection for each request."""
    port = free_port()
    async with town(folder, nats_url) as here, engines(streaming()) as (engine,):
        await here.serve(engine.replica())
        both = [Process(here, folder=name, shared=port) for name in ("one", "other")]
        each_anew = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=each_anew) as http, asyncio.timeout(100):
            try:
                await both[0].start()
                await both[1].start()
                yield here, both, http
            finally:
                for one in both:
                    await one.end(signal.SIGKILL)


@pytest.mark.slow
async def test_two_gateways_share_a_port_and_one_that_is_killed_stops_no_request(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with two_gateways(tmp_path, nats_server.url) as (here, both, http):
        made = 0
        # The second listens once it knows what it must: until then, the first serves everybody.
        while len({fact.producer for fact in await here.told()}) < 2:
            await asked(here, both[0].base, http)
            made += 1
            await asyncio.sleep(LOOK_S)
        await here.rows(made)
        await both[0].end(signal.SIGKILL)
        for _ in range(MORE):
            await asked(here, both[1].base, http)
        await here.rows(made + MORE)


@pytest.mark.slow
async def test_one_of_two_gateways_that_is_told_to_stop_refuses_no_request(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with two_gateways(tmp_path, nats_server.url) as (here, both, http):
        callers = Callers(here, both[0].base, http)
        while len({fact.producer for fact in await here.told()}) < 2:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        assert await both[0].end(signal.SIGTERM) == 0
        stopped_at = callers.made
        while callers.made < stopped_at + MORE:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        await callers.end()
        assert callers.lost <= LOST_MAX
        await here.rows(callers.made)


async def test_who_has_come_when_a_door_stops_is_served_and_who_comes_later_is_not_let_in(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with town(tmp_path, nats_server.url) as here, engines(streaming()) as (engine,):
        await here.serve(engine.replica())
        kept, fresh = [await asyncio.open_connection("127.0.0.1", here.door.port) for _ in range(2)]
        assert b"connection: close" not in await _said(here, *kept)
        waits = socket.create_connection(("127.0.0.1", here.door.port))
        stopping = asyncio.create_task(here.door.stop())
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", here.door.port)).close()
        waited = await asyncio.open_connection(sock=waits)
        for come in (fresh, waited):
            said = await _said(here, *come)
            assert said.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nconnection: close\r\n" in said
            assert await come[0].read() == b"", "it is closed after its answer"
        assert await kept[0].read() == b"", "nothing was asked there"
        for _, writer in (kept, fresh, waited):
            writer.close()
            await writer.wait_closed()
        await stopping
        await here.open_door()
        await here.rows(3)


async def _said(here: Town, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask on a connection; return the head of what is answered, having read the rest."""
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {here.key}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    said = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(said.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    return said
