"""Containers: what podman is started with, and that nothing is left of one that was killed."""

import asyncio
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence

from mesh_contracts.placement import Resources
from mesh_contracts.units import is_image

from node_agent.runtimes.surroundings import REAL, NotServed, clean

WITHIN_S = 20.0
VARIABLES_READ = "--env-file=/dev/stdin"
"""Has a container get the variables that podman reads at its start, as ``variables`` writes them."""
VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
"""The name of a variable that a container can be given; podman takes ``*`` for any of its own."""

logger = logging.getLogger(__name__)


def name_of(workload_id: str) -> str:
    """Return what the container of a workload is called."""
    return f"mesh-{workload_id}"


def surroundings(ours: Mapping[str, str]) -> dict[str, str]:
    """Return podman's own environment: clean, with the home in which it keeps its images."""
    home = {"HOME": ours["HOME"]} if "HOME" in ours else {}
    return {**clean(ours), **home}


def variables(given: Mapping[str, str]) -> bytes:
    """Return what podman reads of a container's variables: a line each. Raises ``NotServed``."""
    for name, value in given.items():
        if VARIABLE.fullmatch(name) is None:
            raise NotServed(
                f"{name!r} is no name of a variable that a container can be given:"
                " letters, digits, '_', '.' and '-', and no digit first"
            )
        if "\n" in value or "\r" in value:
            raise NotServed(
                f"the variable {name} has more than one line, which a container cannot be given:"
                " encode it, or put it into the image"
            )
    return "".join(f"{name}={value}\n" for name, value in given.items()).encode()


def check_image(image: str) -> None:
    """Raise ``NotServed`` where podman could take a text for anything but an image of a registry."""
    if not is_image(image):
        raise NotServed(
            f"{image!r} is no image of a registry: write it like registry.example/team/train:1"
        )


def run(
    workload_id: str,
    *,
    resources: Resources | None,
    devices: Sequence[str],
    known: Iterable[str],
    more: Sequence[str],
) -> list[str]:
    """Return a ``podman run`` up to ``--`` and its image: with its devices by CDI, its memory and its CPU bounded.

    ``known`` are the variables that it gets, by name alone: their values are in podman's own environment,
    and in no command line. So their names are ours, never a tenant's (``VARIABLES_READ``). Raises ``NotServed`` where there is no podman.
    """
    found = shutil.which("podman")
    if found is None:
        raise NotServed(
            "there is no podman on this server: install it, or start the agent without what needs it"
            " (AGENT_JOBS=process; AGENT_VLLM without AGENT_VLLM_IMAGE)"
        )
    limits: list[str] = []
    if resources is not None and resources.memory_mib:
        limits += ["--memory", f"{resources.memory_mib}m"]
    if resources is not None and resources.cpu_milli:
        limits += ["--cpus", f"{resources.cpu_milli / 1_000:g}"]
    cards = [f"--device=nvidia.com/gpu={one}" for one in devices if one.startswith(REAL)]
    return [
        *(found, "run", "--rm", "--replace", "--name", name_of(workload_id)),
        *("--network=host", "--pull=missing", *limits, *cards),
        *(*(f"--env={name}" for name in sorted(known)), *more),
    ]


async def remove(name: str) -> bool:
    """End and remove a container, if it is there; without a name nothing is done. False where it may be there still."""
    podman = shutil.which("podman") if name else None
    if podman is None:
        return True
    removing = await asyncio.create_subprocess_exec(
        *(podman, "rm", "--force", "--ignore", "--time", "0", name),
        env=surroundings(os.environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            _, said = await removing.communicate()
    except TimeoutError:
        logger.error("container %s was not removed within %s s", name, WITHIN_S)  # noqa: TRY400
        return False
    finally:
        if removing.returncode is None:
            removing.kill()
            await removing.wait()
    if removing.returncode != 0:
        logger.error("container %s is not removed: %s", name, said.decode(errors="replace").strip())
    return removing.returncode == 0
