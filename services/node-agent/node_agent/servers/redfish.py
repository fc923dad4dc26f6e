"""A real server, held through its BMC: the agent runs beside it, on its DPU or a host of the operator's."""

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial
from typing import Literal

from mesh_contracts.node import Check

from node_agent.devices.declared import Declared
from node_agent.domain.proof import Drive, Found, Report, Wiped, attested, erased, mismatches
from node_agent.servers import Evidence, Reached, ServerFault
from node_agent.servers.bmc import Bmc
from node_agent.servers.here import is_here
from node_agent.servers.image import EraseImage, Hold
from node_agent.servers.line import Line
from node_agent.servers.power import Power

RESETS_MAX = 2
"""So often a BMC is asked to start anew that shows nothing of it."""
SEEN_DRIVES_MAX = 128
SEEN_CHARS_MAX = 500
METHOD_CHARS_MAX = 1_000

logger = logging.getLogger(__name__)


class RedfishServer:
    """A server behind a BMC. Each step begins by bringing about the power state that it needs."""

    def __init__(
        self,
        line: Line,
        hold: Hold,
        quality: Literal["measured", "rehearsed"],
        devices: Declared | None = None,
    ) -> None:
        self.quality = quality
        self._devices = devices
        self.line = line
        self._hold = hold
        self._pace = line.pace
        self._power = Power(line, hold.address, on_asked=devices is not None and devices.looking)
        self._image = EraseImage(line, self._power, hold, devices)

    async def hand_over(self) -> Reached:
        """Check the firmware, change the BMC's password, boot what the tenant is to have."""
        await self._not_here()
        await self._power.off()
        await self._check_firmware()
        self._nobody_looked()
        await self._change_password()
        await self._power.boot(self._hold.lease_image)
        console = await self.line.ask("the console", Bmc.console)
        await self.line.leave()
        return Reached(self._hold.address, console)

    async def take_back(self) -> None:
        """Power off, let go of the tenant's image, change the BMC's password."""
        await self._power.off(graceful=True)
        await self.line.ask("ejecting the image", Bmc.eject)
        await self._change_password()
        await self.line.leave()

    async def erase(self) -> Evidence:
        """Erase the drives through the BMC and by the erase image, then start the BMC anew."""
        self._nobody_looked()
        await self._power.off()
        drives, wiped, report, left = await self._wiped()
        bmc_reset = await self._reset_bmc()
        verdict, method = erased(drives, wiped, bmc_reset)
        seen: dict[str, int | float | str | list[int]] = {
            "drives": len(drives),
            "bmc_reset": bmc_reset or "not shown",
            "memory": ", ".join(report.scrubbed) if report and report.scrubbed else "power off",
            "report": left[:SEEN_CHARS_MAX],
        }
        for one in wiped[:SEEN_DRIVES_MAX]:
            said = f"{one.verdict}: {one.method} (log {one.log_id})"
            seen[f"drive {one.serial}"[:SEEN_CHARS_MAX]] = said[:SEEN_CHARS_MAX]
        await self.line.leave()
        return Evidence(verdict=verdict, method=method[:METHOD_CHARS_MAX], seen=seen)

    async def examine(self) -> None:
        """Erase a free server, and have the erase image look at its accelerators meanwhile."""
        await self._not_here()
        if self._hold.report_url is None:
            raise ServerFault(
                "nobody looks at the accelerators: set AGENT_ERASE_REPORT_URL, where the erase image leaves what it found"
            )
        if self._devices is not None:
            self._devices.look()
        try:
            await self._look()
        except Exception:
            self._nobody_looked()
            with suppress(ServerFault):
                await self.rest()
            raise
        await self.line.leave()

    async def _look(self) -> None:
        await self._power.off(graceful=True)
        drives, wiped, report, left = await self._wiped()
        if report is None:
            raise ServerFault(f"the erase image left no report: {left[:SEEN_CHARS_MAX]}")
        verdict, method = erased(drives, wiped, "not asked to")
        if verdict != "pass":
            raise ServerFault(f"the server was not erased: {method}"[:METHOD_CHARS_MAX])

    async def _wiped(self) -> tuple[list[Drive], list[Wiped], Report | None, str]:
        """Erase a server that is off: return its drives, what became of each, the image's report or why there is none."""
        off_since = time.monotonic()
        await self.line.ask("ejecting the image", Bmc.eject)
        drives = await self.line.ask("listing the drives", Bmc.drives)
        wiped = await self._sanitized(drives)
        await asyncio.sleep(self._pace.off_at_least_s - (time.monotonic() - off_since))
        if self._hold.report_url is None:
            return drives, wiped, None, "none asked for"
        report, left = await self._image.run()
        return drives, wiped + ([] if report is None else report.drives), report, left

    async def rest(self) -> None:
        """Leave a server that nobody has as it should be after a look: off, nothing in its drive, nothing known."""
        self._nobody_looked()
        await self._not_here()
        await self._power.off()
        await self.line.ask("ejecting the image", Bmc.eject)
        await self.line.leave()

    async def attest(self, checks: list[Check]) -> Evidence:
        """Compare what the BMC tells with what is expected; the accelerators' checks count."""
        found = Found(
            firmware=await self.line.ask("listing the firmware", Bmc.firmware),
            secure_boot=await self.line.ask("secure boot", Bmc.secure_boot),
            accounts=await self.line.ask("listing the BMC's accounts", Bmc.accounts),
        )
        verdict, method = attested(self._hold.expected, found, checks)
        seen: dict[str, int | float | str | list[int]] = {
            f"firmware {name}": version for name, version in sorted(found.firmware.items())
        }
        seen["secure_boot"] = {True: "on", False: "off", None: "not told"}[found.secure_boot]
        seen["accounts"] = ", ".join(found.accounts)[:SEEN_CHARS_MAX]
        seen["checks"] = len(checks)
        await self.line.leave()
        return Evidence(verdict=verdict, method=method[:METHOD_CHARS_MAX], seen=seen)

    async def _check_firmware(self) -> None:
        expected = self._hold.expected
        if expected is None:
            return
        found = await self.line.ask("listing the firmware", Bmc.firmware)
        wrong = mismatches(expected.components, found)
        if wrong:
            raise ServerFault(
                f"firmware is not as expected: {'; '.join(wrong)}; update it, or AGENT_FIRMWARE_FILE"
            )

    async def _change_password(self) -> None:
        keys = self.line.keys
        if keys.fixed:
            return
        what = "changing the BMC's password"
        held, chars = await self.line.ask(what, lambda bmc: (bmc.login, bmc.password_chars()))
        fresh = keys.begin(held, chars)
        refused: ServerFault | None = None
        try:
            await self.line.ask(what, lambda bmc: bmc.change_password(fresh))
        except ServerFault as fault:
            refused = fault  # The answer may be lost, and the password changed all the same.
        await self.line.leave()
        if await self.line.ask(what, lambda bmc: bmc.login) != fresh:
            raise refused or ServerFault(
                f"{what}: the BMC said yes and still takes the old one: reset it"
            )

    async def _sanitized(self, drives: list[Drive]) -> list[Wiped]:
        """Erase all drives at once through the BMC; those of which it offers or shows nothing are left out."""
        begun = [(drive, found) for drive in drives if (found := await self._begin(drive))]
        end = time.monotonic() + self._pace.sanitize_s
        wiped = []
        for drive, (kind, task) in begun:
            what = f"erasing drive {drive.serial or drive.name}"
            stopped, log_id = await self.line.await_(
                what, partial(self._task, what, task), end - time.monotonic(), "replace the drive"
            )
            method = f"{kind} through Drive.SecureErase"
            wiped.append(
                Wiped(serial=drive.serial, method=method, log_id=log_id, verdict="pass")
                if stopped == "OK"
                else Wiped(
                    serial=drive.serial, method=f"{method}: {stopped}", log_id=log_id, verdict="fail"
                )
            )
        return wiped

    async def _begin(self, drive: Drive) -> tuple[str, str] | None:
        """Begin to erase one drive; return how, and the task that will tell of it, if the BMC has both."""
        if drive.erase is None:
            return None
        try:
            kind, task = await self.line.ask(f"erasing {drive.name}", lambda bmc: bmc.erase(drive))
        except ServerFault as fault:
            logger.warning("%s; what remains is the erase image's", fault)
            return None
        return None if task is None else (kind, task)

    async def _task(self, what: str, path: str) -> tuple[str, str] | None:
        end, log_id = await self.line.ask(what, lambda bmc: bmc.task(path))
        return None if end is None else (end, log_id)

    async def _not_here(self) -> None:
        if is_here(await self.line.ask("the system's UUID", lambda bmc: bmc.uuid)):
            raise ServerFault(
                "the agent runs on the server itself: run it beside it, on a DPU or a host"
            )

    def _nobody_looked(self) -> None:
        if self._devices is not None:
            self._devices.forget()

    async def _reset_bmc(self) -> str | None:
        """Start the BMC anew; return what shows that it did, if anything does."""
        what = "the BMC's last start"
        before = await self.line.ask(what, Bmc.manager_reset_at)
        away, fresh = False, False
        for _ in range(RESETS_MAX):
            if not await self.line.ask("resetting the BMC", Bmc.reset_manager):
                return None
            end = time.monotonic() + self._pace.bmc_away_s
            while not (away or fresh) and time.monotonic() < end:
                await asyncio.sleep(self._pace.look_s)
                state, now = await self.line.once(Bmc.manager_reset_at)
                away = state == "away"
                fresh = state == "answers" and before is not None and now != before
            if away or fresh:
                break

        async def back() -> bool | None:
            state, _ = await self.line.once(Bmc.power)
            return True if state == "answers" else None

        advice = "cut its power for a minute"
        await self.line.await_("the BMC is back", back, self._pace.bmc_back_s, advice)
        if before is None:
            return "it was away" if away else None
        now = await self.line.ask(what, Bmc.manager_reset_at)
        return None if now == before else f"started at {now}"
