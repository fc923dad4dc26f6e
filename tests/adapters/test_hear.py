"""The road of a fact with a store, against a real nats-server and a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mesh_contracts import wire
from mesh_contracts.fact import Fact, subject_of
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.streams import ConsumerSpec
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.declare import consumer_request
from meshkit.pace import FACT_BYTES, FACTS_PER_TRANSACTION
from meshkit.store import Transaction

from tests.adapters.hearing import PLACEMENT, READER, Effects, World, hearing
from tests.adapters.roads import admitted, enrolled, eventually, tell, until
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def world(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[World]:
    async with hearing(nats_server, postgres, tmp_path) as opened_world:
        yield opened_world


async def test_a_fact_has_its_effect_once_however_often_it_is_told(world: World) -> None:
    effects = Effects()
    world.read(effects)
    fact = admitted()
    await tell(world.bus, fact)
    # Past the stream's own memory of ids: stored twice.
    await world.bus.store(subject_of(fact), wire.encode(fact), msg_id="another")
    other = admitted()
    await tell(world.bus, other)
    await eventually(world.count, 2)
    assert [fact.fact_id, other.fact_id] == [seen.fact_id for seen in effects.seen]


async def test_many_queued_facts_are_handled_in_few_transactions(world: World) -> None:
    facts = [admitted(version=number) for number in range(1, 301)]
    await asyncio.gather(*(tell(world.bus, fact) for fact in facts))
    world.read(Effects())
    await eventually(world.count, 300)
    async with world.store.transaction() as tx:
        transactions = await tx.value("SELECT count(DISTINCT xmin::text) FROM effect")
    assert transactions < 30


async def test_a_transaction_holds_few_large_facts_though_many_are_queued(world: World) -> None:
    for number in range(12):
        fact = admitted()
        more = b'"padding":"' + b"x" * 200_000 + b'"}'
        raw = wire.encode(fact)[:-1] + b"," + more
        await world.bus.store(subject_of(fact), raw, msg_id=str(number))
    world.read(Effects())
    await eventually(world.count, 12)
    async with world.store.transaction() as tx:
        transactions = await tx.value("SELECT count(DISTINCT xmin::text) FROM effect")
    assert transactions >= 12 * 200_000 / (FACTS_PER_TRANSACTION + 200) / FACT_BYTES


async def test_what_is_heard_until_a_transaction_has_its_turn_is_handled_in_it(world: World) -> None:
    world.store.take_turns()
    world.read(Effects())
    async with world.store.transaction(changes=True):
        for _ in range(3):
            await tell(world.bus, admitted())
            await asyncio.sleep(0.05)
    await eventually(world.count, 3)
    async with world.store.transaction() as tx:
        assert await tx.value("SELECT count(DISTINCT xmin::text) FROM effect") == 1


async def test_a_poison_fact_is_buried_within_its_bound_and_others_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkit.reader.RETRY_WAITS_S", (0.05, 0.05, 0.05, 0.05))
    poison, follower, other = (
        admitted("project-1"),
        admitted("project-1", version=2),
        admitted("project-2"),
    )
    effects = Effects()

    async def fail(fact: Fact) -> None:
        if fact.fact_id == poison.fact_id:
            raise ValueError("this one never works")

    effects.on = fail
    world.read(effects)
    await tell(world.bus, poison, follower, other)
    await eventually(world.effects, [("project-2", 1), ("project-1", 2)])
    (letter,) = await world.letters()
    assert (letter["fact_id"], letter["tries"], letter["parked"]) == (poison.fact_id, 5, False)
    assert letter["reason"] == "ValueError: this one never works"
    assert sum(seen.fact_id == poison.fact_id for seen in effects.seen) >= 5


async def test_a_key_waits_for_its_retry_in_order_while_others_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkit.reader.RETRY_WAITS_S", (0.3, 0.3, 0.3, 0.3))
    effects = Effects()
    fails = [2]

    async def fail_twice(fact: Fact) -> None:
        if fact.key == "project-1" and fact.version == 1 and fails[0]:
            fails[0] -= 1
            raise ValueError("not yet")

    effects.on = fail_twice
    world.read(effects)
    await tell(world.bus, *(admitted("project-1", version=number) for number in (1, 2, 3)))
    await tell(world.bus, *(admitted("project-2", version=number) for number in (1, 2, 3)))
    ordered = [("project-2", number) for number in (1, 2, 3)] + [
        ("project-1", number) for number in (1, 2, 3)
    ]
    await eventually(world.effects, ordered)
    assert await world.letters() == []


async def test_an_unknown_type_is_parked_and_handled_by_the_first_process_that_knows_it(
    world: World,
) -> None:
    old, new = Effects(), Effects()
    node, project = enrolled(), admitted()
    reading = world.read(old, (ProjectAdmitted,))
    await tell(world.bus, node, project)
    await eventually(world.count, 1)
    await eventually(lambda: _tags(world), [("identity.node.enrolled/1", True)])
    await world.end(reading)
    world.read(new)
    await eventually(world.count, 2)
    assert [fact.fact_id for fact in new.seen] == [node.fact_id]
    assert await world.letters() == []


async def _tags(world: World) -> list[tuple[str, bool]]:
    return [(row["tag"], row["parked"]) for row in await world.letters()]


async def test_forged_facts_have_no_effect_and_undecodable_ones_are_buried(world: World) -> None:
    effects = Effects()
    world.read(effects)
    forged = admitted()
    await world.bus.store(subject_of(forged), wire.encode(forged), headers={"Nats-Stream": "IDENTITY"})
    await world.bus.store("identity.project.admitted.fr-idf-1.00.elsewhere", wire.encode(admitted()))
    await world.bus.store(
        "identity.project.admitted.fr-idf-1.00.broken", b'{"tag":"identity.project.admitted/1"}'
    )
    await tell(world.bus, admitted("project-1"))
    await eventually(world.effects, [("project-1", 1)])
    (letter,) = await world.letters()
    assert letter["key"] == "broken"
    assert letter["reason"].startswith("cannot be decoded")


async def test_one_reader_lives_and_another_takes_over(world: World) -> None:
    first, second = Effects(), Effects()
    reading = world.read(first)
    await tell(world.bus, admitted())
    await eventually(world.count, 1)
    world.read(second)
    await tell(world.bus, admitted())
    await eventually(world.count, 2)
    assert second.seen == []
    await world.end(reading)
    await tell(world.bus, admitted())
    await eventually(world.count, 3)
    assert len(second.seen) == 1


@pytest.mark.slow
async def test_nothing_is_lost_or_doubled_while_postgres_is_killed(
    world: World, postgres: PostgresServer
) -> None:
    world.read(Effects())
    facts = [admitted(version=number) for number in range(1, 201)]
    await tell(world.bus, *facts[:100])
    postgres.kill()
    await tell(world.bus, *facts[100:])
    await asyncio.to_thread(postgres.start)
    await eventually(world.count, 200, 30)
    assert await world.letters() == []


@pytest.mark.slow
async def test_nothing_is_lost_or_doubled_while_nats_is_killed(
    world: World, nats_server: NatsServer
) -> None:
    effects = Effects()

    async def slowly(_fact: Fact) -> None:
        await asyncio.sleep(0.01)

    effects.on = slowly
    world.read(effects)
    facts = [admitted("project-1", version=number) for number in range(1, 101)]
    await tell(world.bus, *facts)
    await until(lambda: len(effects.seen) > 10)
    nats_server.kill()
    await asyncio.to_thread(nats_server.start)
    await eventually(world.effects, [("project-1", number) for number in range(1, 101)], 30)


def test_the_reader_under_test_is_declared() -> None:
    assert isinstance(PLACEMENT, ConsumerSpec)


@pytest.mark.slow
async def test_what_a_killed_reader_left_comes_before_what_is_new(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkit.places.SETTLE_WAIT_S", 2.5)
    await _short_ack_wait(world.bus, 1.5)
    stuck, effects = Effects(), Effects()
    reached = asyncio.Event()

    async def stick(_fact: Fact) -> None:
        reached.set()
        await asyncio.sleep(60)

    stuck.on = stick
    killed = world.read(stuck)
    await tell(world.bus, *(admitted("project-1", version=number) for number in (1, 2)))
    await reached.wait()
    await world.kill(killed)
    world.read(effects)
    await tell(world.bus, *(admitted("project-1", version=number) for number in (3, 4)))
    await eventually(world.effects, [("project-1", number) for number in (1, 2, 3, 4)])


@pytest.mark.slow
async def test_a_reader_that_stops_in_order_leaves_nobody_waiting(world: World) -> None:
    slow, effects = Effects(), Effects()
    begun = asyncio.Event()

    async def slowly(_fact: Fact) -> None:
        begun.set()
        await asyncio.sleep(0.02)

    slow.on = slowly
    reading = world.read(slow)
    await tell(world.bus, *(admitted("project-1", version=number) for number in range(1, 41)))
    await begun.wait()
    await world.end(reading)
    world.read(effects)
    await tell(world.bus, *(admitted("project-1", version=number) for number in range(41, 61)))
    await eventually(world.effects, [("project-1", number) for number in range(1, 61)], 8)


@pytest.mark.slow
async def test_a_fact_that_ends_its_reader_each_time_is_buried_unseen_and_its_neighbours_are_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkit.places.SETTLE_WAIT_S", 1.2)
    await _short_ack_wait(world.bus, 0.5)
    deadly, neighbours = admitted("project-1"), [admitted() for _ in range(5)]
    entered = asyncio.Event()

    class Deadly(Effects):
        async def __call__(self, fact: Any, tx: Transaction, clock: Clock) -> None:
            if fact.fact_id == deadly.fact_id:
                entered.set()
                await asyncio.sleep(60)
            await super().__call__(fact, tx, clock)

    await tell(world.bus, *neighbours[:2], deadly, *neighbours[2:])
    for _ in range(6):
        entered.clear()
        reading = world.read(Deadly())
        await asyncio.wait_for(entered.wait(), 10)
        await world.kill(reading)
    world.read(Deadly())
    await eventually(world.count, 5)
    (letter,) = await world.letters()
    assert letter["fact_id"] == deadly.fact_id
    assert "never finished" in letter["reason"]


async def _short_ack_wait(bus: Bus, seconds: float) -> None:
    request = consumer_request(msgspec.structs.replace(PLACEMENT, ack_wait_s=seconds))
    await bus.request(
        f"$JS.API.CONSUMER.CREATE.IDENTITY.{READER}", msgspec.json.encode(request), within_s=5
    )
