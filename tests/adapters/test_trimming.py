"""A stream makes room of what all its readers have, and never of what one still needs."""

import asyncio
import json

import msgspec
import pytest
from mesh_contracts.streams import STREAMS, StreamSpec
from meshkit import declare as declaring
from meshkit.bus import Bus
from meshkit.consumer import Pull, Pulled
from meshkit.declare import declare
from meshkit.errors import Unavailable
from meshkit.trimming import TRIM_ABOVE, Trim

from tests.adapters.test_declare import info

BYTES_MAX = 256 * 1024
WITHIN_S = 30.0
FACT = b"x" * 1_000
RATED = "metering.usage.rated.fr-idf-1.00.k"
RECORDED = "metering.usage.recorded.fr-idf-1.00.k"
"""The one has a reader, the other is followed by ``EVENTS``."""


def small(name: str) -> StreamSpec:
    return next(
        msgspec.structs.replace(one, max_bytes=BYTES_MAX) for one in STREAMS if one.name == name
    )


@pytest.fixture
async def declared(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Bus:
    specs = tuple(small(spec.name) for spec in STREAMS)
    monkeypatch.setattr(declaring, "STREAMS", specs)
    await declare(bus)
    async with asyncio.timeout(WITHIN_S):
        # A source says that it follows with its first beat, a second after it was declared.
        while any(one["active"] < 0 for one in (await info(bus, "STREAM.INFO.EVENTS"))["sources"]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return bus


async def fill(bus: Bus, subject: str) -> int:
    """Store facts until the stream takes no more; return how many it took."""
    for taken in range(BYTES_MAX):
        try:
            await bus.store(subject, FACT)
        except Unavailable:
            return taken
    raise AssertionError("it has no end")


async def held(bus: Bus, stream: str) -> dict[str, int]:
    state: dict[str, int] = (await info(bus, f"STREAM.INFO.{stream}"))["state"]
    return state


async def all_read(bus: Bus, stream: str, reader: str, *, but_for: int = 0) -> None:
    """Acknowledge all that a reader has to read, but for the last so many."""
    pull = Pull(bus, stream, reader)
    heard: list[Pulled] = []
    wanted = (await info(bus, f"CONSUMER.INFO.{stream}.{reader}"))["num_pending"]
    await pull.start(heard.append)
    async with asyncio.timeout(WITHIN_S):
        while len(heard) < wanted:  # noqa: ASYNC110 - the pull says nothing else
            await asyncio.sleep(0.01)
    for message in heard[: len(heard) - but_for]:
        pull.ack(message)
    async with asyncio.timeout(WITHIN_S):
        while (await info(bus, f"CONSUMER.INFO.{stream}.{reader}"))["num_ack_pending"] > but_for:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await pull.stop()


async def followed(bus: Bus, messages: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while (await held(bus, "EVENTS"))["messages"] < messages:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def trimmed(bus: Bus) -> int:
    """Look twice: only what was there at the look before may go."""
    trim = Trim(bus, small("METERING"))
    await trim.look()
    return await trim.look()


async def test_a_full_stream_takes_facts_again_once_its_readers_have_what_it_holds(
    declared: Bus,
) -> None:
    taken = await fill(declared, RATED)
    assert taken > 100, "it is full"
    assert await trimmed(declared) == 0, "its reader has nothing yet"
    await all_read(declared, "METERING", "carbon_METERING_00")
    assert await trimmed(declared) > 0
    state = await held(declared, "METERING")
    assert 0 < state["bytes"] <= TRIM_ABOVE * BYTES_MAX, "some history stays, where there is room"
    assert await declared.store(RATED, FACT) == taken + 1


async def test_what_one_reader_has_not_acknowledged_stays(declared: Bus) -> None:
    taken = await fill(declared, RATED)
    await all_read(declared, "METERING", "carbon_METERING_00", but_for=taken - 10)
    assert await trimmed(declared) == 10
    assert (await held(declared, "METERING"))["first_seq"] == 11


async def test_what_events_follow_stays_until_they_have_it(declared: Bus) -> None:
    taken = await fill(declared, RECORDED)
    await followed(declared, taken)
    assert await trimmed(declared) > 0
    state = await held(declared, "EVENTS")
    assert state["messages"] == taken, "partners see each of them"
    # Without EVENTS nothing says that anybody has them.
    await declared.request("$JS.API.STREAM.DELETE.EVENTS", b"", within_s=5)
    await fill(declared, RECORDED)
    with pytest.raises(Unavailable, match="EVENTS was refused"):
        await trimmed(declared)


async def test_a_stream_that_is_not_half_full_keeps_its_history(declared: Bus) -> None:
    for _ in range(20):
        await declared.store(RATED, FACT)
    await all_read(declared, "METERING", "carbon_METERING_00")
    assert await trimmed(declared) == 0
    assert (await held(declared, "METERING"))["messages"] == 20


@pytest.mark.parametrize(
    ("stream", "reader", "subject"),
    [
        ("GATEWAY", "metering_GATEWAY_00", "gateway.usage.metered.fr-idf-1.00.k"),
        ("AGENT", "carbon_AGENT_00", "agent.energy.measured.fr-idf-1.00.k"),
    ],
)
async def test_what_doors_and_nodes_tell_is_gone_once_it_is_read(
    declared: Bus, stream: str, reader: str, subject: str
) -> None:
    assert await fill(declared, subject) > 100, "unread, it stays, and the new is refused"
    await all_read(declared, stream, reader)
    async with asyncio.timeout(WITHIN_S):
        while (await held(declared, stream))["messages"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await fill(declared, subject) > 100, "there is room again, for as many"


async def test_streams_declared_with_another_retention_keep_what_nobody_has_read(bus: Bus) -> None:
    await declare(bus)
    before = (await info(bus, "STREAM.INFO.GATEWAY"))["config"]
    await bus.request(
        "$JS.API.STREAM.UPDATE.GATEWAY",
        json.dumps({**before, "retention": "limits"}).encode(),
        within_s=5,
    )
    await bus.store("gateway.usage.metered.fr-idf-1.00.k", FACT)
    await declare(bus)
    after = (await info(bus, "STREAM.INFO.GATEWAY"))["config"]
    assert after["retention"] == "interest"
    assert (await held(bus, "GATEWAY"))["messages"] == 1
