"""Buckets: whole or older but never mixed, one writer at a time, and an age that is honest."""

import asyncio
import json
import math
from typing import Any

import msgspec
import pytest
from mesh_contracts.identity import AccessEntry
from meshkit.bucket import BEAT_KEY, BucketWriter, Entry, Watched
from meshkit.bus import Bus, Message
from meshkit.declare import declare
from meshkit.errors import StaleSnapshot, Unavailable
from meshkit.telemetry import METRICS
from meshkit.testing import test_id

from tests.servers_nats import Connect, NatsServer


def entry_of(name: str, **fields: Any) -> AccessEntry:
    return AccessEntry(key_id=test_id("key", name), role="project", **fields)


@pytest.fixture
async def declared(bus: Bus) -> Bus:
    await declare(bus)
    return bus


class Seen:
    """Keeps the changes of a bucket, and waits for one."""

    def __init__(self, watched: Watched[AccessEntry]) -> None:
        self.changes: list[tuple[str, AccessEntry | None]] = []
        self._watched = watched
        self._grown = asyncio.Event()
        watched.on_change(self._note)

    def _note(self, key: str, value: AccessEntry | None) -> None:
        self.changes.append((key, value))
        self._grown.set()

    async def until(self, key: str, value: AccessEntry | None, within_s: float = 5) -> None:
        async with asyncio.timeout(within_s):
            while self._watched.values.get(key) != value:
                self._grown.clear()
                await self._grown.wait()


async def raw_put(bus: Bus, key: str, epoch: int, generation: int, value: bytes) -> None:
    data = msgspec.json.encode(Entry(epoch=epoch, generation=generation, value=msgspec.Raw(value)))
    await bus.store(f"$KV.access.{key}", data)


async def test_an_empty_bucket_is_whole_and_empty(declared: Bus) -> None:
    watched = await Watched[AccessEntry].open(declared, "access")
    assert watched.ready
    assert watched.values == {}
    assert watched.age_s() == math.inf
    await watched.close()


async def test_a_reader_holds_what_was_put_before_and_sees_what_changes(
    declared: Bus, connect: Connect
) -> None:
    writer = BucketWriter(await connect("identity"), "access", 1)
    await writer.start()
    await writer.put("key.a", entry_of("a"))
    watched = await Watched[AccessEntry].open(declared, "access")
    assert watched.values == {"key.a": entry_of("a")}
    seen = Seen(watched)
    await writer.put("key.b", entry_of("b"))
    await seen.until("key.b", entry_of("b"))
    await writer.put("key.a", entry_of("a", revoked=True))
    await seen.until("key.a", entry_of("a", revoked=True))
    await writer.drop("key.b")
    await seen.until("key.b", None)
    assert seen.changes == [
        ("key.b", entry_of("b")),
        ("key.a", entry_of("a", revoked=True)),
        ("key.b", None),
    ]
    assert await writer.held() == {"key.a": msgspec.json.encode(entry_of("a", revoked=True))}
    await writer.close()
    await watched.close()


async def test_a_dropped_key_is_gone_for_a_new_reader_and_can_be_put_again(declared: Bus) -> None:
    writer = BucketWriter(declared, "access", 1)
    await writer.start()
    await writer.put("key.a", entry_of("a"))
    await writer.drop("key.a")
    first = await Watched[AccessEntry].open(declared, "access")
    assert first.values == {}
    await writer.put("key.a", entry_of("again"))
    second = await Watched[AccessEntry].open(declared, "access")
    assert second.values == {"key.a": entry_of("again")}
    for each in (first, second, writer):
        await each.close()


async def test_a_reader_swaps_after_a_restart_and_drops_what_is_missing(
    declared: Bus, connect: Connect, nats_server: NatsServer
) -> None:
    writer = BucketWriter(declared, "access", 1)
    await writer.start()
    await writer.put("key.gone", entry_of("gone"))
    await writer.put("key.kept", entry_of("kept"))
    await writer.close()
    reader = await connect("reader")
    watched = await Watched[AccessEntry].open(reader, "access")
    seen = Seen(watched)
    # While this reader is away, a key leaves without a trace and another comes.
    reader.connection.abort()
    await declared.request(
        "$JS.API.STREAM.PURGE.KV_access",
        json.dumps({"filter": "$KV.access.key.gone"}).encode(),
        within_s=5,
    )
    await raw_put(declared, "key.new", 1, 9, msgspec.json.encode(entry_of("new")))
    await seen.until("key.new", entry_of("new"))
    await seen.until("key.gone", None)
    assert watched.values == {"key.kept": entry_of("kept"), "key.new": entry_of("new")}
    assert ("key.gone", None) in seen.changes
    assert not [key for key, _ in seen.changes if key == "key.kept"]
    # It still hears after the server itself was away.
    nats_server.kill()
    await asyncio.sleep(0.05)
    nats_server.start()
    async with asyncio.timeout(5):
        await asyncio.gather(declared.wait_whole(), reader.wait_whole())
    await raw_put(declared, "key.late", 1, 10, msgspec.json.encode(entry_of("late")))
    await seen.until("key.late", entry_of("late"))
    assert len(watched.values) == 3
    await watched.close()


