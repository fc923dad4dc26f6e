"""Servers behind BMCs for tests: an emulator that really runs, doubles, the agent's hold of one, its lease."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from mesh_contracts.node import Check
from node_agent.devices.declared import Declared
from node_agent.domain.proof import Expected
from node_agent.doubles.redfish import NO_PROXY, Double
from node_agent.doubles.redfish_pages import State
from node_agent.leases import Leases
from node_agent.servers.bmc import Bmc
from node_agent.servers.image import Hold
from node_agent.servers.keys import Keys, Login
from node_agent.servers.line import Line, Pace
from node_agent.servers.redfish import RedfishServer

from tests.adapters.engines import Checked, Told, until
from tests.domain.leased import leased

USER, PASSWORD = "mesh", "first-Secret-1"
ADDRESS = "10.1.2.3:22"
EXPECTED = Expected(
    components={"Manager": "7.10", "BIOS": "1.2.0", "NIC": "22.41"}, secure_boot=True, accounts=[USER]
)
QUICK = Pace(
    request_s=2.0,
    exchange_s=6.0,
    tries=3,
    backoff_s=0.02,
    backoff_max_s=0.1,
    look_s=0.05,
    graceful_s=0.5,
    forced_s=1.0,
    on_s=1.0,
    media_s=0.5,
    off_at_least_s=0.05,
    sanitize_s=3.0,
    report_s=1.0,
    bmc_away_s=2.0,
    bmc_back_s=5.0,
)


def passed() -> Check:
    return Check(
        name="gemm",
        device_id="rehearsal-n1-0",
        verdict="pass",
        backend="numpy",
        rehearsal=True,
        took_ms=1,
        detail="",
    )


class Bare:
    """One server behind a BMC, and what its agent told of it."""

    def __init__(self, folder: Path, url: str, pace: Pace = QUICK, **hold: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.told = folder, Told()
        self.login = folder / "bmc-login"
        self.login.write_text(f"{USER}\n{PASSWORD}\n")
        self.login.chmod(0o600)
        self.url, self.pace, self.fixed = url, pace, bool(hold.pop("fixed", False))
        self.devices: Declared | None = hold.pop("devices", None)
        self.hold = Hold(**{"address": ADDRESS, "expected": EXPECTED, **hold})

    def server(self) -> RedfishServer:
        """Return what an agent that just started has."""
        keys = Keys(self.login, self.folder, fixed=self.fixed)

        def opened(login: Login) -> Bmc:
            return Bmc(self.url, login, verify=False, request_s=self.pace.request_s)

        quality: Literal["measured", "rehearsed"] = "rehearsed" if self.devices is None else "measured"
        return RedfishServer(Line(opened, keys, self.pace), self.hold, quality, self.devices)

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Leases]:
        made = Leases(self.folder, self.server(), self.told.teller(), Checked(passed()))
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def through(self, agent: Leases, within_s: float = 20.0, before: Any = None) -> None:
        """Walk one lease to its end as placement does; ``before`` hears of each step."""
        for step, verbs in (
            ("hold", {"ready", "failed"}),
            ("", {"stopped", "failed"}),
            ("erase", {"recorded"}),
            ("attest", {"recorded"}),
        ):
            if step == "" and "ready" not in self.told.verbs():
                continue
            if before is not None:
                before(step)
            told = len(self.told.facts)
            agent.wish([leased(step)] if step else [])
            await until(partial(self._any, verbs, told), within_s)
            if step in {"erase", "attest"} and self.told.facts[-1].verdict != "pass":  # type: ignore[attr-defined]
                return

    def _any(self, verbs: set[str], after: int) -> bool:
        return bool(verbs & set(self.told.verbs()[after:]))

    def recorded(self, step: str) -> Any:
        return next(f for f in self.told.facts if getattr(f, "step", None) == step)


def looked_at(device_id: str, verdict: str = "pass", backend: str = "cupy") -> dict[str, Any]:
    """Return what an erase image tells of an accelerator: gpuprobe's own words."""
    check = {"name": "gemm", "device": 0, "verdict": verdict, "backend": backend, "took_ms": 9}
    check |= {"detail": f"products: {verdict}", "action": None, "evidence": {"rounds": 2}}
    return {"device_id": device_id, "checks": [check]}


