"""What the tests of the road of a fact share: a bus, a store, and readers whose effects are a table."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh_contracts.fact import Fact
from mesh_contracts.identity import NodeEnrolled, ProjectAdmitted
from mesh_contracts.streams import consumers
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.declare import declare
from meshkit.handled import Handled
from meshkit.reading import Reading
from meshkit.store import Store, Transaction

from tests.adapters.roads import connected, opened
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

PLACEMENT = next(spec for spec in consumers() if spec.name == "placement_IDENTITY_00")
READER = PLACEMENT.name


class Effects:
    """A handler that writes each fact it handles into a table, and does as it is told."""

    def __init__(self) -> None:
        self.seen: list[Fact] = []
        self.on: Callable[[Fact], Awaitable[None]] | None = None

    async def __call__(self, fact: Any, tx: Transaction, _clock: Clock) -> None:
        self.seen.append(fact)
        if self.on is not None:
            await self.on(fact)
        await tx.change("INSERT INTO effect (fact_id, key, version) VALUES ($1, $2, $3)", *_row(fact))


def _row(fact: Fact) -> tuple[str, str, int]:
    return fact.fact_id, fact.key, fact.version


class World:
    """A bus, a store and the readers that a test opens."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self.bus, self.store = bus, store
        self._readings: list[tuple[Reading, asyncio.Task[None]]] = []

    def read(
        self, effects: Effects, kinds: tuple[type[Fact], ...] = (ProjectAdmitted, NodeEnrolled)
    ) -> Reading:
        handled = Handled(READER, self.store, dict.fromkeys(kinds, effects))
        reading = Reading(self.bus, PLACEMENT, handled)
        self._readings.append((reading, asyncio.create_task(reading.run())))
        return reading

    async def end(self, reading: Reading) -> None:
        reading.stop()
        for known, task in self._readings:
            if known is reading:
                await asyncio.wait_for(task, 5)

    async def kill(self, reading: Reading) -> None:
        """End a reader in the middle, as a kill would: nothing is given back."""
        for known, task in self._readings:
            if known is reading:
                task.cancel()
                await asyncio.wait({task})

    async def close(self) -> None:
        for reading, task in self._readings:
            reading.stop()
            await asyncio.wait({task}, timeout=5)

    async def effects(self) -> list[tuple[str, int]]:
        async with self.store.transaction() as tx:
            rows = await tx.rows("SELECT key, version FROM effect ORDER BY at, version")
        return [(row["key"], row["version"]) for row in rows]

    async def count(self) -> int:
        async with self.store.transaction() as tx:
            counted: int = await tx.value("SELECT count(*) FROM effect")
        return counted

    async def letters(self) -> list[dict[str, Any]]:
        async with self.store.transaction() as tx:
            return await tx.rows("SELECT * FROM dead_letter ORDER BY id")


@asynccontextmanager
async def hearing(
    nats_server: NatsServer, postgres: PostgresServer, folder: Path
) -> AsyncIterator[World]:
    """Yield a world that nobody reads in yet."""
    bus = await connected(folder, nats_server.url, "placement")
    await declare(bus)
    store = await opened(postgres.dsn("placement"), "placement")
    async with store.transaction() as tx:
        await tx.change(
            "CREATE TABLE effect (fact_id text PRIMARY KEY, key text, version bigint, at bigserial)"
        )
    world = World(bus, store)
    yield world
    await world.close()
    await bus.close()
    await store.close()
