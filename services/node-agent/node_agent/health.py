"""Whether the devices compute correctly: gpuprobe in a child, with a deadline, and its verdict told."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from mesh_contracts.node import Check, Device, HealthChanged, Verdict
from meshkit.telemetry import METRICS

from node_agent.devices import Devices
from node_agent.devices.rehearsal import ScenarioUnusable
from node_agent.domain.reconcile import check_is_due
from node_agent.domain.verdicts import worst
from node_agent.domain.xid import Level
from node_agent.runtimes.surroundings import clean
from node_agent.telling import Teller

PROBE_WITHIN_S: dict[Level, float] = {"quick": 30.0, "standard": 180.0, "deep": 900.0}
"""Several times what each level is to take."""
KILLED_WITHIN_S = 1.0
OUTPUT_BYTES_MAX = 1024 * 1024
FREE_LOOK_S = 1.0
TIMES = 2
"""So often the level must pass that clears a fault of the hardware."""
DETAIL_CHARS_MAX = 1_500
FILE = "health.json"

Used = Literal["leased", "busy", "idle"]
"""Whose the server is now: a tenant's as a whole, of those whose work runs here, nobody's."""

logger = logging.getLogger(__name__)


class _Last(msgspec.Struct, frozen=True):
    check: int
    stands: Level | None = None


class _Judged(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    device: int
    verdict: Verdict
    backend: Any
    took_ms: int
    detail: str
    action: str | None
    evidence: dict[str, int | float | str | list[int]]


class _Output(msgspec.Struct, frozen=True):
    checks: list[_Judged]


class Health:
    """Runs a check at the start and whenever one is wished for; remembers the last one's number."""

    def __init__(self, devices: Devices, folder: Path) -> None:
        self._devices = devices
        self._file = folder / FILE
        last = self._recall()
        self._last = None if last is None else last.check
        self._stands = None if last is None else last.stands
        self._suspected: Level | None = None
        self._wished = 0
        self._first_told = False
        self._more = asyncio.Event()

    @property
    def last(self) -> int:
        """The number of the last check that was run here, 0 before any wish."""
        return self._last or 0

    def must_pass_twice(self, level: Level) -> None:
        """Have the next check that is wished for run at that level, and pass twice: a fault of the hardware was seen."""
        self._stands = level
        self._keep()

    def suspect(self, level: Level) -> None:
        """Have a check of that level run once nobody works here."""
        self._suspected = level
        self._more.set()

    def wish(self, check: int) -> None:
        """Have check ``check`` run, unless one of that number or above was."""
        self._wished = max(self._wished, check)
        self._more.set()

    async def run(
        self, first: "asyncio.Task[list[Check]]", teller: Teller, used: Callable[[], Used]
    ) -> None:
        """Tell the verdict of the ``first`` check (begun before the node was known), then run on.

        Begun again after a fault it tells the first no more, and runs what is still due. While the server is
        leased its devices are a tenant's: what is wished for then is run afterwards; what is only suspected
        once nobody works here.
        """
        if not self._first_told:
            self._tell(self.last, await first, teller)
            self._first_told = True
        while True:
            self._more.clear()
            wished, suspected, now = self._wished, self._suspected, used()
            if check_is_due(self.last, wished) and now != "leased":
                await self._check_as_stands(wished, teller)
            elif suspected is not None and now == "idle":
                self._suspected = None
                self._tell(self.last, await self.check(suspected), teller, suspected)
            elif suspected is not None or check_is_due(self.last, wished):
                await asyncio.sleep(FREE_LOOK_S)
            else:
                await self._more.wait()

    async def _check_as_stands(self, wished: int, teller: Teller) -> None:
        """Run what is wished for; what clears a fault of the hardware more than once, until one does not pass."""
        level = self._stands or "quick"
        checks: list[Check] = []
        for _ in range(TIMES if self._stands else 1):
            checks = await self.check(level)
            if worst(one.verdict for one in checks) not in {"pass", "warn"}:
                break
        else:
            self._stands = None
        self._tell(wished, checks, teller, level)

    async def check(self, level: Level = "quick") -> list[Check]:
        """Return the checks of all devices; what keeps them from being judged is ``inconclusive``."""
        devices = self._devices.listed()
        if not devices:
            return []
        try:
            output = await _probe(self._devices.probe_arguments(), devices, level)
        except ScenarioUnusable as fault:
            return self._unjudged(str(fault))
        except TimeoutError:
            return self._unjudged(
                f"no verdict within {PROBE_WITHIN_S[level]:g} s: the device or its driver hangs"
            )
        except (OSError, msgspec.MsgspecError) as fault:
            return self._unjudged(f"the check itself failed: {fault}")
        by_index = {device.index: device for device in devices}
        return [
            Check(
                name=judged.name,
                device_id=by_index[judged.device].device_id,
                verdict=judged.verdict,
                backend=judged.backend,
                rehearsal=self._devices.rehearsal,
                took_ms=judged.took_ms,
                detail=self._labelled(judged.detail),
                action=judged.action,
                evidence=judged.evidence,
            )
            for judged in output.checks
            if judged.device in by_index
        ]

    def _unjudged(self, why: str) -> list[Check]:
        return [
            Check(
                name="device",
                device_id=device.device_id,
                verdict="inconclusive",
                backend="numpy" if device.rehearsal else "cupy",
                rehearsal=device.rehearsal,
                took_ms=0,
                detail=self._labelled(why),
                action="put right what the detail names, then check again",
            )
            for device in self._devices.listed()
        ]

    def _labelled(self, detail: str) -> str:
        label = "rehearsal: " if self._devices.rehearsal else ""
        return (label + detail)[:DETAIL_CHARS_MAX]

    def _tell(self, number: int, checks: list[Check], teller: Teller, level: Level = "quick") -> None:
        verdict = worst(one.verdict for one in checks)
        teller.tell(HealthChanged, verdict=verdict, level=level, check=number, checks=checks)
        self._last = number
        self._keep()
        METRICS.count("mesh_health_checks_total", verdict=verdict)
        logger.info("health check %s: %s", number, verdict)

    def _keep(self) -> None:
        kept = _Last(self.last, self._stands)
        self._file.with_suffix(".new").write_bytes(msgspec.json.encode(kept))
        self._file.with_suffix(".new").rename(self._file)

    def _recall(self) -> _Last | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Last)
        except (OSError, msgspec.MsgspecError):
            return None


async def _probe(arguments: list[str], devices: Sequence[Device], level: Level) -> _Output:
    """Run gpuprobe; raises ``TimeoutError`` past the deadline, with the child killed."""
    chosen = [part for device in devices for part in ("--device", str(device.index))]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gpuprobe", "--level", level, "--json", *chosen, *arguments),
        env={**clean(os.environ), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=OUTPUT_BYTES_MAX,
    )
    try:
        async with asyncio.timeout(PROBE_WITHIN_S[level]):
            said, complained = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            # A child that hangs in the driver cannot be reaped: it is left, not waited for.
            await asyncio.wait({asyncio.ensure_future(child.wait())}, timeout=KILLED_WITHIN_S)
    try:
        return msgspec.json.decode(said, type=_Output)
    except msgspec.MsgspecError:
        lines = complained.decode(errors="replace").strip().splitlines()
        raise OSError(
            f"exit code {child.returncode}; {lines[-1] if lines else 'it said nothing'}"
        ) from None
