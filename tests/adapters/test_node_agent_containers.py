"""Members of jobs in containers: what a tenant writes is an image and words for it, and says nothing to podman."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.placement import Command
from node_agent.commands import Runs

from tests.adapters.engines import Host, host, member
from tests.adapters.podman import PODMAN_MORE, image

__all__ = ["image"]

pytestmark = pytest.mark.slow


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        made.runs = Runs(runtime="podman", more=PODMAN_MORE)
        yield made


def in_container(image: str, *argv: str, **env: str) -> Any:
    return member(command=Command(image=image, argv=list(argv), env=env))


async def test_an_image_that_reads_as_an_option_is_refused(here: Host, image: str) -> None:
    host_root = ["--volume=/:/host", image, "/bin/sh", "-c", "exit 9"]
    for odd in ("--privileged", "--pull=never", " --privileged", "", " "):
        here.agent().wish([in_container(odd, *host_root)])
        failed = await here.told.said("failed")
        assert "is no image" in failed.reason
        here.told.facts.clear()


async def test_words_after_the_image_are_the_containers(here: Host, image: str) -> None:
    program = "busybox test $1 = --privileged && exit 7"
    here.agent().wish([in_container(image, "/bin/sh", "-c", program, "--", "--privileged")])
    assert (await here.told.said("failed")).exit_code == 7
