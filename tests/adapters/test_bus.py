"""The bus against a real server: kept once, read back, refused in words."""

import asyncio
import json
from typing import Any

import pytest
from meshkit.bus import Bus, Message
from meshkit.errors import ConfigError, MessageTooLarge, StaleSnapshot, Unavailable
from meshkit.testing import FrozenClock

from tests.servers_nats import MESH_SECRET, Connect, NatsServer, settings_for


async def make_stream(bus: Bus, name: str = "T", **config: Any) -> None:
    body = {"name": name, "subjects": [f"{name.lower()}.>"], "allow_direct": True, **config}
    answer = await bus.request(f"$JS.API.STREAM.CREATE.{name}", json.dumps(body).encode(), within_s=5)
    assert "error" not in json.loads(answer.data), answer.data


async def test_a_message_stored_twice_under_one_id_stands_once(bus: Bus) -> None:
    await make_stream(bus)
    first = await bus.store("t.a", b"1", msg_id="same")
    again = await bus.store("t.a", b"1", msg_id="same")
    other = await bus.store("t.a", b"2", msg_id="other")
    assert (first, again, other) == (1, 1, 2)


async def test_what_is_stored_is_read_back_by_subject_and_by_sequence(bus: Bus) -> None:
    await make_stream(bus)
    await bus.store("t.a", b"1", headers={"traceparent": "x"})
    await bus.store("t.b", b"2")
    last = await bus.last("T", "t.a")
    assert last is not None
    assert (last.subject, last.data, last.sequence) == ("t.a", b"1", 1)
    assert last.headers["traceparent"] == "x"
    second = await bus.at("T", 2)
    assert second is not None
    assert second.subject == "t.b"
    assert await bus.at("T", 3) is None
    assert await bus.last("T", "t.c") is None


async def test_reading_at_a_sequence_that_is_gone_gives_the_next_one(bus: Bus) -> None:
    await make_stream(bus, max_msgs=2)
    for number in range(4):
        await bus.store("t.a", b"%d" % number)
    found = await bus.at("T", 1)
    assert found is not None
    assert (found.sequence, found.data) == (3, b"2")


async def test_a_full_stream_refuses_the_new_and_keeps_the_old(bus: Bus) -> None:
    await make_stream(bus, max_msgs=1, discard="new")
    await bus.store("t.a", b"old")
    with pytest.raises(Unavailable, match="maximum messages"):
        await bus.store("t.a", b"new")
    kept = await bus.last("T", "t.a")
    assert kept is not None
    assert kept.data == b"old"


async def test_a_subject_that_no_stream_keeps_is_unavailable_at_once(bus: Bus) -> None:
    async with asyncio.timeout(1):
        with pytest.raises(Unavailable):
            await bus.store("nobody.keeps.this", b"")


async def test_a_compare_and_set_that_comes_late_is_stale(bus: Bus) -> None:
    await make_stream(bus)
    await bus.store("t.a", b"1")
    with pytest.raises(StaleSnapshot):
        await bus.store("t.a", b"2", headers={"Nats-Expected-Last-Subject-Sequence": "0"})


async def test_a_message_too_large_is_refused_here_and_the_connection_stays(bus: Bus) -> None:
    await make_stream(bus)
    with pytest.raises(MessageTooLarge):
        await bus.store("t.a", b"x" * (1024**2 + 1))
    assert await bus.store("t.a", b"x") == 1


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0\r\n", "a\tb"])
async def test_a_subject_cannot_smuggle_a_command(bus: Bus, subject: str) -> None:
    with pytest.raises(ValueError, match="white space"):
        await bus.publish(subject, b"")


async def test_a_header_cannot_smuggle_a_line(bus: Bus) -> None:
    with pytest.raises(ValueError, match="line break"):
        await bus.publish("a", b"", {"x": "1\r\nNats-Msg-Id: forged", "y": "2"})


async def test_a_thousand_messages_are_heard_in_order_with_their_headers(connect: Connect) -> None:
    speaker, listener = await connect("a"), await connect("b")
    heard: list[Message] = []
    all_here = asyncio.Event()

    def hear(message: Message) -> None:
        heard.append(message)
        if len(heard) == 1_000:
            all_here.set()

    await listener.subscribe("said.*", hear)
    for number in range(1_000):
        await speaker.publish("said.now", b"%d" % number, {"n": f"{number}"})
    async with asyncio.timeout(5):
        await all_here.wait()
    assert [int(message.data) for message in heard] == list(range(1_000))
    assert [int(message.headers["n"]) for message in heard] == list(range(1_000))


async def test_of_two_who_share_a_queue_one_hears_each_message(connect: Connect) -> None:
    one, other, speaker = await connect("a"), await connect("b"), await connect("c")
    heard: list[str] = []
    await one.subscribe("work", lambda message: heard.append(f"one {message.data!r}"), queue="q")
    await other.subscribe("work", lambda message: heard.append(f"other {message.data!r}"), queue="q")
    for number in range(50):
        await speaker.publish("work", b"%d" % number)
    for each in (speaker, one, other):
        await each.confirm("publish", "work")
    assert len(heard) == 50


async def test_a_listener_that_fails_does_not_deafen_the_rest(connect: Connect) -> None:
    speaker, listener = await connect("a"), await connect("b")
    heard = asyncio.Event()

    def fail(_: Message) -> None:
        raise RuntimeError

    await listener.subscribe("bad", fail)
    await listener.subscribe("good", lambda _: heard.set())
    await speaker.publish("bad", b"")
    await speaker.publish("good", b"")
    async with asyncio.timeout(2):
        await heard.wait()


async def test_a_stopped_subscription_hears_no_more(connect: Connect) -> None:
    speaker, listener = await connect("a"), await connect("b")
    heard: list[bytes] = []
    subscription = await listener.subscribe("said", lambda message: heard.append(message.data))
    await speaker.publish("said", b"1")
    await speaker.confirm("publish", "said")
    await listener.confirm("publish", "said")
    await subscription.stop()
    await speaker.publish("said", b"2")
    await speaker.confirm("publish", "said")
    await listener.confirm("publish", "said")
    assert heard == [b"1"]


async def test_whole_since_is_the_clock_of_the_connection(
    nats_server: NatsServer, tmp_path: Any
) -> None:
    clock = FrozenClock()
    clock.move(7)
    settings = settings_for(nats_server.url, tmp_path)
    bus = await Bus.connect(settings, user="a", clock=clock, secret=MESH_SECRET)
    assert (bus.connected, bus.whole_since) == (True, 7.0)
    await bus.close()
    assert (bus.connected, bus.whole_since) == (False, None)


async def test_closing_is_no_loss_to_report(connect: Connect) -> None:
    bus = await connect("a")
    async with asyncio.timeout(1):
        await bus.close()
    assert not bus.closed.is_set()
    with pytest.raises(Unavailable):
        await bus.wait_whole()
    with pytest.raises(Unavailable):
        await bus.store("t.a", b"")


async def test_missing_credentials_are_named(nats_server: NatsServer, tmp_path: Any) -> None:
    settings = settings_for(nats_server.url, tmp_path)
    settings.nats_credentials.unlink()
    with pytest.raises(ConfigError, match="NATS_CREDENTIALS"):
        await Bus.connect(settings, user="a", clock=FrozenClock(), secret=MESH_SECRET)
