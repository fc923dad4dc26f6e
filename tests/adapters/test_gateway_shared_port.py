"""Several gateways on one port, one a core: each serves its part, and one that dies takes only its own along."""

import asyncio
import signal
import socket
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


async def asked(here: Town, base: str, http: aiohttp.ClientSession) -> None:
    """Make one request on a connection of its own; it is served."""
    headers = {"authorization": f"Bearer {here.key}"}
    async with http.post(f"{base}/v1/chat/completions", json=CHAT, headers=headers) as answer:
        assert answer.status == 200, await answer.read()
        await answer.read()


@pytest.mark.slow
async def test_two_gateways_share_a_port_and_one_that_is_killed_stops_no_request(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    port = free_port()
    async with town(tmp_path, nats_server.url) as here, engines(streaming()) as (engine,):
        await here.serve(engine.replica())
        both = [Process(here, folder=name, shared=port) for name in ("one", "other")]
        each_anew = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=each_anew) as http, asyncio.timeout(100):
            try:
                await both[0].start()
                await both[1].start()
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
            finally:
                for one in both:
                    await one.end(signal.SIGKILL)
