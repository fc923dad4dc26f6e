"""What a test may look at inside a running mesh: its engines, its dead letters, its bus as an owner."""

import http.client
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh_contracts.units import DEFAULT_SITE
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Settings, read_secret

from tests.mesh.harness import ROOT, Mesh

MADE = "llamacpp:tokens_predicted_total"


@dataclass(frozen=True)
class Engine:
    """One engine of the built-in kind, as its shim and the kernel know it."""

    workload_id: str
    shim: int
    pid: int
    address: str
    key: str
    embeds: bool

    def tokens_made(self) -> int:
        """Return how many tokens it made since it started, by its own count."""
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", "/metrics", headers={"authorization": f"Bearer {self.key}"})
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        return int(float(next(line.split()[1] for line in lines if line.startswith(MADE))))


def engines(mesh: Mesh) -> list[Engine]:
    """Return the engines that run now and have an address."""
    found = []
    for state in mesh.folder.glob("nodes/*/workloads/*/state"):
        said = dict(line.split("=", 1) for line in state.read_text().splitlines())
        process = Path(f"/proc/{said.get('engine_pid', 'none')}")
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        key = next((one for one in environment if one.startswith(b"ENGINE_API_KEY=")), None)
        if key is None or "address" not in said:
            continue
        found.append(
            Engine(
                workload_id=said["workload_id"],
                shim=int(said["pid"]),
                pid=int(said["engine_pid"]),
                address=said["address"],
                key=key.decode().partition("=")[2],
                embeds=b"--embedding" in command,
            )
        )
    return found


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False


def chat_engine(mesh: Mesh) -> Engine | None:
    """Return the one engine of the chat model, while there is exactly one."""
    chats = [engine for engine in engines(mesh) if not engine.embeds]
    return chats[0] if len(chats) == 1 else None


@asynccontextmanager
async def bus_as(mesh: Mesh, user: str) -> AsyncIterator[Bus]:
    """Give the mesh's bus, connected as one of its owners."""
    keys = mesh.folder / "keys"
    secret = keys / "mesh.secret"
    settings = Settings(
        nats_url=mesh.ready["nats_url"],
        nats_credentials=keys / f"{user}.nk",
        mesh_secret_file=secret,
        mesh_site=DEFAULT_SITE,
    )
    bus = await Bus.connect(settings, user=user, clock=SystemClock(), secret=read_secret(secret))
    try:
        yield bus
    finally:
        await bus.close()


def command(mesh: Mesh, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a ``mesh`` command of the operator's."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "mesh_tools", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "MESH_URL": mesh.url,
            "MESH_API_KEY": mesh.ready["admin_key"],
        },
    )


def dead_letters(mesh: Mesh, owner: str) -> list[dict[str, Any]]:
    """Return what ``mesh dead-letter list`` shows of an owner."""
    done = command(mesh, "dead-letter", "list", "--owner", owner, "--json")
    assert done.returncode == 0, done.stderr
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items


def complaints(mesh: Mesh, *names: str) -> list[str]:
    """Return every line with a traceback in the logs of these services."""
    found = []
    for name in names:
        lines = (mesh.folder / "run" / f"{name}.log").read_text().splitlines()
        found += [f"{name}: {line[-600:]}" for line in lines if "Traceback" in line]
    return found
