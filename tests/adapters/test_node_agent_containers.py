"""Members of jobs in containers: what a tenant writes is an image and words for it, and says nothing to podman."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.placement import Command
from node_agent.commands import Runs

from tests.adapters.engines import Host, host, member, until
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


async def test_a_tenants_variables_are_the_containers_and_say_nothing_to_podman(
    here: Host, image: str
) -> None:
    given = {
        "LD_PRELOAD": "/nowhere/evil.so",
        "CONTAINERS_CONF": "/nowhere/containers.conf",
        "HOME": "/nowhere",
        "PATH": "/bin",
        "TOKEN": ' "a secret" = $HOME # kept as it is ',
        "EMPTY": "",
    }
    program = "busybox env; busybox sleep 600"
    wished = in_container(image, "/bin/sh", "-c", program, **given)
    agent = here.agent()
    agent.wish([wished])
    folder = here.folder / wished.workload_id
    await until(lambda: "MESH_JOB_ID=" in text(folder / "log") and here.found(wished).engine_pid)
    lines = text(folder / "log").splitlines()
    assert {f"{name}={value}" for name, value in given.items()} <= set(lines)
    assert {"RANK=0", "WORLD_SIZE=1"} <= set(lines)
    found = here.found(wished)
    for pid in (found.shim_pid, found.engine_pid):
        for said in ("environ", "cmdline"):
            seen = text(Path(f"/proc/{pid}/{said}"))
            assert "a secret" not in seen
            assert "/nowhere" not in seen
    files = [one for one in folder.iterdir() if one.is_file() and not one.name.startswith("log")]
    assert all("a secret" not in text(one) for one in files)
    agent.wish([])
    await here.told.said("stopped")


@pytest.mark.parametrize("name", ["*", "TOKEN*", "#A", "A B", "1A"])
async def test_a_name_that_podman_reads_otherwise_is_refused(here: Host, image: str, name: str) -> None:
    here.agent().wish([in_container(image, "/bin/sh", **{name: "1"})])
    assert "no name of a variable" in (await here.told.said("failed")).reason


async def test_a_variable_of_several_lines_is_refused_with_what_to_do(here: Host, image: str) -> None:
    here.agent().wish([in_container(image, "/bin/sh", KEY="-----BEGIN\nLD_PRELOAD=/evil.so")])
    failed = await here.told.said("failed")
    assert "the variable KEY has more than one line" in failed.reason
    assert "BEGIN" not in failed.reason


def text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
