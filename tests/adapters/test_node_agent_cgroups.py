"""Memory and CPU that the kernel bounds: real control groups where this machine lets us make some, else skipped."""

import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.placement import Resources
from node_agent.runtimes import process
from node_agent.runtimes.cgroups import Cgroups, NoCgroups

from tests.adapters.engines import Host, host, member, until

pytestmark = pytest.mark.slow

GREEDY = (
    "kept = bytearray(256 << 20)\nfor at in range(0, len(kept), 4096): kept[at] = 1\nprint('it had it')"
)
BUSY = "open('begun', 'w').close()\nwhile True: pass"
STRAY = """
import os, time
if os.fork() == 0:
    os.setsid()
    open("stray", "w").write(str(os.getpid()))
    time.sleep(600)
while not os.path.exists("stray") or not open("stray").read():
    time.sleep(0.01)
"""


@pytest.fixture
def cgroups(tmp_path: Path) -> Iterator[Cgroups]:
    try:
        made = Cgroups.find(tmp_path)
    except NoCgroups as why:
        pytest.skip(str(why))
    yield made
    assert not own(made), "nothing is left of it"


@pytest.fixture
async def here(cgroups: Cgroups, tmp_path: Path) -> AsyncIterator[Host]:
    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        made.cgroups = cgroups
        yield made


def runs(program: str, **resources: int) -> Any:
    return member(sys.executable, "-c", program, resources=Resources(**resources))


def own(cgroups: Cgroups) -> list[Path]:
    """Return the groups that there are of an agent."""
    return [top for top in cgroups.tops.values() if top.exists()]


def left(cgroups: Cgroups, wished: Any) -> list[Path]:
    """Return the groups that there are of a workload."""
    return [
        top / wished.workload_id for top in cgroups.tops.values() if (top / wished.workload_id).exists()
    ]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_who_takes_more_memory_than_was_asked_for_is_ended_and_told_why(here: Host) -> None:
    wished = runs(GREEDY, memory_mib=64)
    here.agent().wish([wished])
    failed = await here.told.said("failed")
    assert failed.reason == "it ended by itself: it took more than its 64 MiB of memory"
    assert failed.exit_code == -signal.SIGKILL
    assert here.cgroups is not None
    assert left(here.cgroups, wished) == []


async def test_who_asked_for_enough_has_it(here: Host) -> None:
    wished = runs(GREEDY, memory_mib=512)
    here.agent().wish([wished])
    stopped = await here.told.said("stopped")
    assert stopped.exit_code == 0
    assert "it had it" in (here.folder / wished.workload_id / "log").read_text()


async def test_a_busy_program_gets_the_cpu_that_was_asked_for_and_no_more(here: Host) -> None:
    wished = runs(BUSY, memory_mib=0, cpu_milli=200)
    agent = here.agent()
    agent.wish([wished])
    assert here.cgroups is not None
    group = here.cgroups.tops["cpu"] / wished.workload_id
    await until((here.folder / wished.workload_id / "work" / "begun").exists)

    def throttled() -> bool:
        said = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
        return int(said["nr_throttled"]) > 2

    await until(throttled)
    agent.wish([])
    await here.told.said("stopped")
    await until(lambda: not group.exists())


async def test_what_left_its_process_group_ends_with_its_workload(here: Host) -> None:
    wished = runs(STRAY, memory_mib=256)
    here.agent().wish([wished])
    await here.told.said("stopped")
    stray = int((here.folder / wished.workload_id / "work" / "stray").read_text())
    await until(lambda: not lives(stray))
    assert left(here.cgroups, wished) == []


async def test_what_left_its_process_group_ends_though_its_shim_had_to_be_killed(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.looking_after.STOP_MORE_S", 0.1)
    wished = runs(f"{STRAY}\ntime.sleep(600)", memory_mib=256)
    agent = here.agent()
    agent.wish([wished])
    written = here.folder / wished.workload_id / "work" / "stray"
    stray = int(await until(lambda: written.exists() and written.read_text()))
    found = await until(lambda: f if (f := here.found(wished)).shim_pid else None)
    os.kill(found.shim_pid, signal.SIGSTOP)
    agent.wish([])
    await here.told.said("stopped")
    assert not lives(stray)
    assert left(here.cgroups, wished) == []


async def test_what_a_killed_shim_left_is_ended_by_the_agent_that_starts_next(
    here: Host, tmp_path: Path
) -> None:
    wished = runs(BUSY, memory_mib=256)
    first = here.agent()
    first.wish([wished])
    await until((here.folder / wished.workload_id / "work" / "begun").exists)
    found = here.found(wished)
    await first.leave()
    assert found.shim_pid is not None
    assert found.engine_pid is not None
    os.kill(found.shim_pid, signal.SIGKILL)
    await until(lambda: process.ended(found.shim_pid or 0))
    assert lives(found.engine_pid)
    # What stood in its folder is lost, too.
    shutil.rmtree(here.folder / wished.workload_id)
    here.cgroups = Cgroups.find(tmp_path)
    here.agent()
    await until(lambda: not lives(found.engine_pid or 0))
    assert left(here.cgroups, wished) == []


async def test_an_agent_that_was_killed_leaves_no_group_once_its_last_workload_has_ended(
    here: Host,
) -> None:
    wished = [runs(BUSY, memory_mib=256) for _ in range(2)]
    agent = here.agent()
    agent.wish(wished)
    for one in wished:
        await until((here.folder / one.workload_id / "work" / "begun").exists)
    found = here.found(wished[0])
    await agent.leave()
    assert here.cgroups is not None
    assert own(here.cgroups)
    # The one is told to end, as if by the agent in its last moment; the other because whoever owns the node is gone.
    assert found.shim_pid is not None
    os.kill(found.shim_pid, signal.SIGTERM)
    await until(lambda: process.ended(found.shim_pid or 0))
    assert own(here.cgroups)
    here.cut_lifeline()
    await until(lambda: not own(here.cgroups) if here.cgroups else False)
