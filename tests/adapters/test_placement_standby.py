"""Two placements as processes: the second takes over from a first that died or froze, and nothing is done twice."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.ask import Problem
from mesh_contracts.placement import CreateEndpoint, Model, Resources
from meshkit.bus import Bus
from meshkit.declare import declare

from tests.adapters.fleet import PROJECT, TENANT, Node, Site
from tests.adapters.roads import connected, tell, until
from tests.adapters.standby import Asker, Processes, beat, sound
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

TAKEN_OVER_WITHIN_S = 5.0
ASKERS, NODES, GPUS = 4, 3, 8


class Hall:
    """A bus, nodes that are heard, placements, and askers that ask all the while."""

    def __init__(self, bus: Bus, processes: Processes) -> None:
        self.bus, self.processes = bus, processes
        self.nodes = [Node(bus, f"n{number}", gpus=GPUS) for number in range(NODES)]
        self.askers: list[Asker] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        await tell(self.bus, Site.admitted(PROJECT, "demo"))
        for node in self.nodes:
            await node.join()
        self._tasks.append(asyncio.create_task(beat(self.bus, self.nodes)))
        self.askers = [Asker(self.bus, f"a{number}", self.nodes) for number in range(ASKERS)]
        self._asking = [asyncio.create_task(asker.run()) for asker in self.askers]
        await until(lambda: self.answered > 40, within_s=20)

    @property
    def answered(self) -> int:
        return sum(len(asker.answered_at) for asker in self.askers)

    async def longest_gap_s(self, since: float) -> float:
        """Return how long nobody was answered, since then and until answers flow again."""
        before = self.answered
        await until(lambda: self.answered > before + 20, within_s=15)
        moments = [at for asker in self.askers for at in asker.answered_at if at > since]
        moments.sort()
        return max(b - a for a, b in zip([since, *moments], moments, strict=False))

    async def end(self) -> None:
        for asker in self.askers:
            asker.stopping = True
        await asyncio.gather(*self._asking)

    async def sound(self) -> None:
        """Look that all that was answered holds, once everything has come to rest."""
        await self.end()
        await asyncio.sleep(1)
        kept = {key: made for asker in self.askers for key, made in asker.kept.items()}
        await sound(self.processes, self.bus, kept)

    def close(self) -> None:
        for task in (*self._tasks, *self._asking):
            task.cancel()
        self.processes.end()


async def wished(bus: Bus, name: str) -> Any:
    wish = bus.wish(TENANT, timeout_s=15.0, idempotency_key=name)
    ask = CreateEndpoint(
        **wish,
        name=name,
        project="demo",
        model=Model(id="tiny"),
        resources=Resources(memory_mib=1),
    )
    return await bus.ask(ask)


@pytest.fixture
async def hall(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[Hall]:
    bus = await connected(tmp_path, nats_server.url, "inference-gateway")
    await declare(bus)
    hall = Hall(bus, Processes(tmp_path, nats_server.url, postgres.dsn("placement")))
    try:
        yield hall
    finally:
        hall.close()
        await bus.close()


async def test_a_second_placement_stands_by_and_takes_over_from_one_that_was_killed(hall: Hall) -> None:
    first = await hall.processes.start()
    second = await hall.processes.start()
    await hall.begin()
    assert (first.leads(), second.leads()) == (True, False)
    killed_at = time.monotonic()
    first.send(signal.SIGKILL)
    assert await hall.longest_gap_s(killed_at) < TAKEN_OVER_WITHIN_S
    assert second.leads()
    await hall.sound()


async def test_one_that_was_only_frozen_commits_and_puts_nothing_once_it_wakes(hall: Hall) -> None:
    first = await hall.processes.start()
    second = await hall.processes.start()
    await hall.begin()
    frozen_at = time.monotonic()
    first.send(signal.SIGSTOP)
    await until(second.leads, within_s=TAKEN_OVER_WITHIN_S)
    assert time.monotonic() - frozen_at < TAKEN_OVER_WITHIN_S
    # The bus does not know that it is frozen: some of these wait for it to wake.
    patient = [asyncio.create_task(wished(hall.bus, f"patient-{number}")) for number in range(24)]
    before = hall.answered
    await until(lambda: hall.answered > before + 20, within_s=15)
    assert not all(asking.done() for asking in patient)
    first.send(signal.SIGCONT)
    assert await asyncio.to_thread(first.process.wait, 10) == 1
    answers = await asyncio.gather(*patient)
    refused = [answer for answer in answers if isinstance(answer, Problem)]
    assert {answer.status for answer in refused} <= {503, 504}
    assert refused
    before = hall.answered
    await until(lambda: hall.answered > before + 20, within_s=10)
    await hall.sound()


async def test_one_that_is_told_to_stop_hands_over_at_once(hall: Hall) -> None:
    first = await hall.processes.start()
    second = await hall.processes.start()
    await hall.begin()
    told_at = time.monotonic()
    first.send(signal.SIGTERM)
    assert await hall.longest_gap_s(told_at) < TAKEN_OVER_WITHIN_S
    assert await asyncio.to_thread(first.process.wait, 5) == 0
    assert second.leads()
    await hall.sound()
