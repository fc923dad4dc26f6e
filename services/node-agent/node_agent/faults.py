"""Errors of the hardware as they happen: heard from the driver and the kernel, judged, told, and acted on."""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from mesh_contracts.node import Check, HealthChanged, Verdict
from meshkit.telemetry import METRICS
from meshkit.ticks import tick

from node_agent.devices import Devices
from node_agent.domain.verdicts import of_device
from node_agent.domain.xid import (
    SAME_S,
    Xid,
    burst_s,
    bursts_of,
    goes_on,
    judge,
    same,
    unit_of,
    waits_for_text,
)
from node_agent.domain.xid_lines import read_line
from node_agent.domain.xid_table import ACTIONS, NVLINK, TEARDOWN
from node_agent.error_history import ErrorHistory
from node_agent.health import Health
from node_agent.kernel_log import KernelLog
from node_agent.telling import Teller

WAITING_MAX = 1_024
"""Errors that wait to be judged; a storm beyond that is counted, not kept."""
STUCK_AFTER_S = 5.0
"""A call to the driver that takes longer is told of: with the look each second, within 10 s."""
LOOK_EVERY_S = 1.0
TEXT_WITHIN_S = 2.0
"""An error of which only the kernel's line, or another error, says how bad it is waits so long for that; then it is taken as bad."""
LINK_TEXT_WITHIN_S = 0.03
"""So long one waits that is bad unless that line says otherwise: the line is mostly there before the driver tells."""

logger = logging.getLogger(__name__)


