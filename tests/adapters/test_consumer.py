"""The continuous pull: everything once, in order, through restarts, silences and refusals."""

import asyncio
import json
from typing import Any

import pytest
from meshkit import consumer as consumer_module
from meshkit.bus import Bus
from meshkit.consumer import Pull, Pulled, header_in
from meshkit.telemetry import METRICS

from tests.adapters.test_bus import make_stream
from tests.servers_nats import Connect, NatsServer


async def make_consumer(bus: Bus, name: str = "c", **config: Any) -> None:
    body = {
        "stream_name": "T",
        "config": {
            "name": name,
            "durable_name": name,
            "ack_policy": "explicit",
            "ack_wait": 10**9,
            "max_ack_pending": 2_000,
            **config,
        },
    }
    answer = await bus.request(
        f"$JS.API.CONSUMER.CREATE.T.{name}", json.dumps(body).encode(), within_s=5
    )
    assert "error" not in json.loads(answer.data), answer.data


async def pending(bus: Bus) -> tuple[int, int]:
    """Return how many messages are delivered and not acknowledged, and how many are still to come."""
    answer = await bus.request("$JS.API.CONSUMER.INFO.T.c", b"", within_s=5)
    told = json.loads(answer.data)
    return told["num_ack_pending"], told["num_pending"]


class Ear:
    """Keeps what it hears, and says when it has heard enough."""

    def __init__(self, pull: Pull, *, ack: bool = True) -> None:
        self.pull = pull
        self.ack = ack
        self.heard: list[Pulled] = []
        self._grown = asyncio.Event()

    def __call__(self, message: Pulled) -> None:
        self.heard.append(message)
        if self.ack:
            self.pull.ack(message)
        self._grown.set()

    async def count(self, wanted: int, within_s: float = 8) -> None:
        async with asyncio.timeout(within_s):
            while len(self.heard) < wanted:
                self._grown.clear()
                await self._grown.wait()

    @property
    def bodies(self) -> list[bytes]:
        return [message.data for message in self.heard]


@pytest.fixture
async def stream(bus: Bus) -> Bus:
    await make_stream(bus)
    await make_consumer(bus)
    return bus


@pytest.fixture
async def reader(stream: Bus, connect: Connect) -> Bus:
    return await connect("reader")


async def fill(bus: Bus, begin: int, end: int) -> None:
    for number in range(begin, end):
        await bus.store("t.a", b"%d" % number, msg_id=f"{number}", headers={"traceparent": f"{number}"})


async def test_more_than_many_batches_arrive_once_and_in_order(stream: Bus, reader: Bus) -> None:
    await fill(stream, 0, 1_000)
    pull = Pull(reader, "T", "c", batch=16)
    ear = Ear(pull)
    await pull.start(ear)
    await ear.count(1_000)
    assert ear.bodies == [b"%d" % number for number in range(1_000)]
    assert [message.sequence for message in ear.heard] == list(range(1, 1_001))
    assert {message.delivered for message in ear.heard} == {1}
    assert header_in(ear.heard[7].raw_headers, b"traceparent") == "7"
    assert ear.heard[7].headers == {"Nats-Msg-Id": "7", "traceparent": "7"}
    assert pull.in_hand == 0
    await pull.stop()
    assert await pending(stream) == (0, 0)


async def test_a_message_given_back_comes_again_and_is_counted(stream: Bus, reader: Bus) -> None:
    await fill(stream, 0, 1)
    pull = Pull(reader, "T", "c")
    ear = Ear(pull, ack=False)
    await pull.start(ear)
    await ear.count(1)
    pull.nak(ear.heard[0])
    await ear.count(2)
    assert ear.heard[1].delivered == 2
    loop = asyncio.get_running_loop()
    began = loop.time()
    pull.nak(ear.heard[1], 0.3)
    await ear.count(3)
    assert loop.time() - began >= 0.28
    pull.ack(ear.heard[2])
    await pull.stop()
    assert await pending(stream) == (0, 0)


@pytest.mark.slow
async def test_work_in_progress_is_not_delivered_to_another(stream: Bus, reader: Bus) -> None:
    await fill(stream, 0, 2)
    pull = Pull(reader, "T", "c")
    ear = Ear(pull, ack=False)
    await pull.start(ear)
    await ear.count(2)
    for _ in range(5):
        await asyncio.sleep(0.4)
        pull.working(ear.heard[0])
    # The ack wait is one second: the one that nobody spoke for is back, the other is not.
    assert {message.data for message in ear.heard[2:]} == {b"1"}
    await pull.stop()