async def test_an_older_epoch_and_an_older_generation_are_refused(declared: Bus) -> None:
    watched = await Watched[AccessEntry].open(declared, "access")
    seen = Seen(watched)
    await raw_put(declared, "key.a", 2, 5, msgspec.json.encode(entry_of("now")))
    await seen.until("key.a", entry_of("now"))
    await raw_put(declared, "key.a", 1, 9, msgspec.json.encode(entry_of("older epoch")))
    await raw_put(declared, "key.a", 2, 4, msgspec.json.encode(entry_of("older generation")))
    await raw_put(declared, "key.b", 1, 1, msgspec.json.encode(entry_of("deposed writer")))
    await raw_put(declared, "key.c", 2, 6, msgspec.json.encode(entry_of("c")))
    await seen.until("key.c", entry_of("c"))
    assert watched.values == {"key.a": entry_of("now"), "key.c": entry_of("c")}
    await watched.close()


async def test_what_cannot_be_read_is_counted_and_skipped(declared: Bus) -> None:
    before = METRICS.value("mesh_bucket_skipped_total", bucket="access", why="undecodable")
    strange = METRICS.value("mesh_bucket_skipped_total", bucket="access", why="unknown")
    watched = await Watched[AccessEntry].open(declared, "access")
    seen = Seen(watched)
    await declared.store("$KV.access.key.a", b"no entry at all")
    await raw_put(declared, "key.b", 1, 1, b'{"some": "other type"}')
    await raw_put(declared, "key.c", 1, 2, msgspec.json.encode(entry_of("c")))
    await seen.until("key.c", entry_of("c"))
    assert set(watched.values) == {"key.c"}
    assert METRICS.value("mesh_bucket_skipped_total", bucket="access", why="undecodable") == before + 1
    assert METRICS.value("mesh_bucket_skipped_total", bucket="access", why="unknown") == strange + 1
    await watched.close()


async def test_a_second_writer_deposes_the_first(declared: Bus, connect: Connect) -> None:
    first = BucketWriter(await connect("one"), "access", 1)
    await first.start()
    await first.put("key.a", entry_of("a"))
    second = BucketWriter(declared, "access", 2)
    await second.start()
    assert await second.held() == {"key.a": msgspec.json.encode(entry_of("a"))}
    async with asyncio.timeout(3):
        await first.deposed.wait()
    with pytest.raises(StaleSnapshot):
        await first.put("key.a", entry_of("too late"))
    await second.put("key.a", entry_of("b"))
    assert not second.deposed.is_set()
    late = BucketWriter(await connect("late"), "access", 1)
    with pytest.raises(StaleSnapshot):
        await late.start()
    for writer in (first, second):
        await writer.close()


async def test_a_put_whose_answer_was_lost_can_be_put_again(declared: Bus) -> None:
    writer = BucketWriter(declared, "access", 1)
    await writer.start()
    # As if an earlier try had arrived and its answer had not.
    await raw_put(declared, "key.a", 1, 7, msgspec.json.encode(entry_of("a")))
    await writer.put("key.a", entry_of("a"), generation=7)
    watched = await Watched[AccessEntry].open(declared, "access")
    assert watched.values == {"key.a": entry_of("a")}
    await writer.close()
    await watched.close()


async def test_puts_are_unavailable_while_the_server_is_away_and_work_after(
    declared: Bus, nats_server: NatsServer
) -> None:
    writer = BucketWriter(declared, "access", 1)
    await writer.start()
    nats_server.kill()
    with pytest.raises(Unavailable):
        await writer.put("key.a", entry_of("a"))
    nats_server.start()
    async with asyncio.timeout(5):
        await declared.wait_whole()
    await writer.put("key.a", entry_of("a"))
    await writer.close()


@pytest.mark.slow
async def test_the_age_is_the_time_since_the_writer_beat(declared: Bus, connect: Connect) -> None:
    writer = BucketWriter(await connect("identity"), "access", 1)
    await writer.start()
    watched = await Watched[AccessEntry].open(declared, "access")
    assert watched.age_s() < 1
    await asyncio.sleep(1.6)
    assert watched.age_s() < 1.3
    await writer.close()
    await asyncio.sleep(1.5)
    old = watched.age_s()
    assert 1.4 < old < 3.5
    # A reader that starts now knows that the beat it found is not fresh.
    late = await Watched[AccessEntry].open(declared, "access")
    assert late.age_s() >= old - 0.1
    assert BEAT_KEY not in late.values
    await watched.close()
    await late.close()


async def test_an_intent_is_told_on_to_its_node_alone(declared: Bus, connect: Connect) -> None:
    node = await connect("node")
    heard: asyncio.Queue[Message] = asyncio.Queue()
    await node.subscribe("intent.node_a", heard.put_nowait)
    writer = BucketWriter(declared, "intents", 1)
    await writer.start()
    await writer.put("node_b", b'{"of": "b"}')
    await writer.put("node_a", b'{"of": "a"}')
    async with asyncio.timeout(2):
        told = await heard.get()
    assert msgspec.json.decode(told.data, type=Entry).value == msgspec.Raw(b'{"of": "a"}')
    assert heard.empty()
    direct = await node.last("KV_intents", "$KV.intents.node_a")
    assert direct is not None
    assert direct.data == told.data
    assert direct.sequence == int(told.headers["Nats-Sequence"])
    await writer.close()


@pytest.mark.slow
async def test_a_large_bucket_arrives_whole(declared: Bus, connect: Connect) -> None:
    """60,000 keys need flow control: unanswered, a watch stops at some five thousand without a word."""
    batch = 500
    value = msgspec.json.encode(entry_of("x", project_name="p" * 60))
    for begin in range(0, 60_000, batch):
        await asyncio.gather(
            *(raw_put(declared, f"key.{n}", 1, n + 1, value) for n in range(begin, begin + batch))
        )
    watched = await Watched[AccessEntry].open(await connect("reader"), "access")
    assert watched.ready
    assert len(watched.values) == 60_000
    await watched.close()