def image_ran(
    reports: Path,
    system: str,
    serials: list[str],
    number: int,
    accelerators: Sequence[dict[str, Any]] = (),
) -> None:
    """Leave what an erase image leaves at its end."""
    wiped = [
        {"serial": s, "method": "nvme sanitize (block erase)", "log_id": f"sanitize-{number}", "verdict": "pass"}
        for s in serials
    ]  # fmt: skip
    told = {
        "report_id": f"run-{number}",
        "system": system,
        "drives": wiped,
        "scrubbed": ["memory", "gpu"],
        "accelerators": list(accelerators),
    }
    fresh = reports / f"{system}.new"
    fresh.write_text(json.dumps(told))
    fresh.rename(reports / f"{system}.json")


@contextmanager
def double(behind: str | None = None, system: str | None = None, **state: Any) -> Iterator[Double]:
    system = system or str(uuid.uuid4())
    made = Double(State(system=system, users={USER: PASSWORD}, **state), behind)
    try:
        yield made
    finally:
        made.close()


class Emulator:
    """A ``sushy-emulator`` process with its fake driver, and a web server with images for it to insert."""

    def __init__(self, folder: Path, systems: list[str]) -> None:
        self.systems = systems
        told = [
            {"uuid": one, "name": f"server{number}", "power_state": "Off", "nics": []}
            for number, one in enumerate(systems)
        ]
        folder.mkdir(parents=True, exist_ok=True)
        disk = {"Id": "d1", "Name": "Disk 1", "CapacityBytes": 10**12, "Protocol": "NVMe"}
        storage = {one: [{"Id": "1", "Name": "Storage", "Drives": ["d1"]}] for one in systems}
        drives = {(one, "1"): [disk] for one in systems}
        config = folder / "emulator.conf"
        config.write_text(
            f"SUSHY_EMULATOR_FAKE_SYSTEMS = {told!r}\nSUSHY_EMULATOR_STATE_DIR = {str(folder)!r}\n"
            f"SUSHY_EMULATOR_STORAGE = {storage!r}\nSUSHY_EMULATOR_DRIVES = {drives!r}\n"
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = Path(sys.executable).with_name("sushy-emulator")
        self.url = f"http://127.0.0.1:{port}"
        self._said = (folder / "emulator.log").open("wb")
        command = [str(program), "--fake", "--config", str(config), "-i", "127.0.0.1", "-p", str(port)]
        surroundings = {**os.environ, "TMPDIR": str(folder), "NO_PROXY": "127.0.0.1"}
        self.process = subprocess.Popen(command, stdout=self._said, stderr=self._said, env=surroundings)
        self._images = ThreadingHTTPServer(("127.0.0.1", 0), _Images)
        threading.Thread(target=self._images.serve_forever, args=(0.05,), daemon=True).start()
        self.images = f"http://127.0.0.1:{self._images.server_port}"

    def at(self, system: str, below: str = "") -> Any:
        """Return what the emulator itself says."""
        with NO_PROXY.open(f"{self.url}/redfish/v1/Systems/{system}{below}", timeout=10) as answer:
            return json.load(answer)

    async def answers(self) -> None:
        def seen() -> bool:
            assert self.process.poll() is None, Path(self._said.name).read_text()
            try:
                return bool(self.at(self.systems[0]))
            except OSError:
                return False

        await until(seen)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._said.close()
        self._images.shutdown()
        self._images.server_close()


class _Images(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"image")

    def log_message(self, *_said: Any) -> None:
        """Log nothing."""


@asynccontextmanager
async def emulator(folder: Path, count: int) -> AsyncIterator[Emulator]:
    made = Emulator(folder, [str(uuid.uuid4()) for _ in range(count)])
    try:
        await made.answers()
        yield made
    finally:
        await asyncio.to_thread(made.close)


def address_of(emulated: Emulator, system: str) -> str:
    return f"{emulated.url}/redfish/v1/Systems/{system}"
