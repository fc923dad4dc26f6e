"""A server that is not there: each step of a lease takes a moment, and all that is recorded says that it was rehearsed."""

import asyncio
from collections.abc import Callable
from typing import Literal

from mesh_contracts.node import Check

from node_agent.devices.rehearsal import LeaseFault
from node_agent.domain.verdicts import worst
from node_agent.servers import Evidence, Reached, ServerFault

STEP_S = 0.2
"""How long each step takes."""


class RehearsalServer:
    """Does nothing, slowly enough to be watched. ``faulty`` gives the step that is to go wrong now, if any."""

    quality: Literal["measured", "rehearsed"] = "rehearsed"

    def __init__(self, name: str, faulty: Callable[[], LeaseFault | None]) -> None:
        self._name = name
        self._faulty = faulty

    async def hand_over(self) -> Reached:
        """Return an address at which nobody answers."""
        await self._step("hand_over")
        return Reached(f"{self._name}.rehearsal.invalid:22")

    async def take_back(self) -> None:
        """Take a moment."""
        await self._step("take_back")

    async def erase(self) -> Evidence:
        """Take a moment; nothing is erased, as nothing is there."""
        await self._step("erase")
        return Evidence(verdict="pass", method="rehearsal: there are no disks")

    async def attest(self, checks: list[Check]) -> Evidence:
        """Take a moment; the checks of the rehearsed devices count."""
        await self._step("attest")
        return Evidence(
            verdict=worst(one.verdict for one in checks),
            method="rehearsal: there is no firmware; the health check ran on its references",
            seen={"checks": len(checks)},
        )

    async def _step(self, step: str) -> None:
        await asyncio.sleep(STEP_S)
        fault = self._faulty()
        if fault is not None and fault.step == step:
            raise ServerFault(f"rehearsal: {fault.detail}")
