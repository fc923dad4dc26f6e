"""Whatever sixteen callers ask of two placements, and whatever befalls these: nothing is given twice, lost or left.

``MESH_ANY_SEED`` draws otherwise; ``MESH_ANY_OPERATIONS`` and ``MESH_ANY_MINUTES`` bound the full-size proof, and
``MESH_ANY_MIX`` names what is asked in it: ``crowded``, or ``brisk`` (``any_mixes``).
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from mesh_contracts.placement import Intent
from meshkit.bucket import Watched
from meshkit.declare import declare

from tests.adapters.any_agents import Agents
from tests.adapters.any_callers import Caller
from tests.adapters.any_ends import agree, answered, write_down
from tests.adapters.any_faults import Trouble
from tests.adapters.any_kept import Kept
from tests.adapters.any_looks import Looks
from tests.adapters.any_mixes import MIXES
from tests.adapters.any_world import CALLERS, build, world
from tests.adapters.roads import connected
from tests.adapters.standby import BUCKETS, Processes, one_writer
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("MESH_ANY_SEED", "20261126"))
OPERATIONS = int(os.environ.get("MESH_ANY_OPERATIONS", "1000000"))
MINUTES = float(os.environ.get("MESH_ANY_MINUTES", "30"))
MIX = os.environ.get("MESH_ANY_MIX", "crowded")
LOOK_EVERY_S, AGREE_EVERY = 1.0, 5
"""Seconds from look to look; looks from one comparison of the log with the tables to the next."""
FAULTS_MAX = 5
"""Faults after which nobody asks any more."""
SETTLE_S = 2.0


class Run:
    """Callers, agents, trouble and looks, all at the same time."""

    def __init__(self, folder: Path, url: str, dsn: str, seed: int, mix: str = "crowded") -> None:
        self._folder, self._url, self._mix = folder, url, mix
        self.processes = Processes(folder, url, dsn)
        self.seed, self.kept, self.faults = seed, Kept(), list[str]()
        self.took_s = 0.0

    async def go(self, operations: int, *, within_s: float, large: bool) -> None:
        """Have so many operations asked for, or as many as there is time for; find ``faults``."""
        bus = await connected(self._folder, self._url, "inference-gateway")
        await declare(bus)
        try:
            for _ in range(2):
                await self.processes.start()
            nodes = await build(bus)
            intents = await Watched[Intent].open(bus, "intents")
            async with self.processes.store("onlooker") as store:
                self.looks, self.trouble = Looks(store), Trouble(self.processes, store, self.seed)
                agents = Agents(nodes, intents.values, self.seed, 30.0 if large else 4.0)
                async with (
                    _beside(self.trouble.keep_two()),
                    _beside(agents.run()),
                    _beside(self._look(agents)),
                    _beside(agents.silences(5, 60) if large else agents.silences(12, 14)),
                ):
                    await self._ask(bus, nodes, operations, within_s, large=large)
                    await asyncio.sleep(SETTLE_S)
                await self.looks.look()
                self.faults += self.looks.faults + agents.faults() + self.kept.faults
                # All that was decided is decided again here, from the first decision or a snapshot on.
                self.faults += await agree(store) + await answered(store, self.kept)
                if self.faults:
                    await write_down(store, self._folder / "decisions")
            for bucket in BUCKETS:
                await one_writer(bus, bucket)
            await intents.close()
        finally:
            self.processes.end()
            await bus.close()

    async def _ask(
        self, bus: Any, nodes: Any, operations: int, within_s: float, *, large: bool
    ) -> None:
        began = time.monotonic()

        def goes_on() -> bool:
            late = time.monotonic() - began > within_s
            return self.kept.asked < operations and not late and len(self.faults) < FAULTS_MAX

        there = world(nodes, within_s)
        mix = MIXES[self._mix]
        callers = [Caller(bus, there, self.kept, one, self.seed, mix) for one in range(CALLERS)]
        async with asyncio.TaskGroup() as asking:
            for caller in callers:
                asking.create_task(caller.run(goes_on))
            if large:
                async with _beside(self.trouble.any(5, 60)):
                    while goes_on():  # noqa: ASYNC110 - nobody announces it
                        await asyncio.sleep(LOOK_EVERY_S)
            else:
                for at, happens in (
                    (0.1, self.trouble.end_sessions),
                    (0.3, self.trouble.freeze),
                    (0.5, self.trouble.end_sessions),
                    (0.7, self.trouble.kill),
                ):
                    while self.kept.asked < at * operations and goes_on():  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                    await happens()
        self.took_s = time.monotonic() - began

    async def _look(self, agents: Agents) -> None:
        """Look each second, and now and then whether the log says the same as the tables."""
        async with self.processes.store("follower") as store:
            while True:
                await self.looks.look()
                differ = await agree(store) if self.looks.count % AGREE_EVERY == 0 else []
                self.faults = [*self.faults, *differ]
                if len(self.looks.faults) + len(self.kept.faults) + len(agents.faults()) > FAULTS_MAX:
                    self.faults += ["too much is wrong to go on"] * (FAULTS_MAX - len(self.faults))
                await asyncio.sleep(LOOK_EVERY_S)

    def logs(self) -> str:
        return "\n".join(one.log.read_text() for one in self.processes.all)

    def figures(self) -> str:
        kept, trouble = self.kept, self.trouble
        return (
            f"\nplacement, whatever is asked: seed {self.seed} {self._mix}, {kept.asked} operations of {CALLERS} callers in"
            f" {self.took_s:.1f} s ({kept.asked / max(self.took_s, 0.1):.1f} a second), {self.looks.seq} decisions"
            f", {self.looks.count} looks ({self.looks.above_cap} above a cap and"
            f" {self.looks.above_limit} above a limit set below what was held), {dict(trouble.made)},"
            f" taken over within {max(trouble.took_over_s, default=0):.1f} s, exit codes {dict(trouble.codes)}\n"
        )


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have something go on meanwhile; where it fails, so does all beside it, at once."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


async def sound(run: Run, operations: int, within_s: float, *, large: bool) -> None:
    await run.go(operations, within_s=within_s, large=large)
    sys.stdout.write(
        run.figures()
        + "".join(f"{count:7} {what}\n" for what, count in sorted(run.kept.answers.items()))
    )
    assert not run.faults, "\n".join(run.faults[:20])
    assert "otherwise" not in run.logs()


def test_whatever_is_asked_and_befalls_nothing_is_given_twice_lost_or_left(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    run = Run(tmp_path, nats_server.url, postgres.dsn("placement"), SEED)
    uvloop.run(sound(run, 600, 25.0, large=False))


@pytest.mark.long
@pytest.mark.timeout(MINUTES * 60 + 600)
def test_a_million_operations_and_all_that_befalls_lose_and_double_nothing(
    nats_server: NatsServer,
    postgres: PostgresServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(tmp_path, nats_server.url, postgres.dsn("placement"), SEED, MIX)
    uvloop.run(sound(run, OPERATIONS, MINUTES * 60, large=True))
    with capsys.disabled():
        sys.stdout.write(run.figures())
