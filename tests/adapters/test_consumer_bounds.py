"""How much the continuous pull asks for: no more than may be in hand, and again as soon as it has that."""

import asyncio

import pytest
from meshkit import consumer as consumer_module
from meshkit.bus import Bus
from meshkit.consumer import Pull
from meshkit.telemetry import METRICS

from tests.adapters.test_consumer import Ear, fill, make_consumer, reader, stream

__all__ = ["reader", "stream"]


async def test_what_is_not_settled_holds_back_what_is_asked_for(stream: Bus, reader: Bus) -> None:
    await fill(stream, 0, 100)
    pull = Pull(reader, "T", "c", batch=10)
    ear = Ear(pull, ack=False)
    await pull.start(ear)
    await ear.count(20)
    await reader.confirm("publish", "t")
    assert len(ear.heard) == pull.in_hand == 20
    for message in ear.heard[:10]:
        pull.ack(message)
    await ear.count(30)
    await reader.confirm("publish", "t")
    assert len(ear.heard) == 30
    await pull.stop()


async def test_requests_that_brought_all_they_were_to_are_no_refusals(stream: Bus, reader: Bus) -> None:
    before = METRICS.value("mesh_pull_refusals_total", consumer="c", status="409")
    pull = Pull(reader, "T", "c", batch=10)
    ear = Ear(pull)
    await pull.start(ear)
    for first in range(0, 600, 7):
        await fill(stream, first, first + 7)
    await ear.count(600)
    assert METRICS.value("mesh_pull_refusals_total", consumer="c", status="409") == before
    await pull.stop()


async def test_large_messages_in_hand_hold_back_what_is_asked_for_and_none_is_lost(
    stream: Bus, reader: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "HOLD_BYTES", 1_000_000)
    monkeypatch.setattr(consumer_module, "HEARTBEAT_S", 0.2)
    before = METRICS.value("mesh_pull_refusals_total", consumer="c", status="409")
    await make_consumer(stream, ack_wait=60 * 10**9)
    for number in range(40):
        await stream.store("t.a", b"%03d" % number + b"x" * 100_000, msg_id=str(number))
    pull = Pull(reader, "T", "c")
    ear = Ear(pull, ack=False)
    await pull.start(ear)
    await ear.count(9)
    # Long enough for a silence to be noticed, were this one.
    await asyncio.sleep(consumer_module.HEARTBEAT_S * 4)
    assert len(ear.heard) < 30
    settled = 0
    while settled < 40:
        await ear.count(settled + 1)
        pull.ack(ear.heard[settled])
        settled += 1
    assert [body[:3] for body in ear.bodies] == [b"%03d" % number for number in range(40)]
    assert METRICS.value("mesh_pull_refusals_total", consumer="c", status="409") == before
    await pull.stop()
