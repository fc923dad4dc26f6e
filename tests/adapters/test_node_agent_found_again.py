"""What an agent finds of workloads that ended while none was there: told as they ended, and nothing of them runs on."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from meshkit.testing import test_id
from node_agent.held import WENT_AWAY
from node_agent.runtimes import process

from tests.adapters.engines import Host, host, until

pytestmark = pytest.mark.slow

WORKLOAD = test_id("workload", "found again")
EARLIER = "an earlier boot"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        yield made


def left(here: Host, *marks: str, ended: str = "", **fields: Any) -> Path:
    """Leave what an agent that was killed leaves of a workload; return its folder."""
    kind: Literal["job"] = "job"
    about = {"boot_id": EARLIER, "kind": kind, "devices": [], "incarnation": 1, **fields}
    folder = here.folder / WORKLOAD
    process.remember(folder, process.Kept(workload_id=WORKLOAD, name="train", **about))
    (folder / "state").write_text(f"workload_id={WORKLOAD}\npid=99999999\nstart_time=1\n")
    if ended:
        (folder / "exit").write_text(f"{ended}\n")
    for mark in marks:
        process.mark(folder, f"{mark}.1")
    return folder


async def test_a_job_that_had_ended_before_its_server_went_down_is_told_as_it_ended(here: Host) -> None:
    folder = left(here, "started", ended="0 ended")
    agent = here.agent()
    assert (await here.told.said("stopped")).exit_code == 0
    agent.wish([])
    await until(lambda: not folder.exists())
    assert here.told.verbs() == ["stopped"]


async def test_a_job_that_had_failed_before_its_server_went_down_has_failed(here: Host) -> None:
    left(here, "started", ended="3 ended")
    here.agent()
    failed = await here.told.said("failed")
    assert (failed.exit_code, failed.interrupted) == (3, False)


@pytest.mark.parametrize("ended", ["", "0 stopped", "0 lifeline"])
async def test_a_job_that_its_server_took_along_is_no_success(here: Host, ended: str) -> None:
    left(here, "started", ended=ended)
    here.agent()
    failed = await here.told.said("failed")
    assert (failed.reason, failed.interrupted) == (WENT_AWAY, True)


@pytest.mark.parametrize("told", ["stopped", "failed"])
async def test_an_end_that_was_told_is_not_told_again_after_a_boot(here: Host, told: str) -> None:
    folder = left(here, "started", told, ended="0 ended")
    agent = here.agent()
    assert [one.state for one in agent.statuses()] == [told]
    agent.wish([])
    await until(lambda: not folder.exists())
    assert here.told.verbs() == []
