"""A real server, held through its BMC: the agent runs beside it, on its DPU or a host of the operator's."""

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
from mesh_contracts.node import Check

from node_agent.domain.proof import Drive, Expected, Found, Report, Wiped, attested, erased, mismatches
from node_agent.servers import Evidence, Reached, ServerFault
from node_agent.servers.bmc import Bmc
from node_agent.servers.here import is_here
from node_agent.servers.line import Line
from node_agent.servers.report import read_report

RESETS_MAX = 2
"""So often a BMC is asked to start anew that shows nothing of it."""
SEEN_DRIVES_MAX = 128
SEEN_CHARS_MAX = 500
METHOD_CHARS_MAX = 1_000

logger = logging.getLogger(__name__)


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


class RedfishServer:
    """A server behind a BMC. Each step begins by bringing about the power state that it needs."""

    def __init__(self, line: Line, hold: Hold, quality: Literal["measured", "rehearsed"]) -> None:
        self.quality = quality
        self.line = line
        self._hold = hold
        self._pace = line.pace

    async def hand_over(self) -> Reached:
        """Check the firmware, change the BMC's password, boot what the tenant is to have."""
        if is_here(await self.line.ask("the system's UUID", lambda bmc: bmc.uuid)):
            raise ServerFault(
                "the agent runs on the server itself: run it beside it, on a DPU or a host"
            )
        await self._power_off(graceful=False)
        await self._check_firmware()
        await self._change_password()
        await self._boot(self._hold.lease_image)
        console = await self.line.ask("the console", Bmc.console)
        await self.line.leave()
        return Reached(self._hold.address, console)

    async def take_back(self) -> None:
        """Power off, let go of the tenant's image, change the BMC's password."""
        await self._power_off(graceful=True)
        await self.line.ask("ejecting the image", Bmc.eject)
        await self._change_password()
        await self.line.leave()

    async def erase(self) -> Evidence:
        """Erase the drives through the BMC and by the erase image, then start the BMC anew."""
        await self._power_off(graceful=False)
        off_since = time.monotonic()
        await self.line.ask("ejecting the image", Bmc.eject)
        drives = await self.line.ask("listing the drives", Bmc.drives)
        wiped = await self._sanitized(drives)
        await asyncio.sleep(self._pace.off_at_least_s - (time.monotonic() - off_since))
        report, left = None, "none asked for"
        if self._hold.report_url is not None:
            known = await self._report()
            await self._boot(self._hold.erase_image)
            report, left = await self._fresh_report(known)
            await self._power_off(graceful=False)
            await self.line.ask("ejecting the image", Bmc.eject)
        wiped += [] if report is None else report.drives
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

    async def _power_off(self, *, graceful: bool) -> None:
        if await self._power() == "Off" or (graceful and await self._shut_down()):
            return
        if not await self._reset("ForceOff"):
            raise ServerFault("the BMC cannot cut the server's power: take the server out")
        await self._until("Off", self._pace.forced_s)

    async def _shut_down(self) -> bool:
        """Have the tenant's system end; false where it does not in time."""
        try:
            if await self._reset("GracefulShutdown"):
                await self._until("Off", self._pace.graceful_s)
                return True
        except ServerFault as fault:
            logger.warning("%s did not shut down (%s); its power is cut", self._hold.address, fault)
        return False

    async def _boot(self, image: str | None) -> None:
        """Start the server, which is off, from an image or from the network, this once."""
        await self.line.ask("ejecting the image", Bmc.eject)
        if image is not None:
            what = f"inserting {image}"

            async def inserted() -> bool | None:
                return await self.line.ask(what, Bmc.inserted) or None

            await self.line.ask(what, lambda bmc: bmc.insert(image))
            advice = "does the BMC reach it?"
            await self.line.await_(what, inserted, self._pace.media_s, advice)
        await self.line.ask("the boot device", lambda bmc: bmc.boot_once(disc=image is not None))
        if not await self._reset("On", "ForceOn"):
            raise ServerFault("the BMC cannot power the server on: take the server out")
        await self._until("On", self._pace.on_s)

    async def _power(self) -> str:
        return await self.line.ask("the power state", Bmc.power)

    async def _reset(self, *kinds: str) -> bool:
        return await self.line.ask(f"power: {kinds[0]}", lambda bmc: bmc.reset(*kinds))

    async def _until(self, state: str, within_s: float) -> None:
        last = "unknown"

        async def look() -> str | None:
            nonlocal last
            last = await self._power()
            return last if last == state else None

        try:
            await self.line.await_(f"power {state}", look, within_s, "")
        except ServerFault:
            if last == state:
                raise
            raise ServerFault(
                f"the server's power is {last}, not {state}, {within_s:g} s after that was asked for:"
                " look at the chassis and the BMC's log"
            ) from None

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

    async def _report(self) -> Report | None:
        url = self._hold.report_url
        assert url is not None
        system = await self.line.ask("the system's UUID", lambda bmc: bmc.uuid)
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
            found = await self.line.await_("the erase report", look, self._pace.report_s, why)
        except ServerFault:
            return None, why
        return found, found.report_id

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
