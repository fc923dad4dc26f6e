"""What is no fact, or ends badly, costs the facts beside it nothing: against real servers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_contracts import wire
from mesh_contracts.fact import Fact, subject_of
from mesh_contracts.identity import ProjectAdmitted
from meshkit.consumer import Pull, Pulled
from meshkit.ears import DELIVER_MAX
from meshkit.handled import Handled
from meshkit.reader import Reader

from tests.adapters.hearing import READER, Effects, World, hearing
from tests.adapters.roads import admitted, eventually, tell, until
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

SUBJECT = "identity.project.admitted.fr-idf-1.00.project-0"
FROM_TOMORROW = (
    b'{"tag":"identity.project.admitted/9","key":"project-0","site":"fr-idf-1",'
    b'"fact_id":"fact_019ab000-0000-7000-8000-000000000000"'
)


@pytest.fixture
async def world(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[World]:
    async with hearing(nats_server, postgres, tmp_path) as opened_world:
        yield opened_world


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(b'{"z":' + b"[" * 100_000, id="nested too deeply"),
        pytest.param(b'{"tag":"identity.project.admitted/1"}', id="without what a fact carries"),
        pytest.param(FROM_TOMORROW.replace(b"fact_019a", b"fact\\u0000") + b"}", id="a NUL in its id"),
        pytest.param(FROM_TOMORROW.replace(b"/9", b"/9\\u0000") + b"}", id="a NUL in its type"),
        pytest.param(FROM_TOMORROW + b',"version":-1}', id="a version below nought"),
        pytest.param(FROM_TOMORROW + b',"version":9223372036854775808}', id="a version without bound"),
    ],
)
async def test_bytes_that_are_no_fact_are_buried_and_the_queue_goes_on(
    world: World, poison: bytes
) -> None:
    world.read(Effects())
    await world.bus.store(SUBJECT, poison, headers={"traceparent": "no trace\0"})
    await tell(world.bus, admitted("project-1"))
    await eventually(world.effects, [("project-1", 1)], 5)
    (letter,) = await world.letters()
    assert (letter["parked"], letter["key"], letter["traceparent"]) == (False, "project-0", None)
    assert letter["reason"].startswith("cannot be decoded")
    assert letter["payload"] == poison


async def test_a_fact_that_comes_again_though_it_had_its_effect_is_not_counted_against_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = [DELIVER_MAX + 2]

    def lost(pull: Pull, message: Pulled) -> None:
        """Give it back instead of acknowledging it, as if the word had been lost."""
        again[0] -= 1
        if again[0] >= 0:
            pull.nak(message)
        else:
            acknowledged(pull, message)

    acknowledged = Pull.ack
    monkeypatch.setattr(Pull, "ack", lost)
    world.read(Effects())
    await tell(world.bus, admitted("project-1"))
    await until(lambda: again[0] < 0, 30)
    assert await world.effects() == [("project-1", 1)]
    assert await world.letters() == []
    async with world.store.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM attempt") == 0


class Settled:
    """Stands where a consumer stands, and keeps what became of each delivery."""

    def __init__(self) -> None:
        self.acked: list[int] = []
        self.given_back: list[int] = []

    def ack(self, message: Pulled) -> None:
        self.acked.append(message.sequence)

    def nak(self, message: Pulled, _delay_s: float = 0.0) -> None:
        self.given_back.append(message.sequence)

    def working(self, message: Pulled) -> None:
        pass


async def test_a_stop_ends_the_redoing_of_a_failed_batch_and_gives_the_rest_back(world: World) -> None:
    slow, source = Effects(), Settled()

    async def fail_first(fact: Fact) -> None:
        if fact.key == "project-0":
            raise ValueError("sick")
        await asyncio.sleep(0.03)

    slow.on = fail_first
    reader = Reader(Handled(READER, world.store, {ProjectAdmitted: slow}), source)
    for place in range(1, 61):
        fact = admitted(f"project-{place - 1}")
        ack_to = f"$JS.ACK.IDENTITY.{READER}.1.{place}.{place}.0.0".encode()
        reader.heard(Pulled(subject_of(fact), wire.encode(fact), ack_to, None))
    running = asyncio.create_task(reader.run())
    await until(lambda: len(slow.seen) > 5)
    begun = len(slow.seen)
    reader.stop()
    await running
    await reader.give_back()
    assert len(slow.seen) <= begun + 1
    assert source.acked == list(range(2, len(source.acked) + 2))
    assert source.given_back == [1, *range(len(source.acked) + 2, 61)]
