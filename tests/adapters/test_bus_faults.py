"""The bus while its server is killed, frozen, late or restarted."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from meshkit.bus import Bus, Message
from meshkit.clock import SystemClock
from meshkit.errors import Unavailable
from meshkit.link import Link
from meshkit.telemetry import METRICS
from nats.errors import ConnectionReconnectingError

from tests.adapters.test_bus import make_stream
from tests.servers_nats import MESH_SECRET, Connect, NatsServer, settings_for

pytestmark = pytest.mark.slow


async def lost(bus: Bus, within_s: float) -> float:
    """Return how long it took until the bus knew that it is not whole."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while bus.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return time.monotonic() - began


async def store_for_ever(bus: Bus) -> None:
    while True:
        await bus.store("t.a", b"x")


async def test_publishes_in_flight_fail_at_once_when_the_server_is_killed(
    bus: Bus, nats_server: NatsServer
) -> None:
    await make_stream(bus)
    work = [asyncio.create_task(store_for_ever(bus)) for _ in range(8)]
    await bus.store("t.a", b"x")
    nats_server.kill()
    began = time.monotonic()
    faults = await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 5)
    assert time.monotonic() - began < 0.5
    assert all(isinstance(fault, Unavailable) for fault in faults)
    assert not bus.connected
    with pytest.raises(Unavailable, match="not connected"):
        await bus.store("t.a", b"x")


async def test_after_a_restart_the_bus_is_whole_and_hears_again(
    bus: Bus, nats_server: NatsServer
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    followed = asyncio.Event()

    async def follow() -> None:
        followed.set()

    await bus.subscribe("said", lambda message: heard.put_nowait(message.data))
    bus.on_reconnect(follow)
    nats_server.kill()
    await lost(bus, 2)
    nats_server.start()
    async with asyncio.timeout(5):
        await bus.wait_whole()
        await followed.wait()
        await bus.publish("said", b"again")
        assert await heard.get() == b"again"


async def test_nothing_sent_while_away_arrives_later(bus: Bus, nats_server: NatsServer) -> None:
    heard: list[bytes] = []
    await bus.subscribe("said", lambda message: heard.append(message.data))
    nats_server.kill()
    await lost(bus, 2)
    await bus.publish("said", b"while away")
    nats_server.start()
    async with asyncio.timeout(5):
        await bus.wait_whole()
    await bus.publish("said", b"after")
    await bus.confirm("publish", "said")
    await bus.confirm("publish", "said")
    assert heard == [b"after"]


@pytest.mark.slow
async def test_a_frozen_server_is_noticed_within_three_pings(bus: Bus, nats_server: NatsServer) -> None:
    await make_stream(bus)
    nats_server.stop_signal()
    work = asyncio.create_task(bus.store("t.a", b"x"))
    took = await lost(bus, 5)
    assert took < 3.5
    with pytest.raises(Unavailable):
        await work
    nats_server.cont_signal()
    async with asyncio.timeout(5):
        await bus.wait_whole()
    assert await bus.store("t.a", b"x") >= 1


@pytest.mark.slow
async def test_a_frozen_server_with_a_full_socket_does_not_hold_us(
    bus: Bus, nats_server: NatsServer
) -> None:
    await make_stream(bus)
    nats_server.stop_signal()
    for _ in range(24):
        await bus.publish("said", b"x" * 1_000_000)
    await lost(bus, 6)
    nats_server.cont_signal()
    async with asyncio.timeout(5):
        await bus.wait_whole()
    assert await bus.store("t.a", b"x") == 1


async def test_more_than_the_bound_waiting_to_be_sent_is_refused(
    bus: Bus, nats_server: NatsServer
) -> None:
    nats_server.stop_signal()
    # Without a turn for the loop nothing leaves.
    for _ in range(68):
        assert bus.send("said", b"x" * 1_000_000)
    with pytest.raises(Unavailable, match="too much waits"):
        bus.send("said", b"x")
    nats_server.cont_signal()


async def test_what_waits_for_the_server_to_have_read_all_fails_at_once_while_there_is_none(
    bus: Bus, nats_server: NatsServer
) -> None:
    nats_server.kill()
    await lost(bus, 2)
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionReconnectingError):
            await bus.connection.barrier(60)


async def test_a_connection_that_is_lost_in_the_moment_it_is_made_is_whole_with_the_next(
    connect: Connect, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    let_in = Link._let_in

    async def lost_at_once(link: Link, *told: Any) -> bool:
        done = await let_in(link, *told)
        nats_server.kill()
        while link.connection.is_connected:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)

        def again() -> None:
            seen.append(link.connected)
            nats_server.start()

        asyncio.get_running_loop().call_later(0.2, again)
        return done

    monkeypatch.setattr(Link, "_let_in", lost_at_once)
    async with asyncio.timeout(30):
        bus = await connect("placement")
    assert seen == [False]
    assert bus.connected


async def test_the_bus_waits_for_a_server_that_comes_late(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    nats_server.kill()
    settings = settings_for(nats_server.url, tmp_path)
    connecting = asyncio.create_task(
        Bus.connect(settings, user="early", clock=SystemClock(), secret=MESH_SECRET)
    )
    await asyncio.sleep(0.3)
    assert not connecting.done()
    nats_server.start()
    bus = await asyncio.wait_for(connecting, 5)
    assert bus.connected
    await bus.close()


async def test_a_renewed_connection_goes_on_listening(connect: Connect) -> None:
    bus, speaker = await connect("a"), await connect("b")
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    await bus.subscribe("said", lambda message: heard.put_nowait(message.data))
    for number in range(5):
        await bus.renew()
        await speaker.publish("said", b"%d" % number)
        async with asyncio.timeout(2):
            assert await heard.get() == b"%d" % number


async def test_a_reconnect_during_a_subscribe_loses_nothing(bus: Bus, nats_server: NatsServer) -> None:
    heard: asyncio.Queue[Message] = asyncio.Queue()
    nats_server.kill()
    await lost(bus, 2)
    subscribing = asyncio.create_task(bus.subscribe("said", heard.put_nowait))
    await asyncio.sleep(0)
    nats_server.start()
    await asyncio.wait_for(subscribing, 5)
    await bus.publish("said", b"1")
    async with asyncio.timeout(2):
        assert (await heard.get()).data == b"1"


async def test_reconnects_are_counted(bus: Bus) -> None:
    before = METRICS.value("mesh_bus_reconnects_total")
    await bus.renew()
    assert METRICS.value("mesh_bus_reconnects_total") == before + 1


async def test_closing_takes_less_than_a_second_though_the_server_is_frozen(
    bus: Bus, nats_server: NatsServer
) -> None:
    nats_server.stop_signal()
    await bus.publish("said", b"x" * 1_000_000)
    began = time.monotonic()
    await bus.close()
    assert time.monotonic() - began < 1.2
    nats_server.cont_signal()


async def test_a_slow_callback_is_seen(connect: Connect) -> None:
    speaker, listener = await connect("a"), await connect("b")
    heard = asyncio.Event()

    def slowly(_: Message) -> None:
        time.sleep(0.6)
        heard.set()

    before = METRICS.value("mesh_bus_slow_consumers_total")
    await listener.subscribe("said", slowly)
    await speaker.publish("said", b"")
    async with asyncio.timeout(3):
        await heard.wait()
    await listener.confirm("publish", "said")
    assert METRICS.value("mesh_bus_slow_consumers_total") == before + 1