class Faults:
    """Hears the errors of this server's devices, and sees to what follows."""

    def __init__(
        self, devices: Devices, health: Health, kernel_log: Path, folder: Path | None = None
    ) -> None:
        self._devices = devices
        self._health = health
        self._log = KernelLog(kernel_log, self._line, folder)
        self._buses: list[str] = []
        self._waiting: asyncio.Queue[tuple[Xid, bool]] = asyncio.Queue(WAITING_MAX)
        self._history = ErrorHistory(folder)
        self._asked: dict[int, float] = {}
        self._stuck = False
        self._gone: set[int] = set()
        self._waiting_for_more: set[Xid] = set()

    async def run(self, teller: Teller) -> None:
        """Hear for ever."""
        loop = asyncio.get_running_loop()
        self._buses = self._devices.buses()

        def told(xid: Xid) -> None:
            loop.call_soon_threadsafe(self._put, xid)

        stop = self._devices.watch(told)
        if self._buses:
            self._log.start()
        try:
            while True:
                await self._judge(*await self._waiting.get(), teller)
        finally:
            self._log.stop()
            stop()

    async def watch_driver(self, teller: Teller) -> None:
        """Tell, for ever, when the driver does not answer: what hangs in it may never come back."""
        while True:
            await tick(LOOK_EVERY_S)
            self._tell_gone(teller)
            stuck_s = self._devices.stuck_s
            if stuck_s > STUCK_AFTER_S and not self._stuck:
                detail = f"the driver has not answered for {stuck_s:.0f} s"
                action = "drain the node, and power-cycle it: a driver that hangs seldom comes back"
                for device in self._devices.listed():
                    logger.error("%s: %s", device.device_id, detail)
                checks = [
                    of_device("driver", device, "inconclusive", detail, action)
                    for device in self._devices.listed()
                ]
                self._tell(checks, "inconclusive", teller)
            self._stuck = stuck_s > STUCK_AFTER_S

    def _tell_gone(self, teller: Teller) -> None:
        """Tell of the devices that the driver has lost since the last look: it may tell of them in no other way."""
        gone = dict(self._devices.gone)
        fresh, self._gone = gone.keys() - self._gone, set(gone)
        for index in sorted(fresh):
            device = self._devices.listed()[index]
            logger.error("%s: %s", device.device_id, gone[index])
            self._health.must_pass_twice("standard")
            found = of_device("driver", device, "fail", gone[index], ACTIONS["reboot"])
            self._tell([found], "fail", teller)

    def _line(self, line: str) -> bool:
        xid = read_line(line, self._buses)
        if xid is not None:
            self._put(xid)
        return xid is not None

    def _put(self, xid: Xid, late: bool = False) -> None:
        if late:
            self._waiting_for_more.discard(xid)
        try:
            self._waiting.put_nowait((xid, late))
        except asyncio.QueueFull:
            METRICS.count("mesh_xids_total", code=str(xid.code), kind="not kept")

    async def _judge(self, xid: Xid, late: bool, teller: Teller) -> None:
        if not late and (xid.code == TEARDOWN or (self._log.open and waits_for_text(xid))):
            self._wait_for_more(xid)
            return
        if late and burst_s(xid):
            await self._judge_burst(xid, teller)
            return
        now = time.monotonic()
        xid = self._placed(xid, now)
        burst = self._burst(xid)
        told = self._told_of(xid, burst)
        if told and not self._may_be_worse(xid, burst):
            return
        if xid.device is not None:
            recovery = await asyncio.to_thread(self._devices.recovery, xid.device)
            xid = xid._replace(recovery=recovery)
        if told and not xid.recovery:
            return
        self._follow(xid, teller)

    def _follow(self, xid: Xid, teller: Teller) -> None:
        """Tell of an error, and see to what follows from it."""
        judged = judge(xid, self._history.errors(xid.at))
        self._history.add(xid)
        METRICS.count("mesh_xids_total", code=str(xid.code), kind=judged.kind)
        logger.warning("%s on device %s: %s", judged.detail, xid.device, judged.action)
        if judged.kind == "note":
            return
        device = self._devices.listed()[xid.device or 0]
        verdict: Verdict = "fail" if judged.out else "warn"
        name = "sxid" if xid.switch else "xid"
        found = of_device(name, device, verdict, judged.detail, judged.action, xid=xid.code)
        if judged.out:
            self._health.must_pass_twice("standard")
        self._tell([found], verdict, teller)
        if burst_s(xid):
            # What else comes of it is heard first: where it is, and whether it is in one place.
            asyncio.get_running_loop().call_later(burst_s(xid), self._put, xid, True)
        elif judged.test is not None:
            self._health.suspect(device, judged.test)

    def _burst(self, xid: Xid) -> list[Xid]:
        """Return the errors that are one with this, where several are; the first tells when it began."""
        apart_s = burst_s(xid)
        if not apart_s:
            return []
        mine = [
            one
            for one in self._history.errors(xid.at)
            if (one.device, one.code) == (xid.device, xid.code)
        ]
        bursts = bursts_of(mine, apart_s)
        return bursts[-1] if bursts and goes_on(bursts[-1], xid.at, apart_s) else []

    def _told_of(self, xid: Xid, burst: Sequence[Xid]) -> bool:
        """Tell whether an error is one that was told of already; what is new of it is remembered."""
        if burst:
            if (unit_of(xid), xid.owner) in {(unit_of(one), one.owner) for one in burst}:
                self._history.lengthen(burst[0], xid.at)
            else:
                self._history.add(xid)
        if burst_s(xid):
            return bool(burst)
        told = any(same(xid, one) for one in self._history.errors(xid.at, SAME_S))
        if told and xid.text:
            logger.info(
                "of XID %d on device %s the kernel's log says: %s", xid.code, xid.device, xid.text
            )
        return told

    def _may_be_worse(self, xid: Xid, burst: Sequence[Xid]) -> bool:
        """Tell whether a GPU is to be asked amid a burst whether it wants to be reset: now and then, until it said so."""
        if not burst or xid.device is None or any(one.recovery for one in burst):
            return False
        if xid.at - self._asked.get(xid.device, 0.0) < SAME_S:
            return False
        self._asked[xid.device] = xid.at
        return True

    async def _judge_burst(self, first: Xid, teller: Teller) -> None:
        """See to what follows from errors that are one, once all of them have come: their first was told of."""
        alike = [one for one in self._history.errors(time.monotonic()) if one.code == first.code]
        mine = [one for one in alike if one.device == first.device]
        if not mine:
            return
        judged = judge(mine[-1], [one for one in alike if one is not mine[-1]])
        if judged.test is not None:
            logger.warning("%s: a check of the level %s is due", judged.detail, judged.test)
            self._health.suspect(self._devices.listed()[first.device or 0], judged.test)
        if first.device is not None and not any(one.recovery for one in mine if one.at >= first.at):
            # It may have come to want a reset amid them, and nobody asked.
            recovery = await asyncio.to_thread(self._devices.recovery, first.device)
            if recovery:
                self._follow(self._placed(first, time.monotonic())._replace(recovery=recovery), teller)

    def _placed(self, xid: Xid, now: float) -> Xid:
        """Return an error with when it was heard, and whose work was there."""
        if xid.device is None:
            return xid._replace(at=now)
        device = self._devices.listed()[xid.device]
        return xid._replace(at=now, owner=self._health.whose(device.device_id), model=device.model)

    def _wait_for_more(self, xid: Xid) -> None:
        """Have an error judged once more after a while, without what may tell more of it, where that has not come by then."""
        if xid not in self._waiting_for_more:
            self._waiting_for_more.add(xid)
            within_s = LINK_TEXT_WITHIN_S if xid.code == NVLINK else TEXT_WITHIN_S
            asyncio.get_running_loop().call_later(within_s, self._put, xid, True)

    def _tell(self, checks: list[Check], verdict: Verdict, teller: Teller) -> None:
        number = self._health.last
        teller.tell(HealthChanged, verdict=verdict, level="quick", check=number, checks=checks)
