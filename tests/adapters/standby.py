"""Placement as processes of their own, and somebody who never stops asking them for endpoints."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from mesh_contracts import wire
from mesh_contracts.ask import Problem
from mesh_contracts.placement import CreateEndpoint, DeleteEndpoint, Model, Replicas, Resources
from meshkit.bucket import Entry
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Secret
from meshkit.store import Store
from placement import memory, reading
from placement.app import MIGRATIONS

from tests.adapters.fleet import TENANT, Node
from tests.adapters.roads import settings, until
from tests.servers_nats import free_port

SITE = "fr-idf-1"
BUCKETS = ("intents", "routes")


class Placement:
    """One process of placement."""

    def __init__(self, folder: Path, url: str, dsn: str, number: int) -> None:
        self.port = free_port()
        self.log = folder / f"placement-{number}.log"
        told = settings(folder, url, dsn)
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "NATS_URL": url,
            "NATS_CREDENTIALS": str(told.nats_credentials),
            "MESH_SECRET_FILE": str(told.mesh_secret_file),
            "POSTGRES_DSN": dsn,
            "MESH_OPS_PORT": str(self.port),
        }
        with self.log.open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "placement"], env=environ, stdout=said, stderr=said
            )

    def ready(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/readyz"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
        return False

    def leads(self) -> bool:
        return "leads in epoch" in self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


class Processes:
    """As many placements on one bus and one database as are started."""

    def __init__(self, folder: Path, url: str, dsn: str) -> None:
        self._folder, self._url, self._dsn = folder, url, dsn
        self.all: list[Placement] = []

    def spawn(self) -> Placement:
        """Return one more, ready or not."""
        one = Placement(self._folder, self._url, self._dsn, len(self.all))
        self.all.append(one)
        return one

    async def start(self) -> Placement:
        """Return one more, once it is ready: to serve, or to stand by."""
        one = self.spawn()
        await until(one.ready, within_s=30)
        return one

    def end(self) -> None:
        for one in self.all:
            one.end()

    @contextlib.asynccontextmanager
    async def store(self, owner: str = "placement") -> AsyncIterator[Store]:
        """Look into the database, as nobody in particular."""
        store = await Store.connect(
            Secret(self._dsn), owner=owner, clock=SystemClock(), migrations=MIGRATIONS
        )
        try:
            yield store
        finally:
            await store.close()


async def beat(bus: Bus, nodes: Sequence[Node]) -> None:
    """Have nodes be heard, until cancelled."""
    while True:
        for node in nodes:
            bus.send(f"sample.agent.heartbeat.{SITE}.{node.id}", wire.encode(node.beat()))
        await asyncio.sleep(1)


async def sound(processes: Processes, bus: Bus, kept: Mapping[str, Any]) -> None:
    """Hold tables, log and buckets against each other, and against what was answered."""
    async with processes.store() as store, store.transaction() as tx:
        # Made anew from the log alone; whatever comes out otherwise would be said. Nothing changes meanwhile.
        held = await memory.hold(tx, SITE)
        running = {item.workload_id: item for item in await reading.load_running(tx)}
        devices = await tx.rows("SELECT node_id, device_id, taken_milli FROM device")
        epochs = [row["epoch"] for row in await tx.rows("SELECT epoch FROM decision ORDER BY seq")]
    assert memory.of(store.beside).trouble() is None
    assert epochs == sorted(epochs)
    seats = {name: held.engine.seats(one.parts) for name, one in held.engine.holdings.items()}
    assert {name: item.node_id for name, item in running.items()} == {
        name: one[0].node for name, one in seats.items()
    }
    cards = [(seat.node, card) for one in seats.values() for seat in one for card in seat.cards]
    assert len(cards) == len(set(cards)), "no GPU is given twice"
    taken = Counter((item.node_id, one.device_id) for item in running.values() for one in item.devices)
    assert {(row["node_id"], row["device_id"]) for row in devices if row["taken_milli"]} == set(taken)
    assert set(taken.values()) <= {1}
    for endpoint in kept.values():
        assert [item.id for item in endpoint.workloads if item.id not in running] == []
    for bucket in BUCKETS:
        await one_writer(bus, bucket)


async def one_writer(bus: Bus, bucket: str) -> None:
    """Look that nothing in a bucket was put by an older writer after the last had begun."""
    claim = await bus.last(f"KV_{bucket}", f"$KV.{bucket}._epoch")
    assert claim is not None
    latest = msgspec.json.decode(claim.data, type=Entry).epoch
    sequence = claim.sequence + 1
    while (stored := await bus.at(f"KV_{bucket}", sequence)) is not None:
        assert msgspec.json.decode(stored.data, type=Entry).epoch == latest, stored.subject
        sequence = stored.sequence + 1


class Asker:
    """Creates and deletes endpoints of one GPU, one ask after the other, each until it is answered."""

    def __init__(self, bus: Bus, name: str, nodes: Sequence[Node]) -> None:
        self._bus, self._name = bus, name
        self._nodes = {node.id: node for node in nodes}
        self.kept: dict[str, Any] = {}
        self.gone: list[str] = []
        self.answered_at: list[float] = []
        self._serial = 0
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            self._serial += 1
            made = await self._until_answered(
                CreateEndpoint,
                name=f"{self._name}-{self._serial}",
                project="demo",
                model=Model(id="tiny"),
                replicas=Replicas(min=1, max=1),
                resources=Resources(gpus=1, memory_mib=1),
            )
            if made is None:
                return
            self.kept[made.id] = made
            if len(self.kept) > 3:
                first = self.kept.pop(next(iter(self.kept)))
                if await self._until_answered(DeleteEndpoint, endpoint=first.id) is None:
                    return
                for workload in first.workloads:
                    await self._nodes[workload.node_id].stopped(workload.id)
                self.gone.append(first.id)

    async def _until_answered(self, kind: Any, **fields: Any) -> Any:
        """Ask with one key until there is an answer that is not "not now"."""
        key = f"{self._name}/{kind.__name__}/{self._serial}"
        while not self.stopping:
            wish = self._bus.wish(TENANT, timeout_s=1.0, idempotency_key=key)
            answer = await self._bus.ask(kind(**wish, **fields))
            if not isinstance(answer, Problem):
                self.answered_at.append(time.monotonic())
                return answer
            assert answer.status in {503, 504}, answer
            await asyncio.sleep(0.05)
        return None
