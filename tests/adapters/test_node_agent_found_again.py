"""What an agent finds of workloads that ended while none was there: told as they ended, and nothing of them runs on."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from meshkit.testing import test_id
from node_agent.held import WENT_AWAY
from node_agent.runtimes import containers, process

from tests.adapters.engines import Host, host, until
from tests.adapters.podman import PODMAN_MORE, image
from tests.adapters.podman import containers as all_containers

__all__ = ["image"]

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


def contain(image: str) -> str:
    """Begin the container of the workload, as if its agent had; return its name."""
    name = containers.name_of(WORKLOAD)
    words = [
        "podman",
        "run",
        "--detach",
        "--replace",
        "--name",
        name,
        "--network=host",
        *PODMAN_MORE,
        image,
    ]
    sleeps = ["/bin/sh", "-c", "busybox sleep 600"]
    subprocess.run([*words, *sleeps], check=True, capture_output=True)
    return name


async def test_what_had_failed_leaves_no_container_though_its_agent_was_killed_then(
    here: Host, image: str
) -> None:
    folder = left(here, "started", "failed", container=contain(image), boot_id=process.boot_id())
    agent = here.agent()
    await until(lambda: all_containers() == "")
    agent.wish([])
    await until(lambda: not folder.exists())


async def test_an_engine_that_was_interrupted_and_is_wished_for_no_more_leaves_no_container(
    here: Host, image: str
) -> None:
    folder = left(here, "started", container=contain(image), kind="engine")
    agent = here.agent()
    agent.wish([])
    assert folder.exists(), "while its container is there it is not forgotten"
    await until(lambda: not folder.exists())
    assert all_containers() == ""


async def test_what_podman_does_not_remove_is_not_forgotten_until_it_does(
    here: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.workloads.CLEAR_AGAIN_S", 0.05)
    podman, tries = tmp_path / "podman", tmp_path / "tries"
    podman.write_text(f"#!/bin/sh\necho >> {tries}\ntest -e {tmp_path}/well\n")
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    folder = left(here, "started", "failed", container="mesh-one")
    here.agent().wish([])
    await until(lambda: tries.exists() and len(tries.read_text()) > 2)
    assert folder.exists()
    (tmp_path / "well").touch()
    await until(lambda: not folder.exists())
