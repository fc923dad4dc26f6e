"""Placement as a whole service, and nodes that say what a test wants them to say."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from mesh_contracts import wire
from mesh_contracts.ask import Principal
from mesh_contracts.fact import Fact, tag_of
from mesh_contracts.identity import NodeEnrolled, ProjectAdmitted
from mesh_contracts.node import (
    Check,
    Device,
    HealthChanged,
    Heartbeat,
    NodeJoined,
    WorkloadFailed,
    WorkloadReady,
    WorkloadStarted,
    WorkloadStatus,
    WorkloadStopped,
)
from mesh_contracts.placement import (
    CreateEndpoint,
    Endpoint,
    GetEndpoint,
    GetNode,
    Intent,
    Model,
    Route,
)
from meshkit.bucket import Entry
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.declare import declare
from meshkit.service import Service
from meshkit.testing import envelope, test_id
from placement.app import PlacementSettings, assemble

from tests.adapters.roads import connected, settings, tell

LOOK_AGAIN_S = 0.01
"""Without a pause whoever looks takes the core from what it waits for."""

ORGANIZATION = test_id("organization", "acme")
PROJECT = test_id("project", "acme/demo")
OTHER = test_id("project", "acme/other")


def principal(role: str = "admin", project: str | None = None) -> Principal:
    return Principal(
        principal_id=f"{role}-{project}",
        role=role,
        organization=ORGANIZATION if project else None,
        project=project,
        expires_at=SystemClock().now() + timedelta(hours=1),
    )


ADMIN = principal()
TENANT = principal("project", PROJECT)
STRANGER = principal("project", OTHER)


async def eventually(look: Callable[[], Awaitable[Any]], within_s: float = 8.0) -> Any:
    """Return what ``look`` gives once it is true. It is asked again and again."""
    end = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < end, f"it did not come true; last seen: {found!r}"
        await asyncio.sleep(LOOK_AGAIN_S)
    return found


class Node:
    """A node's agent as placement hears it: it tells what the test has it tell."""

    def __init__(
        self,
        bus: Bus,
        name: str,
        gpus: int = 1,
        jurisdiction: str = "FR",
        mig: tuple[int, ...] = (),
        **joins: Any,
    ) -> None:
        self.bus, self.name, self.gpus, self.joins = bus, name, gpus, joins
        self.mig = mig
        self.jurisdiction = jurisdiction
        self.id = test_id("node", name)
        self._versions = count(1)

    def _born(self) -> dict[str, Any]:
        now = SystemClock().now()
        return envelope(self.id, version=next(self._versions), occurred_at=now, recorded_at=now)

    async def join(self, verdict: str = "pass") -> None:
        enrolled = NodeEnrolled(**envelope(self.id), node_id=self.id, name=self.name, public_key="U")
        await tell(self.bus, enrolled)
        await self.start()
        await self.check(verdict)

    async def start(self) -> None:
        devices = [
            Device(
                device_id=f"rehearsal-{self.name}-{n}",
                index=n,
                model="rehearsal",
                memory_mib=1,
                rehearsal=True,
                mig=n in self.mig,
            )
            for n in range(self.gpus)
        ]
        await tell(
            self.bus,
            NodeJoined(
                **self._born(),
                node_id=self.id,
                name=self.name,
                jurisdiction=self.jurisdiction,
                devices=devices,
                memory_mib=2_048,
                cpus=2,
                address="127.0.0.1",
                agent_version="test",
                **self.joins,
            ),
        )

    async def check(self, verdict: str = "pass", number: int = 0) -> None:
        check = Check(
            name="gemm",
            device_id=f"rehearsal-{self.name}-0",
            verdict=verdict,
            backend="numpy",
            rehearsal=True,
            took_ms=3,
            detail="exact" if verdict == "pass" else "wrong product",
            evidence={} if verdict == "pass" else {"row": 17},
        )
        await tell(
            self.bus,
            HealthChanged(
                **self._born(),
                node_id=self.id,
                verdict=verdict,
                level="quick",
                check=number,
                checks=[check],
            ),
        )

    async def started(self, workload_id: str) -> None:
        await tell(self.bus, WorkloadStarted(**self._born(), node_id=self.id, workload_id=workload_id))

    async def ready(self, workload_id: str, port: int = 4_000, console: str | None = None) -> None:
        at = {"address": f"127.0.0.1:{port}", "console": console}
        fact = WorkloadReady(**self._born(), node_id=self.id, workload_id=workload_id, **at)
        await tell(self.bus, fact)

    async def failed(self, workload_id: str) -> None:
        born = self._born()
        await tell(
            self.bus,
            WorkloadFailed(
                **born, node_id=self.id, workload_id=workload_id, reason="killed", exit_code=-9
            ),
        )

    async def stopped(self, workload_id: str, **fields: Any) -> None:
        born = self._born()
        await tell(
            self.bus, WorkloadStopped(**born, node_id=self.id, workload_id=workload_id, **fields)
        )

    def beat(self, *statuses: WorkloadStatus) -> Heartbeat:
        return Heartbeat(
            node_id=self.id, at=SystemClock().now(), sequence=1, check=0, workloads=list(statuses)
        )


