"""A bucket's writer and its epoch: what an older one sends is refused by the bus itself."""

import json
from typing import Any

import msgspec
import pytest
from mesh_contracts.identity import AccessEntry
from meshkit.bucket import BucketWriter
from meshkit.bus import Bus
from meshkit.declare import declare
from meshkit.errors import StaleSnapshot, Unavailable
from meshkit.testing import test_id

from tests.servers_nats import Connect


def entry_of(name: str, **fields: Any) -> AccessEntry:
    return AccessEntry(key_id=test_id("key", name), role="project", **fields)


@pytest.fixture
async def declared(bus: Bus) -> Bus:
    await declare(bus)
    return bus


async def test_a_writer_that_heard_of_no_other_can_put_nothing_once_there_is_one(
    declared: Bus, connect: Connect
) -> None:
    first = BucketWriter(await connect("one"), "access", 1)
    await first.start()
    await first.put("key.a", entry_of("a"))
    # As if it were frozen: it hears nothing, and does not beat.
    await first._feed.close()
    assert first._beating is not None
    first._beating.cancel()
    second = BucketWriter(declared, "access", 2)
    await second.start()
    assert not first.deposed.is_set()
    for key in ("key.a", "key.b"):
        with pytest.raises(StaleSnapshot):
            await first.put(key, entry_of("too late"))
        assert first.deposed.is_set()
        first.deposed.clear()
    with pytest.raises(StaleSnapshot):
        await first.drop("key.a")
    assert await second.held() == {"key.a": msgspec.json.encode(entry_of("a"))}
    assert await declared.last("KV_access", "$KV.access.key.b") is None
    await second.close()


async def test_a_writer_that_begins_again_in_its_epoch_goes_on(declared: Bus) -> None:
    for number in range(2):
        writer = BucketWriter(declared, "access", 3)
        await writer.start()
        await writer.put("key.a", entry_of(f"a{number}"))
        await writer.close()
    assert list(await writer.held()) == ["key.a"]


async def test_a_writer_whose_epoch_the_bus_has_lost_says_that_the_bucket_is_an_older_copy(
    declared: Bus,
) -> None:
    writer = BucketWriter(declared, "access", 3)
    await writer.start()
    await declared.request(
        "$JS.API.STREAM.PURGE.KV_access",
        json.dumps({"filter": "$KV.access._epoch"}).encode(),
        within_s=5,
    )
    with pytest.raises(Unavailable):
        await writer.put("key.a", entry_of("a"))
    assert writer.behind
    await writer.close()
