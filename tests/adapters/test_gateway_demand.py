"""The teller of demand with a real journal and a real bus: numbered over restarts, and no burden to usage."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from inference_gateway import demand
from inference_gateway.demand import BACKLOG_MAX, DemandTeller
from inference_gateway.domain.demand import Seen
from inference_gateway.meter import Meter
from mesh_contracts import wire
from mesh_contracts.inference import DEMANDS_MAX, DemandChanged
from mesh_contracts.units import DEFAULT_SITE
from meshkit.bus import Bus
from meshkit.declare import declare
from meshkit.journal import Journal
from meshkit.testing import FrozenClock, test_id

from tests.adapters.roads import connected, until
from tests.servers_nats import NatsServer

ENDPOINT = test_id("endpoint", "chat")


class Hall:
    """A journal in a folder, and what stands at each endpoint."""

    def __init__(self, folder: Path, bytes_max: int = 64 * 1024) -> None:
        self.clock = FrozenClock()
        self.journal = Journal.open(folder, kind="producer", bytes_max=bytes_max, clock=self.clock)
        self.seen: dict[str, Seen] = {}
        self.teller = DemandTeller(
            self.journal, self.clock, DEFAULT_SITE, lambda: self.seen, on_told=self.journal.release
        )

    def facts(self) -> list[DemandChanged]:
        kept = [self.journal.fact_at(position) for position in sorted(self.journal._facts)]
        return [fact for fact in kept if isinstance(fact, DemandChanged)]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Hall]:
    hall = Hall(tmp_path)
    yield hall
    hall.journal.close()


def test_sequences_rise_also_over_a_restart(tmp_path: Path) -> None:
    told: list[DemandChanged] = []
    for _ in range(2):
        hall = Hall(tmp_path)
        for load in (1, 9):
            hall.seen = {ENDPOINT: Seen(in_flight=load)}
            hall.clock.move(1)
            assert hall.teller.look() == 1
        told = hall.facts()
        hall.journal.close()
    assert len(told) == 4
    assert [fact.sequence for fact in told] == sorted({fact.sequence for fact in told})
    assert {(fact.key, fact.producer) for fact in told} == {(told[0].producer, told[0].producer)}
    assert len({fact.fact_id for fact in told}) == 4


def test_what_one_fact_cannot_carry_goes_into_several(tmp_path: Path) -> None:
    hall = Hall(tmp_path, 1024**2)
    hall.seen = {test_id("endpoint", f"e{n}"): Seen(queued=1) for n in range(DEMANDS_MAX + 1)}
    assert hall.teller.look() == DEMANDS_MAX + 1
    assert [len(fact.demands) for fact in hall.facts()] == [DEMANDS_MAX, 1]
    assert all(wire.decode(wire.encode(fact), DemandChanged) for fact in hall.facts())
    hall.journal.close()


def test_behind_a_long_backlog_nothing_is_told_and_it_is_told_once_there_is_a_way(here: Hall) -> None:
    for _ in range(BACKLOG_MAX):
        here.seen = {test_id("endpoint"): Seen(in_flight=1)}
        here.teller.look()
    assert here.journal.backlog >= BACKLOG_MAX - 1
    here.seen = {ENDPOINT: Seen(waking=True, queued=1)}
    while here.journal.backlog < BACKLOG_MAX:
        here.teller.look()
    assert here.teller.look() == 0
    here.journal._untold.clear()
    assert here.teller.look() >= 1


def test_a_full_journal_is_no_error_for_demand(tmp_path: Path) -> None:
    hall = Hall(tmp_path, 8 * 1024)
    while hall.journal.size_bytes < 7 * 1024:
        hall.journal.append(16, b"x" * 900)
    for _ in range(4):
        hall.seen = {test_id("endpoint"): Seen(in_flight=1)}
        hall.clock.move(1)
        hall.teller.look()
    assert hall.teller.look() == 0
    hall.journal.close()


def test_the_meter_takes_demand_in_the_journal_for_nothing_of_its_own(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    hall.seen = {ENDPOINT: Seen(in_flight=1)}
    hall.teller.look()
    hall.journal.close()
    again = Hall(tmp_path)
    meter = Meter(again.journal, again.clock, DEFAULT_SITE)
    assert (meter.unheld, meter.untold, meter.open_requests, meter.closed) == (0, 0, 0, 0)
    again.journal.close()


@pytest.fixture
async def bus(nats_server: NatsServer, tmp_path: Path) -> Bus:
    bus = await connected(tmp_path, nats_server.url, "inference-gateway")
    await declare(bus)
    return bus


async def test_demand_without_end_leaves_the_journal_as_it_goes(bus: Bus, tmp_path: Path) -> None:
    hall = Hall(tmp_path / "journal", 16 * 1024)
    draining = asyncio.create_task(hall.journal.drain(bus))
    for number in range(60):
        hall.seen = {ENDPOINT: Seen(in_flight=1 + number % 2 * 9)}
        hall.clock.move(1)
        assert hall.teller.look() == 1
        await until(lambda: not hall.journal.backlog)
    assert hall.journal._next > 100, "they would have filled it twice"
    stored = await bus.last("GATEWAY", f"gateway.demand.changed.{DEFAULT_SITE}.>")
    assert stored is not None
    assert wire.decode(stored.data, DemandChanged).demands[0].in_flight == 10
    draining.cancel()
    await bus.close()
    hall.journal.close()


async def test_who_must_wake_a_model_rings_and_is_told_before_the_next_look(
    here: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "LOOK_EVERY_S", 60.0)
    running = asyncio.create_task(here.teller.run())
    await asyncio.sleep(0)
    here.seen = {ENDPOINT: Seen(queued=1, waking=True)}
    here.teller.ring()
    async with asyncio.timeout(5):
        while not here.facts():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0)
    assert here.facts()[0].demands[0].waking
    running.cancel()
