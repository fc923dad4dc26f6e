"""What a workload leaves in its folder: gone at once, removed beside everything else, whatever it is."""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from node_agent.leftovers import GONE, Leftovers

from tests.adapters.engines import Host, host, member, until

pytestmark = pytest.mark.slow

LEAVES = """
import os
os.makedirs("deep/er")
open("deep/er/model", "w").close()
os.symlink("/etc", "deep/etc")
os.chmod("deep/er", 0o500)
os.chmod("deep", 0o500)
"""
REMOVES = """
import os, sys, time
from pathlib import Path
from node_agent.leftovers import Leftovers
folder = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
os.chdir(folder)
os.mkdir("one")
os.chdir("one")
exec(sys.argv[2])
os.chmod(".", 0o500)
os.chdir("/")
here = Leftovers(folder)
here.begin()
here.put_away(folder / "one")
until = time.monotonic() + 10
while os.listdir(folder / ".gone") and time.monotonic() < until:
    time.sleep(0.02)
print([str(one) for one in folder.rglob("*")])
"""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        yield made


@pytest.fixture
def anyones() -> Iterator[Path]:
    """Return a folder that whoever is nobody may write into."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o777)
        yield folder


def empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


async def test_the_agent_goes_on_while_what_a_job_left_is_removed(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, removers = threading.Event(), set()
    rmdir = os.rmdir

    def slow(path: "os.DirEntry[str]") -> None:
        removers.add(threading.current_thread())
        may_go_on.wait(10)
        rmdir(path)

    wished = member(sys.executable, "-c", LEAVES)
    agent = here.agent()
    agent.wish([wished])
    await here.told.said("stopped")
    monkeypatch.setattr("node_agent.leftovers.os.rmdir", slow)
    agent.wish([])
    await until(lambda: removers)
    assert not (here.folder / wished.workload_id).exists()
    assert agent.statuses() == []
    assert threading.current_thread() not in removers
    may_go_on.set()
    await until(lambda: empty(here.folder / GONE))


async def test_what_an_agent_that_was_killed_left_is_removed_by_the_next(here: Host) -> None:
    left = here.folder / GONE / "one" / "work"
    left.mkdir(parents=True)
    (left / "model").touch()
    here.agent()
    await until(lambda: empty(here.folder / GONE))


def test_what_may_not_be_written_into_is_removed_and_nothing_beyond_it(anyones: Path) -> None:
    words = [sys.executable, "-c", REMOVES, str(anyones), LEAVES]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    assert made.stdout == f"['{anyones}/{GONE}']\n", made.stderr
    assert Path("/etc/passwd").exists()


async def test_folders_in_folders_are_removed_however_deep(tmp_path: Path) -> None:
    deep = "import os\nfor _ in range(3_000):\n    os.mkdir('a')\n    os.chdir('a')"
    (tmp_path / "one").mkdir()
    making = await asyncio.create_subprocess_exec(sys.executable, "-c", deep, cwd=tmp_path / "one")
    await making.wait()
    leftovers = Leftovers(tmp_path)
    leftovers.begin()
    leftovers.put_away(tmp_path / "one")
    await until(lambda: empty(tmp_path / GONE))
    leftovers.put_away(tmp_path / "never there")
