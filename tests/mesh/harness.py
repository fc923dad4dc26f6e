"""A whole mesh for tests: ``mesh up`` in a folder of its own, its callers, its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mesh_tools.demo.client import Client

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0

T = TypeVar("T")


def until(what: str, seconds: float, look: Callable[[], T | None]) -> T:
    """Return what ``look`` sees once it sees something; fail after ``seconds``."""
    last = time.monotonic() + seconds
    while True:
        try:
            seen = look()
        except (OSError, AssertionError) as fault:
            seen, said = None, f" ({type(fault).__name__}: {fault})"
        else:
            said = ""
        if seen is not None:
            return seen
        assert time.monotonic() < last, f"not within {seconds:g} s: {what}{said}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mesh:
    """A running ``mesh up``."""

    def __init__(self, folder: Path, up: subprocess.Popen[str], ready_file: Path) -> None:
        self.folder = folder
        self.up = up
        self.ready_file = ready_file

    @property
    def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ready_file.read_text())
        return found

    @property
    def url(self) -> str:
        return str(self.ready["gateway"])

    @property
    def operator(self) -> Client:
        return Client(self.url, self.ready["admin_key"])

    @property
    def tenant(self) -> Client:
        return Client(self.url, self.ready["project_key"])

    def pids(self, name: str) -> list[int]:
        return [int(pid) for pid in self.ready["pids"][name]]

    def kill(self, name: str, sent: signal.Signals = signal.SIGKILL) -> list[int]:
        """Send ``sent`` to all processes of a name; return their ids."""
        killed = self.pids(name)
        for pid in killed:
            os.kill(pid, sent)
        return killed

    def wait_restarted(self, name: str, killed: list[int], seconds: float = 20.0) -> None:
        """Wait until other processes stand in their place."""

        def look() -> bool | None:
            return True if self.pids(name) and not set(self.pids(name)) & set(killed) else None

        until(f"{name} is restarted", seconds, look)

    def project(self, name: str) -> tuple[dict[str, Any], Client]:
        """Make an organization and a project of one name; return the project and its caller."""
        self.operator.post("/api/v1/organizations", {"name": name})
        project = self.operator.post("/api/v1/projects", {"organization": name, "name": name}).body
        issued = self.operator.post(
            "/api/v1/keys", {"name": f"{name}-key", "project": project["id"]}
        ).body

        def known() -> Client | None:
            caller = Client(self.url, issued["secret"])
            return caller if caller.call("GET", "/v1/models").status == 200 else None

        return project, until("the new key opens the door", 5.0, known)

    def deploy(self, caller: Client, name: str, project: str, **more: Any) -> dict[str, Any]:
        """Deploy the tiny model under ``name`` and wait until it serves."""
        wish = {
            "name": name,
            "project": project,
            "model": {"id": "tiny", "source": "builtin"},
            "engine": {"kind": "llama"},
            "replicas": {"min": 1, "max": 1},
            "resources": {"memory_mib": 256},
            **more,
        }
        made = caller.post("/api/v1/endpoints", wish).body

        def serving() -> dict[str, Any] | None:
            endpoint: dict[str, Any] = caller.get(f"/api/v1/endpoints/{made['id']}")
            return endpoint if endpoint["state"] == "serving" else None

        return until(f"{name} serves", 20.0, serving)

    def record(
        self, request_id: str, caller: Client | None = None, seconds: float = 20.0
    ) -> dict[str, Any]:
        """Return a request's ledger record once it is there."""

        def look() -> dict[str, Any] | None:
            answered = (caller or self.operator).call("GET", f"/api/v1/requests/{request_id}")
            return answered.body if answered.status == 200 else None

        return until(f"{request_id} stands in the ledger", seconds, look)

    def stop(self) -> None:
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
            try:
                self.up.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()


QUICKLY = {"AGENT_CHECK_ENROLMENT": "quick"}
"""A mesh of a test is enrolled for that test alone."""


def start(folder: Path, *options: str, environment: dict[str, str] | None = None) -> Mesh:
    """Start a mesh in ``folder`` and wait until it says it is ready."""
    ready_file = folder / "ready.json"
    ready_file.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mesh_tools", "up", "--data", str(folder)]
    if "--port" not in options:
        options = ("--port", str(free_port()), *options)
    with (folder / "up.log").open("a") as log:
        up = subprocess.Popen(
            [*command, "--ready-file", str(ready_file), *options],
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **QUICKLY, **(environment or {})},
        )
    mesh = Mesh(folder, up, ready_file)
    last = time.monotonic() + READY_WITHIN_S
    while not ready_file.exists():
        if up.poll() is not None or time.monotonic() > last:
            said = (folder / "up.log").read_text()[-4_000:]
            mesh.stop()
            raise AssertionError(f"mesh up did not get ready:\n{said}")
        time.sleep(0.02)
    return mesh


@contextmanager
def running(folder: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[Mesh]:
    """Run a mesh for the length of a block."""
    mesh = start(folder, *options, environment=environment)
    try:
        yield mesh
    finally:
        mesh.stop()
