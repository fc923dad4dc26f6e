"""Told, kept and heard while the server dies and freezes again and again."""

import asyncio
import json
import random

import pytest
from meshkit.bus import Bus
from meshkit.consumer import Pull, Pulled
from meshkit.errors import Unavailable

from tests.adapters.test_bus import make_stream
from tests.adapters.test_consumer import make_consumer, pending
from tests.servers_nats import Connect, NatsServer

TELLERS = 8


async def tell(bus: Bus, name: int, stop: asyncio.Event, told: set[bytes]) -> None:
    """Tell one fact after the other, each under one id until it is kept."""
    number = 0
    while not stop.is_set():
        body = b"%d-%d" % (name, number)
        try:
            await bus.store(f"t.{name}", body, msg_id=body.decode())
        except Unavailable:
            await asyncio.sleep(0.01)
            continue
        told.add(body)
        number += 1


@pytest.mark.slow
async def test_through_kills_and_freezes_all_that_was_kept_is_heard_and_stands_once(
    bus: Bus, connect: Connect, nats_server: NatsServer
) -> None:
    await make_stream(bus)
    await make_consumer(bus)
    reader = await connect("reader")
    bodies: set[bytes] = set()
    pull = Pull(reader, "T", "c", batch=32)

    def hear(message: Pulled) -> None:
        # Order after a loss is the reader's to restore; here it is enough that it is heard.
        bodies.add(message.data)
        pull.ack(message)

    await pull.start(hear)
    told: set[bytes] = set()
    stop = asyncio.Event()
    tellers = [asyncio.create_task(tell(bus, name, stop, told)) for name in range(TELLERS)]
    chance = random.Random(7)
    for fault in ("kill", "freeze", "kill", "kill", "freeze", "kill"):
        await asyncio.sleep(chance.uniform(0.2, 0.5))
        if fault == "kill":
            nats_server.kill()
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            await asyncio.to_thread(nats_server.start)
        else:
            nats_server.stop_signal()
            # Shorter and longer than it takes to be noticed.
            await asyncio.sleep(chance.choice((0.4, 3.5)))
            nats_server.cont_signal()
    await asyncio.sleep(0.5)
    stop.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*tellers)
        while not told <= bodies or await pending(bus) != (0, 0):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert len(told) > 100
    # Told once more after its answer was lost, a fact still stands once.
    kept = json.loads((await bus.request("$JS.API.STREAM.INFO.T", b"", within_s=5)).data)
    assert kept["state"]["messages"] == len(bodies)
    assert pull.in_hand == 0
    await pull.stop()
