"""Errors of the hardware as they happen: heard from the driver and the kernel, judged, told, and acted on."""

import asyncio
import logging
import time
from collections import deque
from pathlib import Path

from mesh_contracts.node import Check, HealthChanged, Verdict
from meshkit.telemetry import METRICS
from meshkit.ticks import tick

from node_agent.devices import Devices
from node_agent.domain.verdicts import of_device
from node_agent.domain.xid import (
    ACTIONS,
    DAY_S,
    KEPT_MAX,
    SAME_S,
    Xid,
    judge,
    read_line,
    same,
    waits_for_text,
)
from node_agent.health import Health
from node_agent.kernel_log import KernelLog
from node_agent.telling import Teller

WAITING_MAX = 1_024
"""Errors that wait to be judged; a storm beyond that is counted, not kept."""
STUCK_AFTER_S = 5.0
"""A call to the driver that takes longer is told of: with the look each second, within 10 s."""
LOOK_EVERY_S = 1.0
TEXT_WITHIN_S = 2.0
"""An error of which only the kernel's line says how bad it is waits so long for that line; then it is taken as bad."""

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
        self._seen: deque[tuple[float, Xid]] = deque(maxlen=KEPT_MAX)
        self._stuck = False
        self._gone: set[int] = set()
        self._without_text: set[Xid] = set()

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
            self._without_text.discard(xid)
        try:
            self._waiting.put_nowait((xid, late))
        except asyncio.QueueFull:
            METRICS.count("mesh_xids_total", code=str(xid.code), kind="not kept")

    async def _judge(self, xid: Xid, late: bool, teller: Teller) -> None:
        if self._log.open and waits_for_text(xid) and not late:
            self._wait_for_text(xid)
            return
        now = time.monotonic()
        if any(same(xid, one) for at, one in self._seen if now - at <= SAME_S):
            if xid.text:
                logger.info(
                    "of XID %d on device %s the kernel's log says: %s", xid.code, xid.device, xid.text
                )
            return
        if xid.device is not None:
            recovery = await asyncio.to_thread(self._devices.recovery, xid.device)
            xid = xid._replace(recovery=recovery)
        judged = judge(xid, [one for at, one in self._seen if now - at <= DAY_S])
        self._seen.append((now, xid))
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
        if judged.test is not None:
            self._health.suspect(device, judged.test)

    def _wait_for_text(self, xid: Xid) -> None:
        """Have an error judged once more after a while, without the kernel's line, where that has not come by then."""
        if xid not in self._without_text:
            self._without_text.add(xid)
            asyncio.get_running_loop().call_later(TEXT_WITHIN_S, self._put, xid, True)

    def _tell(self, checks: list[Check], verdict: Verdict, teller: Teller) -> None:
        number = self._health.last
        teller.tell(HealthChanged, verdict=verdict, level="quick", check=number, checks=checks)