class Site:
    """A bus, placement, and whoever asks it."""

    def __init__(self, bus: Bus, service: Service) -> None:
        self.bus, self.service = bus, service

    @classmethod
    async def open(cls, folder: Path, url: str, dsn: str) -> "Site":
        bus = await connected(folder, url, "inference-gateway")
        await declare(bus)
        service = assemble(settings(folder, url, dsn, PlacementSettings))
        await service.start()
        site = cls(bus, service)
        await tell(
            bus,
            *(site.admitted(project, name) for project, name in ((PROJECT, "demo"), (OTHER, "other"))),
        )
        return site

    async def close(self) -> None:
        await self.service.stop()
        await self.bus.close()

    @staticmethod
    def admitted(project: str, name: str) -> ProjectAdmitted:
        born = envelope(project, organization=ORGANIZATION, project=project)
        return ProjectAdmitted(**born, name=name, organization_name="acme")

    async def node(self, name: str, **fields: Any) -> Node:
        node = Node(self.bus, name, **fields)
        await node.join()
        return node

    async def ask(
        self, kind: Any, who: Principal = ADMIN, *, key: str | None = None, **fields: Any
    ) -> Any:
        return await self.bus.ask(kind(**self.bus.wish(who, idempotency_key=key), **fields))

    async def create(self, who: Principal = TENANT, *, key: str | None = None, **fields: Any) -> Any:
        wished = {"name": "story", "project": "demo", "model": Model(id="tiny"), **fields}
        return await self.ask(CreateEndpoint, who, key=key, **wished)

    async def intent(self, node: Node) -> Intent:
        return await self._value("intents", node.id, Intent) or Intent(node_id=node.id)

    async def route(self, endpoint_id: str) -> Route | None:
        route: Route | None = await self._value("routes", endpoint_id, Route)
        return route

    async def running(self, *nodes: Node) -> dict[str, list[str]]:
        """Return the workloads that each node should run, by its name."""
        intents = {node.name: await self.intent(node) for node in nodes}
        return {
            name: [item.workload_id for item in intent.workloads] for name, intent in intents.items()
        }

    async def told(self, kind: type[Fact]) -> list[Any]:
        """Return the facts of one type that placement told, in order."""
        found, sequence = [], 1
        while (stored := await self.bus.at("PLACEMENT", sequence)) is not None:
            sequence = stored.sequence + 1
            if wire.tag_in(stored.data) == tag_of(kind):
                found.append(wire.decode(stored.data, kind))
        return found

    async def _value(self, bucket: str, key: str, kind: Any) -> Any:
        stored = await self.bus.last(f"KV_{bucket}", f"$KV.{bucket}.{key}")
        if stored is None or not stored.data:
            return None
        value = msgspec.json.decode(stored.data, type=Entry).value
        return None if bytes(value) == b"null" else wire.decode(bytes(value), kind)


async def state_of(site: Site, name: str = "story") -> Endpoint:
    found = await site.ask(GetEndpoint, TENANT, endpoint=name)
    assert isinstance(found, Endpoint), found
    return found


async def node_is(site: Site, node: Node, state: str) -> Any:
    async def look() -> Any:
        found = await site.ask(GetNode, node=node.name)
        return found if getattr(found, "state", None) == state else None

    return await eventually(look)


async def serving(site: Site, node: Node, **fields: Any) -> tuple[Endpoint, str]:
    """Return an endpoint that serves from one replica on ``node``, and that replica's id."""
    made = await site.create(**fields)
    assert isinstance(made, Endpoint), made
    [workload] = [item.id for item in made.workloads]
    await node.ready(workload)

    async def look() -> bool:
        route = await site.route(made.id)
        return bool(route and route.replicas)

    await eventually(look)
    return await state_of(site), workload
