"""Minutes of requests while one process after the other is killed, from one seed; afterwards the sums close.

A full-size proof: ``mesh check --long`` runs it and prints its figures.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.mesh.harness import Mesh, running, until
from tests.mesh.insides import chat_engine, dead_letters
from tests.mesh.test_faults import assert_the_ledger_agrees, goes_on
from tests.mesh.traffic import Traffic

MINUTES = float(os.environ.get("MESH_SOAK_MINUTES", "5"))
pytestmark = [pytest.mark.long, pytest.mark.timeout(MINUTES * 180 + 300)]

SEED = 20261125
CALLERS = 3
TOKENS = 60
OWNERS = ("identity", "placement", "metering", "carbon")
MEMORY_MIB_MAX = 1_000
KILLED = (
    *("identity", "placement", "metering", "carbon-accounting", "inference-gateway"),
    *("node-agent", "nats-server", "postgres", "engine"),
)


def kill(mesh: Mesh, name: str) -> None:
    """Kill a process by name, if it runs just now, and wait until another stands in its place."""
    if name == "engine":
        engine = chat_engine(mesh)
        if engine is not None:
            os.kill(engine.pid, signal.SIGKILL)
        return
    killed = mesh.kill(name)
    mesh.wait_restarted(name, killed, seconds=30.0)


def memory_mib(mesh: Mesh) -> int:
    """Return the proportional memory (PSS) of every process that the mesh names."""
    rollups = []
    for name in mesh.ready["pids"]:
        for pid in mesh.pids(name):
            try:
                rollups.append(Path(f"/proc/{pid}/smaps_rollup").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
    sizes = [int(line.split()[1]) for text in rollups for line in text.splitlines() if "Pss:" in line]
    return sum(sizes) // 1024


def test_minutes_of_kills_lose_no_record_and_leak_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    kills: dict[str, int] = dict.fromkeys(KILLED, 0)
    with running(tmp_path) as mesh:
        began = time.monotonic()
        with Traffic(mesh.tenant, callers=CALLERS, tokens=TOKENS) as traffic:
            goes_on(traffic, more=10)
            while time.monotonic() - began < MINUTES * 60:
                time.sleep(chance.uniform(2.0, 8.0))
                name = chance.choice(KILLED)
                kill(mesh, name)
                kills[name] += 1
            goes_on(traffic, more=10, seconds=60.0)
        assert_the_ledger_agrees(mesh, traffic.seen)
        admitted = {one.request_id for one in traffic.seen if one.request_id and one.status == 200}
        (usage,) = (
            item for item in mesh.tenant.get("/api/v1/usage")["items"] if item["model"] == "tiny"
        )
        # Refused or cut before its head left, a request may have been admitted all the same.
        unseen = sum(1 for one in traffic.seen if one.status != 200)
        assert len(admitted) <= usage["requests"] <= len(admitted) + unseen
        assert all(dead_letters(mesh, owner) == [] for owner in OWNERS)
        until("nothing waits", 30.0, lambda: True if memory_mib(mesh) < MEMORY_MIB_MAX else None)
        cut = sum(1 for one in traffic.seen if one.usage is None)
        with capsys.disabled():
            sys.stdout.write(
                f"\nsoak: {MINUTES:g} min, seed {SEED}, {len(traffic.seen)} requests, {sum(kills.values())} kills"
                f" {kills}, {cut} requests cut or refused, {usage['requests']} ledger lines,"
                f" {memory_mib(mesh)} MiB (PSS) at the end\n"
            )