async def test_a_pull_goes_on_after_the_server_was_killed(
    stream: Bus, reader: Bus, nats_server: NatsServer
) -> None:
    await fill(stream, 0, 50)
    pull = Pull(reader, "T", "c", batch=8)
    ear = Ear(pull)
    await pull.start(ear)
    await ear.count(50)
    nats_server.kill()
    await asyncio.sleep(0.05)
    nats_server.start()
    async with asyncio.timeout(5):
        await asyncio.gather(stream.wait_whole(), reader.wait_whole())
    await fill(stream, 50, 100)
    await ear.count(100)
    # What was acknowledged as the server died may come again.
    while len(set(ear.bodies)) < 100:
        await ear.count(len(ear.heard) + 1)
    assert {int(body) for body in ear.bodies} == set(range(100))
    await pull.stop()


@pytest.mark.slow
async def test_a_pull_goes_on_after_the_server_was_frozen(
    stream: Bus, reader: Bus, nats_server: NatsServer
) -> None:
    pull = Pull(reader, "T", "c")
    ear = Ear(pull)
    await pull.start(ear)
    nats_server.stop_signal()
    async with asyncio.timeout(5):
        while reader.connected or stream.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    nats_server.cont_signal()
    async with asyncio.timeout(5):
        await stream.wait_whole()
    await fill(stream, 0, 20)
    await ear.count(20)
    await pull.stop()


@pytest.mark.slow
async def test_a_consumer_that_was_made_anew_is_pulled_from_again(stream: Bus, reader: Bus) -> None:
    pull = Pull(reader, "T", "c")
    ear = Ear(pull)
    await pull.start(ear)
    await stream.request("$JS.API.CONSUMER.DELETE.T.c", b"", within_s=5)
    await fill(stream, 0, 5)
    await make_consumer(stream)
    await ear.count(5)
    await pull.stop()


async def test_a_pull_without_its_consumer_waits_and_does_not_spin(bus: Bus, connect: Connect) -> None:
    await make_stream(bus)
    reader = await connect("reader")
    pull = Pull(reader, "T", "c")
    ear = Ear(pull)
    before = METRICS.value("mesh_pull_refusals_total", consumer="c", status="503")
    await pull.start(ear)
    await asyncio.sleep(0.5)
    refusals = METRICS.value("mesh_pull_refusals_total", consumer="c", status="503") - before
    assert 1 <= refusals <= 4
    await make_consumer(bus)
    await fill(bus, 0, 1)
    await ear.count(1)
    await pull.stop()


@pytest.mark.slow
async def test_an_expired_request_is_made_again(
    stream: Bus, reader: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "EXPIRES_S", 0.5)
    monkeypatch.setattr(consumer_module, "HEARTBEAT_S", 0.2)
    pull = Pull(reader, "T", "c", batch=4)
    ear = Ear(pull)
    await pull.start(ear)
    for number in range(6):
        await asyncio.sleep(0.4)
        await fill(stream, number, number + 1)
        await ear.count(number + 1)
    assert ear.bodies == [b"%d" % number for number in range(6)]
    await pull.stop()


async def test_what_comes_after_the_stop_is_given_back_at_once(stream: Bus, connect: Connect) -> None:
    first, second = await connect("first"), await connect("second")
    leaving = Pull(first, "T", "c", batch=64)
    early = Ear(leaving)
    await leaving.start(early)
    filling = asyncio.create_task(fill(stream, 0, 200))
    await early.count(20)
    await leaving.stop()
    settled = len(early.heard)
    await first.confirm("publish", "t")
    staying = Pull(second, "T", "c", batch=64)
    late = Ear(staying)
    await staying.start(late)
    await filling
    # The ack wait is a second: what was given back comes sooner than that.
    await late.count(200 - settled, within_s=5)
    assert {int(body) for body in early.bodies + late.bodies} == set(range(200))
    assert len(early.heard) == settled
    await staying.stop()


async def test_two_readers_share_a_consumer_without_hearing_twice(
    stream: Bus, connect: Connect
) -> None:
    pulls = [Pull(await connect(name), "T", "c", batch=8) for name in ("one", "other")]
    ears = [Ear(pull) for pull in pulls]
    for pull, ear in zip(pulls, ears, strict=True):
        await pull.start(ear)
    await fill(stream, 0, 300)
    async with asyncio.timeout(5):
        while sum(len(ear.heard) for ear in ears) < 300:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    bodies = sorted(int(body) for ear in ears for body in ear.bodies)
    assert bodies == list(range(300))
    for pull in pulls:
        await pull.stop()
