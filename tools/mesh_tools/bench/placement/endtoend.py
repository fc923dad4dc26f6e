"""From a job's submission to its durable reservation: placement as it is, on its own nats-server and Postgres.

Postgres waits for the disk, as it does in production. All share this machine: the servers, placement and
whoever asks. ``end_to_end`` is called by the benchmark.
"""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
from mesh_contracts import wire
from mesh_contracts.node import Heartbeat
from mesh_contracts.units import DEFAULT_SITE, derived_id
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Secret, Settings
from meshkit.declare import declare
from meshkit.store import Store
from placement.app import MIGRATIONS

from mesh_tools.bench.placement.asking import PROJECTS, project_id
from mesh_tools.bench.placement.halls import SERVER_GPUS
from mesh_tools.embedded.nats import Nats
from mesh_tools.embedded.postgres import Postgres, free_port

SERVER_MEMORY_MIB = 786_432
READY_WITHIN_S = 90.0
STOP_WITHIN_S = 10.0
SETTLED_WITHIN_S = 120.0
BEAT_EVERY_S = 5.0
AT_ONCE = (32, 96)
"""How many ask at once, from one measurement to the next."""
RATES = (800.0,)


def end_to_end(
    gpus: int = 45_000,
    asks: int = 6_000,
    *,
    at_once: tuple[int, ...] = AT_ONCE,
    rates: tuple[float, ...] = RATES,
) -> dict[str, Any]:
    """Return the figures of so many asks on a site of so many GPUs: asks a second, and how long each waits."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        # Postgres, as nobody, must be able to pass through.
        Path(folder).chmod(0o755)
        return asyncio.run(_measure(Path(folder), gpus, asks, at_once, rates))


async def _measure(
    folder: Path, gpus: int, asks: int, at_once: tuple[int, ...], rates: tuple[float, ...]
) -> dict[str, Any]:
    with _servers(folder) as (nats, postgres):
        await nats.wait_ready()
        await postgres.wait_ready()
        dsn = await postgres.ensure_database("placement")
        nodes = await _fill(dsn, gpus)
        secret = folder / "secret"
        secret.write_text(secrets.token_hex(16))
        bus = await _declared(nats.url, secret)
        beating = asyncio.create_task(_beat(bus, nodes))
        port = free_port()
        environ = _environment(nats.url, secret, dsn, port)
        began = time.perf_counter()
        with _running(environ, folder / "placement.log") as process:
            await _ready(process, port)
            started_s = time.perf_counter() - began
            await _settled(bus, len(nodes))
            told = (nats.url, str(secret))
            runs = []
            for number in at_once:
                with _used(process.pid, nats, postgres) as cpu:
                    runs.append(await _asked(*told, str(number), str(asks)))
                runs[-1]["cpu_us_an_ask"] = {name: round(us / asks) for name, us in cpu.items()}
            runs += [await _asked(*told, "16", str(asks), str(rate)) for rate in rates]
        beating.cancel()
        await bus.close()
        return {
            "gpus": gpus,
            "first_start_s": round(started_s, 2),
            "runs": runs,
            "cores": os.cpu_count(),
        }


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[tuple[Nats, Postgres]]:
    nats = Nats(folder / "nats", free_port())
    nats.prepare(f'listen: "127.0.0.1:{nats.port}"\njetstream {{ store_dir: "{nats.store}" }}\n')
    postgres = Postgres(folder / "postgres", free_port())
    postgres.prepare()
    try:
        nats.spawn(folder / "nats.log")
        postgres.spawn(folder / "postgres.log")
        yield nats, postgres
    finally:
        nats.stop()
        postgres.stop()


@contextlib.contextmanager
def _running(environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "placement"]
    with log.open("ab") as said:
        process = subprocess.Popen(command, env=environ, stdout=said, stderr=said)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(url: str, secret: Path, dsn: str, port: int) -> dict[str, str]:
    return {
        **os.environ,
        "NATS_URL": url,
        "NATS_CREDENTIALS": os.devnull,
        "MESH_SECRET_FILE": str(secret),
        "MESH_SITE": DEFAULT_SITE,
        "MESH_OPS_PORT": str(port),
        "POSTGRES_DSN": dsn,
    }


@contextlib.contextmanager
def _used(placement: int, nats: Nats, postgres: Postgres) -> Iterator[dict[str, float]]:
    """Have what the block's end is given say how many microseconds of CPU each server took for it."""
    assert nats.process is not None
    assert postgres.process is not None
    pids = {"placement": placement, "nats": nats.process.pid, "postgres": postgres.process.pid}
    before = {name: _cpu_us(pid) for name, pid in pids.items()}
    used: dict[str, float] = {}
    yield used
    used |= {name: _cpu_us(pid) - before[name] for name, pid in pids.items()}


