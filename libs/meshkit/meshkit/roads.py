"""The roads of a service with a database: what it tells leaves by them, what it reads comes in."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from mesh_contracts.fact import Fact, stream_of
from mesh_contracts.streams import consumers

from meshkit import rebuilding
from meshkit.bus import Bus
from meshkit.handled import FactHandler, Handled
from meshkit.keeping import keep_house
from meshkit.reading import Reading
from meshkit.redrive import DeadLetterDoor
from meshkit.relay import Relay
from meshkit.store import Store
from meshkit.tasks import Supervised
from meshkit.transaction import Transaction
from meshkit.trimming import keep_room

Snapshot = Callable[[Transaction], Awaitable[Mapping[str, msgspec.Struct]]]

READERS_STOP_WITHIN_S: Final = 2.5
RELAY_STOP_WITHIN_S: Final = 1.0
LOOK_EVERY_S: Final = 1.0
"""How often it is looked whether the database still answers."""


class Roads:
    """One service's relay, readers and housekeeping, among its other tasks."""

    def __init__(self, owner: str, store: Store, bus: Bus, tasks: Supervised) -> None:
        self._owner = owner
        self._store = store
        self._bus = bus
        self._tasks = tasks
        self._readings: list[Reading] = []
        self._relay: Relay | None = None
        self.away: str | None = None
        """That the database does not answer, as it was looked last."""

    @property
    def relay(self) -> Relay:
        """The relay, once the roads are open."""
        assert self._relay is not None, "the roads are not open"
        return self._relay

    def watch(self) -> None:
        """Begin to look whether the database answers."""
        self._tasks.begin("store's pulse", self._look)

    def open(
        self, reads: Mapping[type[Fact], FactHandler], writes: Mapping[str, Snapshot]
    ) -> DeadLetterDoor:
        """Begin to relay and to read; return the door to what could not be handled."""

        async def rebuild(relay: Relay) -> None:
            for name, snapshot in writes.items():
                await rebuilding.put_difference(self._store, relay.writer(name), name, snapshot)

        relay = self._relay = Relay(self._store, self._bus, rebuild=rebuild)
        self._tasks.begin("relay", relay.run)
        known = {}
        for spec in consumers():
            handlers: dict[type[Fact], Any] = {
                kind: handler for kind, handler in reads.items() if stream_of(kind) == spec.stream
            }
            if spec.reader != self._owner or not handlers:
                continue
            known[spec.name] = handled = Handled(spec.name, self._store, handlers)
            reading = Reading(self._bus, spec, handled)
            self._readings.append(reading)
            self._tasks.begin(f"reader {spec.name}", reading.run)
        self._tasks.begin("housekeeping", lambda: keep_house(self._store))
        self._tasks.begin("room", lambda: keep_room(self._bus, self._owner))
        return DeadLetterDoor(known)

    async def close(self) -> None:
        """Finish the transactions at work, then send what they told."""
        for reading in self._readings:
            reading.stop()
        await self._tasks.finish("reader", READERS_STOP_WITHIN_S)
        if self._relay is not None:
            self._relay.stop()
            await self._tasks.finish("relay", RELAY_STOP_WITHIN_S)

    async def _look(self) -> None:
        while True:
            try:
                await self._store.look()
                self.away = None
            except Exception as fault:  # noqa: BLE001 - whatever it is, it is said
                self.away = f"the database does not answer: {type(fault).__name__}"
            await asyncio.sleep(LOOK_EVERY_S)
