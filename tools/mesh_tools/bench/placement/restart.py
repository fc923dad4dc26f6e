"""How long placement takes to be back with a full site and a long log behind it.

The log is as a leader leaves it: so many decisions, the newest snapshot as old as it gets before the next
is due, all that follows it to be decided again and compared. What the snapshot covers stands there, too,
as rows of the usual size; a start only passes them over.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import msgspec
from mesh_contracts.units import DEFAULT_SITE
from meshkit.clock import SystemClock
from meshkit.config import Secret
from meshkit.store import Store
from placement import logbook, memory, remembering, sitememory
from placement.app import MIGRATIONS
from placement.domain.engine.engine import Engine
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.wish import Asked, Input, NodePut, Outcome, Placed, Released, Wish
from placement.domain.kept import parts_of
from placement.logbook import Row

from mesh_tools.bench.placement import halls
from mesh_tools.embedded.postgres import Postgres, free_port

SHAPES = (
    Size(gpus=1, memory_mib=1_024),
    Size(gpus=1, memory_mib=1_024),
    Size(gpu_milli=500, memory_mib=512),
    Size(gpus=2, memory_mib=2_048),
    Size(gpus=8, memory_mib=8_192),
)
ENDS = 0.5
"""Of what follows the fill, so much ends what runs; the rest asks for more."""
ROWS_AT_ONCE = 5_000
WRITE_WITHIN_S = 600
STARTS = 3


def restart(
    gpus: int = 45_000, events: int = 1_000_000, *, tail: int = sitememory.SNAPSHOT_EVERY, seed: int = 1
) -> dict[str, Any]:
    """Return how long a start takes until the site's engine is where the log says, and how much it decided again."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        # Postgres, as nobody, must be able to pass through.
        Path(folder).chmod(0o755)
        return asyncio.run(_measure(Path(folder), gpus, events, tail, seed))


async def _measure(folder: Path, gpus: int, events: int, tail: int, seed: int) -> dict[str, Any]:
    postgres = Postgres(folder / "postgres", free_port())
    postgres.prepare()
    postgres.spawn(folder / "postgres.log")
    try:
        await postgres.wait_ready()
        dsn = await postgres.ensure_database("placement")
        wanted = await _write(dsn, gpus, events, tail, seed)
        # The first finds Postgres busy with what was just written.
        runs = [await _started(dsn, wanted) for _ in range(STARTS)]
        best = min(runs)
        return {
            "gpus": gpus,
            "events": events,
            "decided_again": tail,
            "workloads": len(wanted.holdings),
            "seed": seed,
            "took_s": round(best[0], 2),
            "cpu_s": round(best[1], 2),
            "all_took_s": [round(took_s, 2) for took_s, _ in runs],
            "cores": os.cpu_count(),
        }
    finally:
        postgres.stop()


async def _started(dsn: str, wanted: Snapshot) -> tuple[float, float]:
    """Start once; return how long it took, and how much CPU here."""
    began, cpu = time.perf_counter(), time.process_time()
    store = await _opened(dsn)
    await remembering.prepare(lambda: store, DEFAULT_SITE)
    took = time.perf_counter() - began, time.process_time() - cpu
    held = memory.of(store.beside).at(DEFAULT_SITE)
    assert held.engine.snapshot() == wanted, "it is where the log says"
    assert held.differs is None
    await store.close()
    return took


async def _opened(dsn: str) -> Store:
    return await Store.connect(
        Secret(dsn), owner="placement", clock=SystemClock(), migrations=MIGRATIONS
    )


class Churn:
    """A site that is filled, and work that then comes and goes; equal seeds give equal rows of inputs."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)  # noqa: S311 - a benchmark draws the same each time
        self._serial = 0
        self._living: list[str] = []
        self.engine = Engine()

    def fill(self, gpus: int) -> None:
        """Know so many GPUs, and give them away until something finds no room."""
        for spec in halls.servers(gpus):
            self.engine.apply(NodePut(spec=spec))
        while isinstance(self.step(self._ask())[1], Placed):
            pass

    def step(self, given: Input | None = None) -> tuple[Input, Outcome]:
        """Return what came next, and what was decided on it."""
        given = given or self._next()
        outcome = self.engine.apply(given)
        if isinstance(outcome, Placed):
            self._living.append(outcome.workload)
        return given, outcome

    def _next(self) -> Input:
        if self._living and self._chance.random() < ENDS:
            place = self._chance.randrange(len(self._living))
            self._living[place], self._living[-1] = self._living[-1], self._living[place]
            return Released(workload=self._living.pop(), at=self._serial)
        return self._ask()

    def _ask(self) -> Asked:
        self._serial += 1
        wish = Wish(
            workload=f"workload_{self._serial:032x}",
            organization=f"organization_{self._serial % 40:032x}",
            project=f"project_{self._serial % 200:032x}",
            kind="job",
            size=self._chance.choice(SHAPES),
            terms=Terms(jurisdictions=("FR",), tenant=f"organization_{self._serial % 40:032x}"),
        )
        return Asked(wish=wish, at=self._serial)


async def _write(dsn: str, gpus: int, events: int, tail: int, seed: int) -> Snapshot:
    """Write the log; return what the engine is at its end."""
    churn, covered = Churn(seed), events - tail
    churn.fill(gpus)
    state = list(parts_of(churn.engine.snapshot()))
    rows: list[Row] = []
    for number in range(tail):
        given, outcome = churn.step()
        encoded = (msgspec.json.encode(given).decode(), msgspec.json.encode(outcome).decode())
        rows.append(Row(covered + 1 + number, *encoded))
    store = await _opened(dsn)
    async with store.transaction() as tx:
        await logbook.keep_snapshot(tx, DEFAULT_SITE, covered, state)
        for first in range(0, tail, ROWS_AT_ONCE):
            await logbook.write(tx, DEFAULT_SITE, rows[first : first + ROWS_AT_ONCE])
    await store.close()
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "INSERT INTO decision SELECT $1, seq, 1, now(), $2, $3 FROM generate_series(1, $4::bigint) AS seq",
        *(DEFAULT_SITE, rows[0].input, rows[0].outcome, covered),
        timeout=WRITE_WITHIN_S,
    )
    await connection.execute("ANALYZE")
    await connection.close()
    return churn.engine.snapshot()


if __name__ == "__main__":
    print(json.dumps(restart(*(int(one) for one in sys.argv[1:]))))
