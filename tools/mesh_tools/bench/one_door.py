"""A door of its own for a benchmark: a bus, the buckets that the door reads, a key, and one gateway process."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh_contracts.identity import AccessEntry
from mesh_contracts.keytext import BASE62, access_key_of, digest_of, key_text
from mesh_contracts.placement import Replica, Route
from mesh_contracts.units import new_id
from meshkit.bucket import BucketWriter
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Secret, Settings
from meshkit.declare import declare

from mesh_tools.bench.caller import models
from mesh_tools.embedded.nats import Nats
from mesh_tools.up.layout import keep_ports

READY_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0
LOOKED_EVERY_S = 0.02
BUCKETS = ("access", "routes", "limits")


class OneDoor:
    """Where the door is, with which key, and a way to put routes."""

    def __init__(self, bus: Bus, port: int) -> None:
        self._bus = bus
        self.port = port
        self.key = key_text("project", "".join(secrets.choice(BASE62) for _ in range(30)))
        self._organization, self._project = new_id("organization"), new_id("project")
        self._writers: dict[str, BucketWriter] = {}

    async def open(self) -> None:
        """Write the key; begin every bucket."""
        for bucket in BUCKETS:
            self._writers[bucket] = BucketWriter(self._bus, bucket, epoch=1)
            await self._writers[bucket].start()
        entry = AccessEntry(
            key_id=new_id("key"),
            role="project",
            organization=self._organization,
            project=self._project,
            project_name="bench",
        )
        await self._writers["access"].put(access_key_of(digest_of(self.key)), entry)

    async def close(self) -> None:
        """End every bucket."""
        for writer in self._writers.values():
            await writer.close()

    async def serve(self, name: str, addresses: Sequence[str], **fields: Any) -> None:
        """Put a route to these engines; return once the door knows the model."""
        replicas = [
            Replica(workload_id=new_id("workload"), address=address, api_key="bench")
            for address in addresses
        ]
        route = Route(
            endpoint_id=new_id("endpoint"),
            organization=self._organization,
            project=self._project,
            name=name,
            engine="vllm",
            model_id=name,
            created_at=SystemClock().now(),
            replicas=replicas,
            **fields,
        )
        await self._writers["routes"].put(route.endpoint_id, route)
        async with asyncio.timeout(READY_WITHIN_S):
            while name not in await models(self.port, self.key):  # noqa: ASYNC110 a benchmark may poll
                await asyncio.sleep(LOOKED_EVERY_S)


@asynccontextmanager
async def one_door(folder: Path) -> AsyncIterator[OneDoor]:
    """Run a bus and a gateway in ``folder`` for the length of a block."""
    ports = keep_ports(folder / "ports.json", ["nats", "gateway"])
    nats = Nats(folder / "nats", ports["nats"])
    nats.prepare(f'listen: "127.0.0.1:{nats.port}"\njetstream {{ store_dir: "{nats.store}" }}\n')
    nats.spawn(folder / "nats.log")
    try:
        await nats.wait_ready()
        secret = folder / "secret"
        secret.write_text("a secret of this benchmark")
        nobody = Path(os.devnull)
        settings = Settings(nats_url=nats.url, nats_credentials=nobody, mesh_secret_file=secret)
        bus = await Bus.connect(settings, user="admin", clock=SystemClock(), secret=Secret("bench"))
        try:
            await declare(bus)
            door = OneDoor(bus, ports["gateway"])
            await door.open()
            environment = {
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "NATS_URL": nats.url,
                "NATS_CREDENTIALS": str(nobody),
                "MESH_SECRET_FILE": str(secret),
                "GATEWAY_DATA_DIR": str(folder / "gateway"),
                "GATEWAY_PORT": str(door.port),
            }
            async with _gateway(folder, environment):
                yield door
            await door.close()
        finally:
            await bus.close()
    finally:
        nats.stop()


@asynccontextmanager
async def _gateway(folder: Path, environment: dict[str, str]) -> AsyncIterator[None]:
    with (folder / "gateway.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "inference_gateway"), env=environment, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()
