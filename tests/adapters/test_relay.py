"""The outbox leaves: facts to their stream, puts to their bucket, in order, whoever dies meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_contracts import wire
from mesh_contracts.identity import AccessEntry, ProjectAdmitted
from meshkit.bus import Bus
from meshkit.declare import declare
from meshkit.relay import OUTBOX_BATCH_MAX, Relay
from meshkit.store import Store
from meshkit.telemetry import METRICS
from meshkit.testing import test_id

from tests.adapters.roads import admitted, connected, eventually, opened, until
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def bus(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Bus]:
    connection = await connected(tmp_path, nats_server.url, "identity")
    await declare(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def store(postgres: PostgresServer) -> AsyncIterator[Store]:
    opened_store = await opened(postgres.dsn("identity"), "identity")
    yield opened_store
    await opened_store.close()


@pytest.fixture
async def relay(bus: Bus, store: Store) -> AsyncIterator[Relay]:
    running = Relay(store, bus)
    task = asyncio.create_task(running.run())
    yield running
    running.stop()
    await asyncio.wait({task}, timeout=5)
    assert task.done()


async def stored(bus: Bus) -> list[ProjectAdmitted]:
    """Return every fact of the stream, in its order."""
    facts: list[ProjectAdmitted] = []
    sequence = 1
    while (found := await bus.at("IDENTITY", sequence)) is not None:
        facts.append(wire.decode(found.data, ProjectAdmitted))
        sequence = found.sequence + 1
    return facts


async def waiting(store: Store) -> int:
    return await store.look()


def entry(name: str) -> AccessEntry:
    return AccessEntry(key_id=test_id("key", name), role="project")


async def test_a_rolled_back_transaction_tells_nothing(bus: Bus, store: Store, relay: Relay) -> None:
    with pytest.raises(ValueError, match="no"):  # noqa: PT012 - the block is the transaction
        async with store.transaction() as tx:
            await tx.tell(admitted("project-1"))
            raise ValueError("no")
    async with store.transaction() as tx:
        told = await tx.tell(admitted("project-2"))
    await relay.flushed(tx.outbox_ids)
    assert [fact.fact_id for fact in await stored(bus)] == [told.fact_id]


async def test_racing_transactions_leave_each_key_in_order_without_a_hole(
    bus: Bus, store: Store, relay: Relay
) -> None:
    async def tell(key: str) -> None:
        async with store.transaction() as tx:
            await tx.tell(admitted(key))
            await asyncio.sleep(0.001)
            await tx.tell(admitted(key))

    await asyncio.gather(*(tell(f"project-{number % 3}") for number in range(60)))
    await eventually(lambda: waiting(store), 0)
    for key in ("project-0", "project-1", "project-2"):
        versions = [fact.version for fact in await stored(bus) if fact.key == key]
        assert versions == list(range(1, 41))


async def test_the_same_fact_told_twice_leaves_once(bus: Bus, store: Store, relay: Relay) -> None:
    fact = admitted("project-1")
    for _ in range(2):
        async with store.transaction() as tx:
            await tx.tell(fact)
    await eventually(lambda: waiting(store), 0)
    assert [told.fact_id for told in await stored(bus)] == [fact.fact_id]


async def test_the_outbox_survives_a_bus_that_is_away_and_then_leaves_in_order(
    bus: Bus, store: Store, relay: Relay, nats_server: NatsServer
) -> None:
    nats_server.kill()
    for number in range(1, 31):
        async with store.transaction() as tx:
            await tx.tell(admitted("project-1"))
            await tx.put("access", "key.one", entry(str(number)))
    assert await waiting(store) == 60
    nats_server.start()
    await eventually(lambda: waiting(store), 0)
    assert [fact.version for fact in await stored(bus)] == list(range(1, 31))
    held = await bus.last("KV_access", "$KV.access.key.one")
    assert held is not None
    assert wire.encode(entry("30")) in held.data


async def test_a_bus_that_is_away_is_told_to_the_log_now_and_then_not_once_a_row_and_try(
    bus: Bus, store: Store, relay: Relay, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    await eventually(lambda: _is(relay.live), True)
    nats_server.kill()
    await until(lambda: not bus.connected)
    async with store.transaction() as tx:
        for _ in range(50):
            await tx.tell(admitted())
    before = METRICS.value("mesh_relay_failed_total", owner="identity")
    await until(lambda: METRICS.value("mesh_relay_failed_total", owner="identity") >= before + 250)
    said = [record for record in caplog.records if record.name == "meshkit.relay"]
    assert len(said) == 1
    assert "50 keys" in said[0].getMessage()
    nats_server.start()
    await eventually(lambda: waiting(store), 0)


async def test_facts_that_no_stream_takes_keep_no_change_of_a_bucket_waiting(
    bus: Bus, store: Store, relay: Relay
) -> None:
    await bus.request("$JS.API.STREAM.DELETE.IDENTITY", b"", within_s=5)
    async with store.transaction() as tx:
        for _ in range(OUTBOX_BATCH_MAX + 1):
            await tx.tell(admitted())
    async with store.transaction() as tx:
        await tx.put("access", "key.one", entry("revoked"))
    await asyncio.wait_for(relay.flushed(tx.outbox_ids), 10)
    held = await bus.last("KV_access", "$KV.access.key.one")
    assert held is not None
    assert wire.encode(entry("revoked")) in held.data
    await declare(bus)
    await eventually(lambda: waiting(store), 0)


async def test_the_relay_goes_on_after_its_database_was_killed(
    bus: Bus, store: Store, relay: Relay, postgres: PostgresServer
) -> None:
    async with store.transaction() as tx:
        await tx.tell(admitted("project-1"))
    await relay.flushed(tx.outbox_ids)
    epoch = store.epoch
    postgres.kill()
    await asyncio.to_thread(postgres.start)
    async with store.transaction() as tx:
        await tx.tell(admitted("project-1"))
    await eventually(lambda: waiting(store), 0)
    assert [fact.version for fact in await stored(bus)] == [1, 2]
    assert store.epoch > epoch


@pytest.mark.slow
async def test_one_of_two_relays_lives_and_the_other_hears_its_doorbell(
    bus: Bus, store: Store, postgres: PostgresServer, tmp_path: Path, nats_server: NatsServer
) -> None:
    live, standby = Relay(store, bus), Relay(store, bus)
    tasks = [asyncio.create_task(live.run())]
    await eventually(lambda: _is(live.live), True)
    tasks.append(asyncio.create_task(standby.run()))
    began = asyncio.get_running_loop().time()
    for _ in range(5):
        async with store.transaction() as tx:
            await tx.tell(admitted())
        await standby.flushed(tx.outbox_ids)
    assert asyncio.get_running_loop().time() - began < 5
    assert not standby.live
    live.stop()
    await eventually(lambda: _is(standby.live), True)
    standby.stop()
    await asyncio.wait(tasks, timeout=5)


async def _is(truth: bool) -> bool:
    return truth


async def test_a_relay_that_was_deposed_writes_no_more_until_it_is_the_latest_again(
    bus: Bus, store: Store, relay: Relay
) -> None:
    async with store.transaction() as tx:
        await tx.put("access", "key.one", entry("1"))
    await relay.flushed(tx.outbox_ids)
    # A writer of a later epoch, from a restored copy of this database.
    later = b'{"epoch":%d,"generation":9,"value":null}' % (store.epoch + 2)
    await bus.store("$KV.access._beat", later)
    async with store.transaction() as tx:
        await tx.put("access", "key.one", entry("2"))
    await eventually(lambda: waiting(store), 0)
    held = await bus.last("KV_access", "$KV.access.key.one")
    assert held is not None
    assert wire.encode(entry("2")) in held.data
    assert store.epoch >= 3
