"""``mesh bench agent``: how soon an error of a GPU is a fact and a decision, and what the agent costs meanwhile.

A mesh, and beside it one more agent as a process of its own, with eight GPUs of a double of NVML (compiled here, from
``node_agent.doubles``). An XID is put into the double; then it is looked at the bus when the agent's fact and placement's
cordon come. There is no GPU: the node's checks are inconclusive, and it is cordoned by hand between two errors, so that each
is decided anew. Then checks of rehearsed GPUs are ended for work, at moments of all kinds.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from node_agent.devices.rehearsal import Rehearsal
from node_agent.doubles.nvml import Scenario
from node_agent.probing import GaveWay, Probing

from mesh_tools.bench.start import up
from mesh_tools.bench.tree import Tree
from mesh_tools.demo.client import Client

GPUS = 8
CODES = (46, 48, 62, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 151, 155, 156)
"""All of them faults of the hardware: each takes the node out."""
IDLE_S = 30.0
SETTLE_S = 6.0
WITHIN_S = 30.0
NODE = "gpu-node"
BOUNDS = {
    "fact_p99_ms": 100.0,
    "cordon_p99_ms": 1_000.0,
    "stuck_noticed_s": 10.0,
    "idle_core_pct": 0.5,
    "rss_mb": 150.0,
    "gave_way_p99_ms": 50.0,
}
GAVE_WAY_TIMES = 60
MS = 1_000


class Ears:
    """What is told on the bus, with the moment at which it came here."""

    def __init__(self) -> None:
        self._heard: list[tuple[float, dict[str, Any]]] = []
        self._more = asyncio.Event()

    async def hear(self, message: Any) -> None:
        """Note one fact."""
        self._heard.append((time.perf_counter(), json.loads(message.data)))
        self._more.set()

    async def first(self, meant: Callable[[dict[str, Any]], bool], since: float) -> float:
        """Return when the first fact came that is meant, of those after ``since``. Raises ``TimeoutError``."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                self._more.clear()
                for at, fact in self._heard:
                    if at >= since and meant(fact):
                        return at
                await self._more.wait()


def main(argv: list[str], *, as_json: bool) -> int:
    """Print the figures beside their bounds; with ``as_json`` the last line is one object."""
    parser = argparse.ArgumentParser(prog="mesh bench agent")
    parser.add_argument("--errors", type=int, default=100, help=f"at most {GPUS * len(CODES)}")
    wanted = parser.parse_args(argv)
    if not 2 <= wanted.errors <= GPUS * len(CODES):
        parser.error(f"--errors: {wanted.errors} is not from 2 to {GPUS * len(CODES)}")
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run([sys.executable, "-P", "-m", "node_agent.doubles.build", name], check=True)
        with up(folder, "--bare", "--nodes", "1") as (ready, _, _):
            figures = asyncio.run(measure(folder, ready, wanted.errors))
        figures |= asyncio.run(gave_way(folder))
    print(
        f"{wanted.errors} XIDs of {GPUS} GPUs of a double of NVML, through a real bus and a real placement"
    )
    for figure, bound in BOUNDS.items():
        print(f"  {figure:<18}{figures[figure]:>10}   at most {bound:g}")
    rest = {figure: value for figure, value in figures.items() if figure not in BOUNDS}
    print(f"  beside: {', '.join(f'{figure} {value}' for figure, value in rest.items())}")
    if as_json:
        print(json.dumps(figures))
    return 0


