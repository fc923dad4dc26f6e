"""What is to end does: told so however early it is wished for, and with all that it has started."""

import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.placement import MemberSpec
from node_agent.runtimes import shim

from tests.adapters.engines import Host, host, member

pytestmark = pytest.mark.slow

SLEEPS = "import time; time.sleep(600)"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        yield made


def late(tmp_path: Path, seconds: float) -> str:
    """Return a shim that takes a while until it says who it is."""
    file = tmp_path / "late.py"
    begins = 'if __name__ == "__main__":\n'
    file.write_text(
        Path(shim.__file__).read_text().replace(begins, f"{begins}    time.sleep({seconds})\n")
    )
    return str(file)


async def stopped_at_once(here: Host) -> tuple[MemberSpec, Any]:
    """Wish for a program, and no more for it as soon as it has begun; return it, and how it is told to have stopped."""
    wished = member(sys.executable, "-c", SLEEPS)
    agent = here.agent()
    agent.wish([wished])
    await here.told.said("started")
    agent.wish([])
    return wished, await here.told.said("stopped")


async def test_who_is_to_end_before_its_shim_has_said_who_it_is_is_told_so_then(
    here: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shim, "__file__", late(tmp_path, 0.7))
    _, stopped = await stopped_at_once(here)
    assert stopped.exit_code == -signal.SIGTERM


async def test_a_shim_that_never_says_who_it_is_is_killed(
    here: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shim, "__file__", late(tmp_path, 30))
    monkeypatch.setattr("node_agent.looking_after.STOP_MORE_S", -1.9)
    wished, stopped = await stopped_at_once(here)
    assert stopped.exit_code is None
    assert not here.found(wished).alive
