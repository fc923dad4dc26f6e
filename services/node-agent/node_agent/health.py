"""Whether the devices compute correctly: when they are checked, and what is told of it.

Nothing is checked beside somebody's work, and whoever is to work somewhere ends the check there.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec
from mesh_contracts.node import Check, Device, HealthChanged
from meshkit.telemetry import METRICS
from meshkit.ticks import next_tick

from node_agent.devices import Devices
from node_agent.domain.dues import Dues, at_work, higher
from node_agent.domain.reconcile import check_is_due
from node_agent.domain.verdicts import Level, of_device, worst
from node_agent.probing import Checking, GaveWay, Probing, unjudged
from node_agent.runtimes.kept import keep
from node_agent.telling import Teller

LOOK_EVERY_S = 1.0
TIMES = 2
"""So often the level must pass that clears a fault of the hardware."""
SOUND = ("pass", "warn")
FILE = "health.json"
PEERS = "peers"
HANGS = "a check that was to give way was killed, and still hangs in the driver"
UNKNOWN = ""
"""Whose work it is that was there before the agent began."""

InUse = Callable[[], Collection[str]]
"""Returns the ids of the devices that somebody works on, or has leased."""

logger = logging.getLogger(__name__)


class _Last(msgspec.Struct, frozen=True):
    check: int | None
    stands: Level | None = None
    suspected: dict[str, Level] = {}


class _Wish:
    """A check that was wished for: what is still to be looked at, and what was found so far."""

    def __init__(self, number: int, devices: Sequence[Device]) -> None:
        self.number = number
        self.left = list(devices)
        self.found: list[Check] = []
        self.told = False


class Health:
    """Runs a check at the start, whenever one is wished for, and what else is due; remembers the last one's number.

    ``enrolment`` is the level of the very first, ``every_s`` how often an idle device is checked (0: never).
    """

    def __init__(
        self,
        devices: Devices,
        folder: Path,
        *,
        enrolment: Level = "quick",
        every_s: float = 0.0,
        probing: Checking | None = None,
    ) -> None:
        self._devices = devices
        self._probing = probing or Probing(devices, folder)
        self._dues = Dues(every_s)
        self._file = folder / FILE
        last = self._recall()
        self._last = None if last is None else last.check
        self._stands = None if last is None else last.stands
        for device_id, level in ({} if last is None else last.suspected).items():
            self._dues.suspect(device_id, level)
        self._first_level: Level = enrolment if self._last is None else "quick"
        self._faults_seen = 0
        self._wished = self._asked = 0
        self._wish: _Wish | None = None
        self._first_told = False
        self._more = asyncio.Event()

    @property
    def last(self) -> int:
        """The number of the last check that was run here, 0 before any wish."""
        return self._last or 0

    def must_pass_twice(self, level: Level) -> None:
        """Have the next check that is wished for run at that level, and pass twice: a fault of the hardware was seen.

        The highest level counts until then.
        """
        self._stands = level if self._stands is None else higher(self._stands, level)
        self._faults_seen += 1
        self._keep()

    def whose(self, device_id: str) -> str:
        """Return the project that used a device last, since it was checked; empty where none did, or nobody knows."""
        return self._dues.whose(device_id)

    def suspect(self, device: Device, level: Level) -> None:
        """Have a check of that level run once nobody works there, after a restart too."""
        self._dues.suspect(device.device_id, level)
        self._keep()
        self._more.set()

    def wish(self, check: int, asked: int = 0) -> None:
        """Have check ``check`` run, unless one of that number or above was; ``asked``: the last that a person asked for."""
        self._wished = max(self._wished, check)
        self._asked = max(self._asked, asked)
        self._more.set()

    async def first(self, in_use: InUse) -> list[Check]:
        """Return the check of an agent's start: of the level for an enrolment where none was ever told of.

        It clears no fault that was seen before: what that takes is run once nobody works there.
        """
        devices = self._devices.listed()
        if self._stands is not None:
            for one in devices:
                self._dues.suspect(one.device_id, self._stands)
        found, checked = await self._free(devices, self._first_level, in_use)
        left = [one for one in devices if one.device_id not in checked]
        self._dues.used([one.device_id for one in left], UNKNOWN)
        return found + at_work(left)

    async def run(self, first: "asyncio.Task[list[Check]]", teller: Teller, in_use: InUse) -> None:
        """Tell the verdict of the ``first`` check (begun before the node was known), then run on.

        Begun again after a fault it tells the first no more, and runs what is still due.
        """
        if not self._first_told:
            self._tell(self.last, await first, teller, self._first_level)
            self._first_told = True
        loop = asyncio.get_running_loop()
        while True:
            self._more.clear()
            if not await self._once(teller, in_use):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_tick(LOOK_EVERY_S, loop.time())):
                        await self._more.wait()

    async def check(self, level: Level = "quick") -> list[Check]:
        """Return the checks of all devices, whoever uses them."""
        found, checked = await self._free(self._devices.listed(), level, lambda: ())
        # This is told of with the lease: what was told of the devices before stands until they are checked once more.
        self._dues.used(checked, UNKNOWN)
        return found

    def take_out(self, name: str, detail: str, action: str, teller: Teller) -> None:
        """Tell that this server cannot be shown to be fit for work, though no check of a device says so."""
        found = [
            of_device(name, one, "inconclusive", detail, action) for one in self._devices.listed()[:1]
        ]
        teller.tell(HealthChanged, verdict="inconclusive", level="quick", check=self.last, checks=found)

    async def give_way(self, device_ids: Collection[str] | None = None) -> None:
        """End what checks these devices (by default any); once this returns nothing of it runs there."""
        every = [device.device_id for device in self._devices.listed()]
        await self._probing.give_way(every if device_ids is None else device_ids)

    async def make_way(
        self, device_ids: Collection[str], teller: Teller, *, project: str, whole: bool, gang: bool
    ) -> str | None:
        """End what checks these devices: work is about to begin there. Return why it may not, if so.

        Before a project that has a device alone, what another one used there is checked; before a gang whatever was used.
        """
        await self.give_way(device_ids)
        if self._probing.hangs(device_ids):
            left = [one for one in self._devices.listed() if one.device_id in device_ids]
            self._tell(self.last, unjudged(left, HANGS), teller)
            return f"{left[0].device_id}: {HANGS}"
        first = self._dues.first(device_ids, project, whole=whole, gang=gang)
        devices = [one for one in self._devices.listed() if one.device_id in first]
        found, _ = await self._free(devices, "quick", lambda: ())
        if found:
            self._tell(self.last, found, teller)
        self._dues.used(device_ids, project)
        if worst(one.verdict for one in found) in SOUND:
            return None
        bad = next(one for one in found if one.verdict not in SOUND)
        return f"{bad.device_id} did not pass the check between two uses: {bad.name}: {bad.detail}"

    async def _once(self, teller: Teller, in_use: InUse) -> bool:
        """Run what is due first; false where nothing is, or all of it is in use."""
        if check_is_due(self.last, self._wished):
            return await self._as_wished(teller, in_use)
        used = in_use()
        free = [one.device_id for one in self._devices.listed() if one.device_id not in used]
        due = self._dues.due(free, time.monotonic())
        if due is None:
            return False
        level, ids = due
        devices = [one for one in self._devices.listed() if one.device_id in ids]
        found, checked = await self._free(devices, level, in_use)
        if checked:
            self._tell(self.last, found, teller, level)
        return bool(checked)

    async def _as_wished(self, teller: Teller, in_use: InUse) -> bool:
        """Run what is wished for on what is free; tell it under its number once each device was checked.

        What clears a fault of the hardware is run once all are free, and more than once, until one does not pass.
        """
        wish = self._wish
        if wish is None or wish.number != self._wished:
            wish = self._wish = _Wish(self._wished, self._devices.listed())
        used = in_use()
        free = [device for device in wish.left if device.device_id not in used]
        stands = self._stands
        if (wish.left and not free) or (stands and len(free) < len(wish.left)):
            if not wish.told:
                wish.told = True
                self._tell(self.last, wish.found + at_work(wish.left), teller, stands or "quick")
            return False
        level = stands or "quick"
        faults = self._faults_seen
        found: list[Check] = []
        for _ in range(TIMES if stands else 1):
            found, checked = await self._free(free, level, in_use, anew=self._asked > self.last)
            if stands and len(checked) < len(free):
                return True
            if worst(one.verdict for one in found) not in SOUND:
                break
        else:
            # Not where another fault was seen meanwhile.
            self._stands = None if self._faults_seen == faults else self._stands
        wish.found += found
        wish.left = [device for device in wish.left if device.device_id not in checked]
        if not wish.left:
            self._wish = None
            self._tell(wish.number, wish.found, teller, level)
        return True

    async def _free(
        self, devices: Sequence[Device], level: Level, in_use: InUse, *, anew: bool = False
    ) -> tuple[list[Check], set[str]]:
        """Check those of ``devices`` that nobody uses, one group after the other; return what was found, and on which."""
        found: list[Check] = []
        checked: set[str] = set()
        for group in self._probing.groups(devices):
            idle = [one for one in group if one.device_id not in in_use()]
            with contextlib.suppress(GaveWay):
                if idle:
                    found += await self._probing.check(idle, level, anew=anew)
                    checked.update(one.device_id for one in idle)
        if level != "quick" and self._have_peers(checked) and not in_use():
            with contextlib.suppress(GaveWay):
                every = self._devices.listed()
                found += await self._probing.check(every, level, only=(PEERS,))
        suspected = self._dues.suspected
        self._dues.checked(checked, level, time.monotonic())
        if self._dues.suspected != suspected:
            self._keep()
        return found, checked

    def _have_peers(self, checked: Collection[str]) -> bool:
        """Tell whether there are GPUs that can be tried with each other: several, and all of them just checked."""
        every = self._devices.listed()
        if self._devices.rehearsal or any(one.mig for one in every):
            return False
        return 1 < len(every) == len(checked)

    def _tell(self, number: int, checks: list[Check], teller: Teller, level: Level = "quick") -> None:
        verdict = worst(one.verdict for one in checks)
        teller.tell(HealthChanged, verdict=verdict, level=level, check=number, checks=checks)
        self._last = number
        if verdict == "fail":
            self.must_pass_twice(level)
        self._keep()
        METRICS.count("mesh_health_checks_total", verdict=verdict)
        logger.info("health check %s, %s: %s", number, level, verdict)

    def _keep(self) -> None:
        # Where it cannot be kept what was found stands; after a restart it is checked and told once more.
        keep(self._file, msgspec.json.encode(_Last(self._last, self._stands, self._dues.suspected)))

    def _recall(self) -> _Last | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Last)
        except (OSError, msgspec.MsgspecError):
            return None
