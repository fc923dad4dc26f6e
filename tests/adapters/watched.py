"""Nodes in a database, and the pulse that watches them, without a bus."""

from types import SimpleNamespace
from typing import Any

from mesh_contracts.carbon import Signal
from mesh_contracts.node import Device, HealthChanged, Heartbeat, NodeJoined, WorkloadStatus
from mesh_contracts.placement import CreateEndpoint, Model, Resources
from meshkit.store import Store
from meshkit.testing import FrozenClock, envelope, test_id, wish
from placement import asks, handlers, reading
from placement.domain.fleet import Placed
from placement.pulse import Pulse
from placement.weighing import Weighing

from tests.adapters.fleet import ADMIN, PROJECT, Site

SITE = "fr-idf-1"


class Hall:
    """A store with nodes, and the pulse that watches them."""

    def __init__(self, store: Store, clock: FrozenClock) -> None:
        self.store, self.clock = store, clock
        self.whole_since: float | None = 0.0
        self.signals: dict[str, Signal] = {}
        signals: Any = SimpleNamespace(values=self.signals)
        weighing = Weighing(SITE, clock, lambda: signals)
        self.pulse = Pulse(SITE, clock, lambda: store, lambda: self.whole_since, weighing)
        self.speaking: dict[str, list[WorkloadStatus]] = {}

    async def join(self, *names: str) -> None:
        for name in names:
            node_id = test_id("node", name)
            device = Device(device_id=f"r-{name}", index=0, model="r", memory_mib=1, rehearsal=True)
            joined = NodeJoined(
                **envelope(node_id),
                node_id=node_id,
                name=name,
                jurisdiction="FR",
                devices=[device],
                memory_mib=2_048,
                cpus=2,
                address="127.0.0.1",
                agent_version="test",
            )
            passed = HealthChanged(
                **envelope(node_id), node_id=node_id, verdict="pass", level="quick", check=0, checks=[]
            )
            async with self.store.transaction() as tx:
                await handlers.on_node_joined(joined, tx, self.clock)
                await handlers.on_health_changed(passed, tx, self.clock)
            self.speaking[node_id] = []

    async def create(self, name: str = "story", resources: Resources | None = None) -> Placed:
        async with self.store.transaction() as tx:
            await handlers.on_project_admitted(Site.admitted(PROJECT, "demo"), tx, self.clock)
            ask = CreateEndpoint(
                **wish(ask_id=test_id("ask", name)),
                name=name,
                project=PROJECT,
                model=Model(id="tiny"),
                resources=resources or Resources(),
            )
            made: Any = await asks.create_endpoint(ask, ADMIN, tx, self.clock)
            return (await reading.load_workloads(tx, made.id))[-1]

    async def pass_(self, seconds: int, *, but: tuple[str, ...] = ()) -> None:
        """Let time pass second by second; all nodes but some speak."""
        silent = {test_id("node", name) for name in but}
        for _ in range(seconds):
            self.clock.move(1)
            for node_id, statuses in self.speaking.items():
                if node_id not in silent:
                    self.pulse.beats.on_heartbeat(
                        Heartbeat(
                            node_id=node_id,
                            at=self.clock.now(),
                            sequence=1,
                            check=0,
                            workloads=statuses,
                        )
                    )
            await self.pulse.tick()

    async def states(self) -> dict[str, str]:
        async with self.store.transaction() as tx:
            return {server.name: server.state for server in await reading.load_fleet(tx, SITE)}

    async def workloads(self, endpoint_id: str) -> list[Placed]:
        async with self.store.transaction() as tx:
            return await reading.load_workloads(tx, endpoint_id)

    async def told(self, tag: str) -> int:
        async with self.store.transaction() as tx:
            return int(await tx.value("SELECT count(*) FROM outbox WHERE subject LIKE $1 || '.%'", tag))
