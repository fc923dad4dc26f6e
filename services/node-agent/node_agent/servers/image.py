"""What a server boots once nobody has it any more: the erase image, and what that leaves."""

import asyncio
from pathlib import Path

import msgspec

from node_agent.devices.declared import Declared
from node_agent.domain.proof import Expected, Report
from node_agent.servers import ServerFault
from node_agent.servers.bmc import Bmc
from node_agent.servers.line import Line
from node_agent.servers.power import Power
from node_agent.servers.report import read_report


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says of a server: what it boots, where it is reached, what it is to be like.

    ``report_url`` is where the erase image leaves its record; without it no image is booted to erase. An
    image that is not set boots from the network.
    """

    address: str
    lease_image: str | None = None
    erase_image: str | None = None
    report_url: str | None = None
    ca_file: Path | None = None
    expected: Expected | None = None


class EraseImage:
    """Boots the erase image of a server, and reads what it leaves; ``devices`` remember what it found of them."""

    def __init__(self, line: Line, power: Power, hold: Hold, devices: Declared | None) -> None:
        self._line = line
        self._power = power
        self._hold = hold
        self._pace = line.pace
        self._devices = devices

    async def run(self) -> tuple[Report | None, str]:
        """Boot the erase image on a server that is off; return what it left, or why there is nothing."""
        known = await self._report()
        await self._power.boot(self._hold.erase_image)
        report, left = await self._fresh_report(known)
        await self._power.off()
        await self._line.ask("ejecting the image", Bmc.eject)
        if report is not None and self._devices is not None:
            self._devices.remember(report.accelerators)
        return report, left

    async def _report(self) -> Report | None:
        url = self._hold.report_url
        assert url is not None
        system = await self._line.ask("the system's UUID", lambda bmc: bmc.uuid)
        ca_file, within_s = self._hold.ca_file, self._pace.request_s
        return await asyncio.to_thread(read_report, url, system, ca_file, within_s)

    async def _fresh_report(self, known: Report | None) -> tuple[Report | None, str]:
        """Return the report of the run that was just begun; or nothing, and why there is none."""
        before = None if known is None else known.report_id
        why = f"none within {self._pace.report_s:g} s"

        async def look() -> Report | None:
            nonlocal why
            try:
                report = await self._report()
            except ServerFault as fault:
                why = str(fault)
                return None
            return None if report is None or report.report_id == before else report

        try:
            found = await self._line.await_("the erase report", look, self._pace.report_s, why)
        except ServerFault:
            return None, why
        return found, found.report_id
