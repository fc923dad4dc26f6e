"""gpuprobe in children of the agent's own: each with a deadline, and each gives way to who is to work on its devices."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from gpuprobe.history import History
from mesh_contracts.node import Check, Device
from meshkit.telemetry import METRICS

from node_agent.devices import Devices
from node_agent.devices.rehearsal import ScenarioUnusable
from node_agent.domain.proof import Judged
from node_agent.domain.verdicts import Level, labelled, of_device
from node_agent.runtimes.surroundings import clean, visible

PROBE_WITHIN_S: dict[Level, float] = {"quick": 30.0, "standard": 180.0, "deep": 900.0}
"""Several times what each level is to take on one device."""
GIVES_WAY_WITHIN_S = 0.5
"""A child ends between two slices of milliseconds; one that does not is killed."""
KILLED_WITHIN_S = 1.0
OUTPUT_BYTES_MAX = 1024 * 1024
HISTORY = "gpu-history.{}.json"
"""One a device, or one for what is tried among all: children that run side by side write none in common."""
IN_MIG_MODE = "it is in MIG mode, and health kernels run on whole GPUs alone"
NOT_IN_MIG_MODE = "take the GPU out of MIG mode, then return the node"

logger = logging.getLogger(__name__)


class GaveWay(Exception):
    """The check was ended for somebody's work: there is no verdict."""


class _Judged(Judged, frozen=True, kw_only=True):
    device: int


class _Output(msgspec.Struct, frozen=True):
    checks: list[_Judged]


class Checking(Protocol):
    """What checks devices, wherever it does."""

    def groups(self, devices: Sequence[Device]) -> list[Sequence[Device]]:
        """Return what is checked together."""
        ...

    async def check(
        self, devices: Sequence[Device], level: Level, only: Sequence[str] = (), *, anew: bool = False
    ) -> list[Check]:
        """Return the checks of ``devices``; with ``anew`` never what was found before. Raises ``GaveWay``."""
        ...

    async def give_way(self, device_ids: Collection[str]) -> None:
        """End what checks any of these devices; once this returns nothing of it runs there."""
        ...

    def hangs(self, device_ids: Collection[str]) -> bool:
        """Tell whether something of a check that was ended is still there."""
        ...


