"""Room where the agent keeps its data: too little is told of while there is some left to tell it with."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from meshkit.telemetry import METRICS
from meshkit.ticks import tick

from node_agent.health import Health
from node_agent.telling import Teller

LOOK_EVERY_S = 5.0
RESERVE = "reserve"
RESERVE_BYTES = 1024 * 1024
"""Given up once there is no room at all: what is told then has it."""
ENOUGH = 2
"""So many times the least are enough again: a disk at the edge is told of once."""
MIB = 1024 * 1024

logger = logging.getLogger(__name__)


class Disk:
    """Tells when there is less room than ``least_mib``; the node takes no new work from then on."""

    def __init__(
        self,
        folder: Path,
        health: Health,
        least_mib: int,
        *,
        free: Callable[[Path], int] | None = None,
    ) -> None:
        self._folder = folder
        self._health = health
        self._least = least_mib * MIB
        self._free = free or _free
        self._told: int | None = None

    async def watch(self, teller: Teller) -> None:
        """Look for ever."""
        while True:
            self.look(teller)
            await tick(LOOK_EVERY_S)

    def look(self, teller: Teller) -> None:
        """Look once: keep the reserve, or give it up and tell.

        It is told again once a check has passed meanwhile: whoever returns the node hears that nothing has changed.
        """
        reserve = self._folder / RESERVE
        free = self._free(self._folder)
        METRICS.set("mesh_agent_disk_free_bytes", free)
        if free >= self._least * (1 if self._told is None else ENOUGH):
            if self._told is not None:
                logger.info("there is room again in %s", self._folder)
                self._told = None
            _keep(reserve)
            return
        if free < RESERVE_BYTES:
            reserve.unlink(missing_ok=True)
        if self._told == self._health.last:
            return
        self._told = self._health.last
        detail = f"{free // MIB} MiB are left where its agent keeps its data, of at least {self._least // MIB}"
        logger.error("%s: %s", self._folder, detail)
        action = f"make room in {self._folder}, then return the node"
        self._health.take_out("disk", detail, action, teller)


def _free(folder: Path) -> int:
    """Return how many bytes a user may still write there."""
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize


def _keep(reserve: Path) -> None:
    """Have the reserve stand there, all of it."""
    try:
        if reserve.exists() and reserve.stat().st_size >= RESERVE_BYTES:
            return
        with reserve.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
    except OSError as fault:
        logger.warning("no reserve can be kept: %s", fault)
