"""Containers that are to be gone: what podman started outlives a podman that was killed."""

import asyncio
import logging
import os
import shutil

from node_agent.runtimes.surroundings import clean

WITHIN_S = 20.0

logger = logging.getLogger(__name__)


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