def _cpu_us(pid: int) -> float:
    """Return the CPU that a process and its living children have used."""
    tick_us = 1e6 / os.sysconf("SC_CLK_TCK")
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = status.read_text().rpartition(")")
            fields = rest.split()
            if pid in {int(name.split()[0]), int(fields[1])}:
                total += (int(fields[11]) + int(fields[12])) * tick_us
    return total


async def _fill(dsn: str, gpus: int) -> list[str]:
    """Have so many GPUs, eight a server, all ready; placement finds them when it starts."""
    store = await Store.connect(
        Secret(dsn), owner="placement", clock=SystemClock(), migrations=MIGRATIONS
    )
    async with store.transaction() as tx:
        began = tx.now
    await store.close()
    nodes = [derived_id("node", began, str(number)) for number in range(gpus // SERVER_GPUS)]
    connection = await asyncpg.connect(dsn)
    await connection.copy_records_to_table(
        "node",
        columns=("node_id", "name", "site", "state", "since", "jurisdiction", "memory_mib", "address"),
        records=[
            (node, f"server-{number:05}", DEFAULT_SITE, "ready", began, "FR", SERVER_MEMORY_MIB, "")
            for number, node in enumerate(nodes)
        ],
    )
    await connection.copy_records_to_table(
        "device",
        columns=("node_id", "device_id", "index", "card", "model", "memory_mib", "rehearsal"),
        records=[
            (node, f"gpu-{card}", card, card, "B200", 183_359, False)
            for node in nodes
            for card in range(SERVER_GPUS)
        ],
    )
    organization = derived_id("org", began, "bench")
    await connection.copy_records_to_table(
        "project",
        columns=("project_id", "name", "organization", "organization_name"),
        records=[
            (project_id(number), f"p{number}", organization, "bench") for number in range(PROJECTS)
        ],
    )
    # Only what was filled here: a table that is counted while it is empty is read whole until it is counted again.
    await connection.execute("ANALYZE node, device, project")
    await connection.close()
    return nodes


async def _beat(bus: Bus, nodes: list[str]) -> None:
    """Have every node be heard as often as it must be so as not to count as silent."""
    began, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) / BEAT_EVERY_S * len(nodes))
        for number in range(sent, due):
            node = nodes[number % len(nodes)]
            beat = Heartbeat(node_id=node, at=bus.clock.now(), sequence=number, check=0, workloads=[])
            bus.send(f"sample.agent.heartbeat.{DEFAULT_SITE}.{node}", wire.encode(beat))
        sent = due
        await asyncio.sleep(0.1)


async def _declared(url: str, secret: Path) -> Bus:
    nobody = Path(os.devnull)
    settings = Settings(nats_url=url, nats_credentials=nobody, mesh_secret_file=secret)
    bus = await Bus.connect(settings, user="admin", clock=SystemClock(), secret=Secret("bench"))
    await declare(bus)
    return bus


async def _ready(process: subprocess.Popen[bytes], port: int) -> None:
    url = f"http://127.0.0.1:{port}/readyz"
    until = time.monotonic() + READY_WITHIN_S
    while True:
        assert process.poll() is None, "placement has ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:  # noqa: ASYNC210
            if answer.status == 200:
                return
        assert time.monotonic() < until, "placement did not become ready"
        await asyncio.sleep(0.1)


async def _settled(bus: Bus, nodes: int) -> None:
    """Return once a new mesh is at rest: every node has been told what it should run."""
    until = time.monotonic() + SETTLED_WITHIN_S
    while await bus.at("KV_intents", nodes) is None:
        assert time.monotonic() < until, "the bucket of what nodes should run is not there"
        await asyncio.sleep(0.2)


async def _asked(*arguments: str) -> dict[str, Any]:
    asking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh_tools.bench.placement.asking", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asking.communicate()
    assert asking.returncode == 0, "whoever asked has failed"
    figures: dict[str, Any] = json.loads(said)
    return figures


if __name__ == "__main__":
    print(json.dumps(end_to_end(*(int(one) for one in sys.argv[1:])), indent=1))