class Probing:
    """Checks devices. Several checks run side by side where they have no device in common."""

    def __init__(self, devices: Devices, folder: Path) -> None:
        self._devices = devices
        self._folder = folder
        self._running: dict[asyncio.Task[_Output], frozenset[str]] = {}
        self._given_way: set[asyncio.Task[_Output]] = set()
        self._left: list[tuple[asyncio.subprocess.Process, frozenset[str]]] = []

    def groups(self, devices: Sequence[Device]) -> list[Sequence[Device]]:
        """Return what is checked together: each device alone, so that one that hangs leaves the others their verdicts.

        Rehearsed ones cost less together.
        """
        if self._devices.rehearsal:
            return [devices] if devices else []
        return [[device] for device in devices]

    async def check(
        self, devices: Sequence[Device], level: Level, only: Sequence[str] = (), *, anew: bool = False
    ) -> list[Check]:
        """Return the checks of ``devices``; what keeps them from being judged is ``inconclusive``. Raises ``GaveWay``.

        A real one in MIG mode has no whole GPU to show, and is not judged. ``anew`` or not, each check looks.
        """
        del anew
        if devices[0].mig and not self._devices.rehearsal:
            return [
                of_device("device", one, "inconclusive", IN_MIG_MODE, NOT_IN_MIG_MODE)
                for one in devices
            ]
        try:
            output = await self._probed(devices, self._arguments(devices, level, only), level)
        except ScenarioUnusable as fault:
            return unjudged(devices, str(fault))
        except TimeoutError:
            return unjudged(
                devices,
                f"no verdict within {PROBE_WITHIN_S[level]:g} s: the device or its driver hangs",
            )
        except (OSError, msgspec.MsgspecError) as fault:
            return unjudged(devices, f"the check itself failed: {fault}")
        return [
            Check(
                name=judged.name,
                device_id=devices[judged.device].device_id,
                verdict=judged.verdict,
                backend=judged.backend,
                rehearsal=self._devices.rehearsal,
                took_ms=judged.took_ms,
                detail=labelled(judged.detail, rehearsal=self._devices.rehearsal),
                action=judged.action,
                evidence=judged.evidence,
            )
            for judged in self._placed(output.checks, devices)
        ]

    async def _probed(self, devices: Sequence[Device], arguments: list[str], level: Level) -> _Output:
        probing = asyncio.create_task(
            self._probe(arguments, devices, level, at_once=self._devices.rehearsal)
        )
        self._running[probing] = frozenset(device.device_id for device in devices)
        try:
            return await probing
        except asyncio.CancelledError:
            if probing in self._given_way:
                raise GaveWay from None
            raise
        finally:
            del self._running[probing]
            self._given_way.discard(probing)

    async def _probe(
        self, arguments: list[str], devices: Sequence[Device], level: Level, *, at_once: bool
    ) -> _Output:
        """Run gpuprobe; raises ``TimeoutError`` past the deadline, with the child ended."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "gpuprobe", *arguments),
            env={
                **clean(os.environ),
                **visible([device.device_id for device in devices]),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=OUTPUT_BYTES_MAX,
        )
        try:
            async with asyncio.timeout(PROBE_WITHIN_S[level]):
                said, complained = await child.communicate()
        finally:
            await _end(child, at_once=at_once)
            if child.returncode is None:
                self._left.append((child, frozenset(device.device_id for device in devices)))
        try:
            return msgspec.json.decode(said, type=_Output)
        except msgspec.MsgspecError:
            lines = complained.decode(errors="replace").strip().splitlines()
            raise OSError(
                f"exit code {child.returncode}; {lines[-1] if lines else 'it said nothing'}"
            ) from None

    async def give_way(self, device_ids: Collection[str]) -> None:
        """End what checks any of these devices; once this returns nothing of it runs there."""
        began = time.perf_counter()
        ending = [task for task, ids in self._running.items() if not ids.isdisjoint(device_ids)]
        for task in ending:
            self._given_way.add(task)
            task.cancel()
        if ending:
            await asyncio.wait(ending)
            METRICS.observe("mesh_health_gave_way_seconds", time.perf_counter() - began)

    def hangs(self, device_ids: Collection[str]) -> bool:
        """Tell whether a check still stands in the driver of any of these devices, though it was killed."""
        self._left = [one for one in self._left if one[0].returncode is None]
        return any(not ids.isdisjoint(device_ids) for _, ids in self._left)

    def _arguments(self, devices: Sequence[Device], level: Level, only: Sequence[str]) -> list[str]:
        # A real device is the only one that its child sees, so it is the child's first.
        seen = [one.index for one in devices] if self._devices.rehearsal else range(len(devices))
        told = ["--level", level, "--json", "--with-parent", *self._devices.probe_arguments()]
        told += [word for index in seen for word in ("--device", str(index))]
        told += [word for name in only for word in ("--only", name)]
        if self._devices.rehearsal:
            return told
        whose = devices[0].device_id if len(devices) == 1 else "all"
        return told + remembered(self._folder / HISTORY.format(whose))

    def _placed(self, judged: Sequence[_Judged], devices: Sequence[Device]) -> list[_Judged]:
        """Return what was judged, each with the place of its device in ``devices``; what is of no such device is left out."""
        if not self._devices.rehearsal:
            return [one for one in judged if one.device < len(devices)]
        places = {device.index: place for place, device in enumerate(devices)}
        return [
            msgspec.structs.replace(one, device=places[one.device])
            for one in judged
            if one.device in places
        ]


def remembered(history: Path) -> list[str]:
    """Return how gpuprobe is told what devices measured before; nothing where that cannot be read.

    A file that was cut off or is somebody else's says nothing against a device: it is checked without.
    """
    try:
        History.read(history)
    except (OSError, ValueError) as fault:
        logger.warning(
            "checks go without what was measured before, as %s cannot be read (%s): move it away to begin anew",
            history,
            fault,
        )
        return []
    return ["--history", str(history)]


def unjudged(devices: Sequence[Device], why: str) -> list[Check]:
    """Return what is told of devices whose check came to no verdict, for the reason ``why``."""
    action = "put right what the detail names, then check again"
    return [of_device("device", one, "inconclusive", why, action) for one in devices]


async def _end(child: asyncio.subprocess.Process, *, at_once: bool) -> None:
    """Have a child end that has not: between two slices of a GPU's time, or else, and where there is no GPU, at once."""
    killed = (signal.SIGKILL, KILLED_WITHIN_S)
    for number, within_s in (killed,) if at_once else ((signal.SIGTERM, GIVES_WAY_WITHIN_S), killed):
        if child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)
        # One that hangs in the driver cannot be reaped: it is left, not waited for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await child.wait()