async def measure(folder: Path, ready: dict[str, Any], errors: int) -> dict[str, Any]:
    """Return the figures of one agent in a mesh that is up."""
    driver = Scenario(folder / "scenario", GPUS)
    operator = Client(ready["gateway"], ready["admin_key"])
    async with heard(folder, str(ready["nats_url"])) as ears, agent(folder, ready, operator) as pid:
        await ears.first(lambda fact: fact["tag"].startswith("agent.health.changed/"), 0.0)
        await asyncio.sleep(SETTLE_S)
        before, began = Tree(pid).cpu_s(), time.monotonic()
        await asyncio.sleep(IDLE_S)
        core_pct = (Tree(pid).cpu_s() - before) / (time.monotonic() - began) * 100
        rss_mb = _rss_mb(pid)
        facts, cordons = [], []
        pairs = [(gpu, code) for code in CODES for gpu in range(GPUS)][:errors]
        for gpu, code in pairs:
            since = time.perf_counter()
            operator.post(f"/api/v1/nodes/{NODE}:cordon", {"reason": "between two errors"})
            await ears.first(_cordoned("cordoned_by_operator"), since)
            began = time.perf_counter()
            driver.tell(gpu, code)
            facts.append(await ears.first(_told("xid", code), began) - began)
            cordons.append(await ears.first(_cordoned("health_fail"), began) - began)
        driver.about(0, hang=60)
        began = time.perf_counter()
        stuck_s = await ears.first(_told("driver"), began) - began
        driver.about(0, hang=0)
    return {
        "fact_p50_ms": round(statistics.median(facts) * MS, 1),
        "fact_p99_ms": round(_p99(facts) * MS, 1),
        "cordon_p50_ms": round(statistics.median(cordons) * MS, 1),
        "cordon_p99_ms": round(_p99(cordons) * MS, 1),
        "stuck_noticed_s": round(stuck_s, 2),
        "idle_core_pct": round(core_pct, 2),
        "rss_mb": round(rss_mb, 1),
        "errors": errors,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


async def gave_way(folder: Path, times: int = GAVE_WAY_TIMES) -> dict[str, Any]:
    """Return how long a check of rehearsed GPUs takes to be gone once work is assigned: the agent's part, without a GPU's."""
    devices = Rehearsal(NODE, GPUS, folder)
    probing, took = Probing(devices, folder), []
    for number in range(times):
        checking = asyncio.create_task(probing.check(devices.listed(), "deep"))
        # Another moment of it each time, from before it is loaded.
        await asyncio.sleep(number / times)
        began = time.perf_counter()
        await probing.give_way([one.device_id for one in devices.listed()])
        took.append(time.perf_counter() - began)
        with contextlib.suppress(GaveWay):
            await checking
    return {
        "gave_way_p50_ms": round(statistics.median(took) * MS, 1),
        "gave_way_p99_ms": round(_p99(took) * MS, 1),
    }


@asynccontextmanager
async def heard(folder: Path, url: str) -> AsyncIterator[Ears]:
    """Hear what agents and placement tell, for the block."""
    from meshkit.natspy import Client as Bus  # noqa: PLC0415 - slow to import

    ears, bus = Ears(), Bus()
    await bus.connect(
        url, nkeys_seed_str=(folder / "data" / "keys" / "observer.nk").read_text().strip()
    )
    try:
        for subject in ("agent.health.changed.>", "placement.node.cordoned.>"):
            await bus.subscribe(subject, cb=ears.hear)
        yield ears
    finally:
        await bus.close()


@asynccontextmanager
async def agent(folder: Path, ready: dict[str, Any], operator: Client) -> AsyncIterator[int]:
    """Run one agent beside the double's GPUs, for the block; give its pid."""
    token = folder / "join.token"
    made = operator.post("/api/v1/join-tokens", {"uses": 1, "lifetime_s": 600})
    token.write_text(made.body["token"])
    told = {
        "PATH": os.environ["PATH"],
        "LD_LIBRARY_PATH": str(folder),
        "NVML_DOUBLE": str(folder / "scenario"),
        "NATS_URL": str(ready["nats_url"]),
        "AGENT_DATA_DIR": str(folder / "agent"),
        "AGENT_NAME": NODE,
        "AGENT_JOIN_TOKEN_FILE": str(token),
    }
    with (folder / "agent.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "node_agent"), env=told, stdout=log, stderr=log
        )
        try:
            yield process.pid
        except TimeoutError as fault:
            said = (folder / "agent.log").read_text(errors="replace")[-2_000:]
            message = f"what was waited for did not come; the agent said:\n{said}"
            raise SystemExit(message) from fault
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()


def _told(name: str, code: int | None = None) -> Callable[[dict[str, Any]], bool]:
    def meant(fact: dict[str, Any]) -> bool:
        return any(
            check["name"] == name and (code is None or check["evidence"].get("xid") == code)
            for check in fact.get("checks", ())
        )

    return meant


def _cordoned(code: str) -> Callable[[dict[str, Any]], bool]:
    def meant(fact: dict[str, Any]) -> bool:
        return fact["tag"].startswith("placement.node.cordoned/") and any(
            reason["code"] == code for reason in fact["reasons"]
        )

    return meant


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _rss_mb(pid: int) -> float:
    page = os.sysconf("SC_PAGE_SIZE")
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page / 1_000_000
