"""Containers: what podman is started with, and that nothing is left of one that was killed."""

import asyncio
import logging
import os
import shutil
from collections.abc import Iterable, Sequence

from mesh_contracts.placement import Resources

from node_agent.runtimes.surroundings import REAL, NotServed, clean

WITHIN_S = 20.0

logger = logging.getLogger(__name__)


def name_of(workload_id: str) -> str:
    """Return what the container of a workload is called."""
    return f"mesh-{workload_id}"


def check_image(image: str) -> None:
    """Return where podman would take a text for an image, and for nothing else. Raises ``NotServed``."""
    if image.startswith("-") or image.split() != [image]:
        raise NotServed(
            f"{image!r} is no image: its name has no spaces, and does not begin with a dash"
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
    and in no command line. Raises ``NotServed`` where there is no podman.
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


async def remove(name: str) -> None:
    """End and remove a container, if it is there; without a name nothing is done."""
    podman = shutil.which("podman") if name else None
    if podman is None:
        return
    removing = await asyncio.create_subprocess_exec(
        *(podman, "rm", "--force", "--ignore", "--time", "0", name),
        env={**clean(os.environ), "HOME": os.environ.get("HOME", "/")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            _, said = await removing.communicate()
    except TimeoutError:
        logger.error("container %s was not removed within %s s", name, WITHIN_S)  # noqa: TRY400
        return
    finally:
        if removing.returncode is None:
            removing.kill()
            await removing.wait()
    if removing.returncode != 0:
        logger.error("container %s is not removed: %s", name, said.decode(errors="replace").strip())
