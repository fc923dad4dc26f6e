"""The workloads of this node: made as wished, looked after, found again after a restart."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from mesh_contracts.node import (
    WorkloadFailed,
    WorkloadReady,
    WorkloadStarted,
    WorkloadStatus,
    WorkloadStopped,
)
from mesh_contracts.placement import WorkloadSpec
from mesh_contracts.units import WorkloadId, is_id
from meshkit.telemetry import METRICS

from node_agent.devices import Devices, NoInstance
from node_agent.domain import reconcile as wishes
from node_agent.domain.energy import Use
from node_agent.domain.supervise import Seen, Watch, judge
from node_agent.engines import start
from node_agent.held import Held, cpu_us, words_of
from node_agent.probe import answers
from node_agent.runtimes import process
from node_agent.telling import Teller

LOOK_STARTING_S = 0.05
LOOK_S = 0.25
"""An engine's end is noticed within this."""

PROBE_EVERY_S = 2.0
STOP_WITHIN_S = 12.0
"""The shim's own bound, and some: then whatever is left is killed."""

HUNG_STOP_WITHIN_S = 2.0
"""The same for an engine that has failed: nobody is sent to it any more."""

REASON_CHARS_MAX = 1_000

logger = logging.getLogger(__name__)


class Workloads:
    """All workloads here. ``adopt`` once, then ``wish`` whenever placement wishes."""

    def __init__(
        self,
        folder: Path,
        models: Path,
        teller: Teller,
        *,
        lifeline: int | None,
        devices: Devices | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._models = models
        self._teller = teller
        self._lifeline = lifeline
        self._devices = devices
        self._held: dict[WorkloadId, Held] = {}
        self._wanted: list[WorkloadSpec] | None = None
        self._making = asyncio.Lock()

    def adopt(self) -> None:
        """Find what runs from before, by pid, start time and workload id, and look after it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in sorted(self._folder.iterdir()):
            kept = process.recall(folder) if is_id(folder.name, "workload") else None
            if kept is None or kept.workload_id != folder.name:
                logger.warning("%s holds no workload; it is removed", folder)
                shutil.rmtree(folder, ignore_errors=True)
                continue
            held = self._held[kept.workload_id] = Held(folder, kept)
            if held.found.alive:
                logger.info("%s is adopted: it runs as pid %s", kept.workload_id, held.found.engine_pid)
                if process.marked(folder, f"ready.{kept.incarnation}"):
                    held.starting_us = 0  # what it took to start was counted by whoever saw it
                self._look_after(held)
            elif held.found.why == "lifeline" or kept.boot_id != process.boot_id():
                held.interrupted = True
            elif process.marked(folder, f"failed.{kept.incarnation}"):
                held.watch = Watch(phase="failed", since=time.monotonic())
            elif held.found.why is None and not process.marked(folder, f"started.{kept.incarnation}"):
                held.interrupted = True  # whoever was about to start it was killed
            else:
                if held.found.why == "stopped":
                    held.watch = Watch(phase="stopping", since=time.monotonic())
                self._look_after(held)

    def wish(self, wanted: Sequence[WorkloadSpec]) -> None:
        """Make it so that exactly ``wanted`` runs here."""
        self._wanted = list(wanted)
        self._act()

    def statuses(self) -> list[WorkloadStatus]:
        """Return how each workload stands, for the heartbeat."""
        return [
            WorkloadStatus(
                workload_id=held.kept.workload_id,
                state=held.watch.phase,
                address=held.found.address if held.phase == "ready" else None,
            )
            for held in self._held.values()
            if not held.interrupted
        ]

    def uses(self) -> list[Use]:
        """Return each living engine's CPU time, and its devices."""
        uses = []
        for held in self._held.values():
            pid = held.found.engine_pid
            if pid is not None and held.found.alive and (spent := cpu_us(pid)) is not None:
                starting = spent if held.starting_us is None else held.starting_us
                uses.append(
                    Use(
                        engine=f"{held.kept.workload_id}.{held.kept.incarnation}",
                        cpu_us=spent,
                        devices=tuple(held.kept.devices),
                        starting_us=starting,
                    )
                )
        return uses

    async def leave(self) -> None:
        """Look after nothing any more. Engines run on: whoever starts next adopts them."""
        tasks = [held.task for held in self._held.values() if held.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _act(self) -> None:
        if self._wanted is None:
            return
        phases = {workload_id: held.phase for workload_id, held in self._held.items()}
        for action in wishes.reconcile(self._wanted, phases):
            match action:
                case wishes.Start(spec):
                    # Past the lifeline's end whoever starts next brings it back.
                    if not process.over(self._lifeline):
                        self._start(spec)
                case wishes.Stop(workload_id):
                    self._held[workload_id].wished_to_stop.set()
                case wishes.Forget(workload_id):
                    held = self._held[workload_id]
                    # While its rest is still being ended the folder is needed; then this comes again.
                    if held.task is None:
                        del self._held[workload_id]
                        shutil.rmtree(held.folder, ignore_errors=True)

    def _start(self, spec: WorkloadSpec) -> None:
        before = self._held.get(spec.workload_id)
        kept = process.Kept(
            workload_id=spec.workload_id,
            name=spec.name,
            devices=list(spec.devices),
            incarnation=1 if before is None else before.kept.incarnation + 1,
            boot_id=process.boot_id(),
        )
        folder = self._folder / spec.workload_id
        process.remember(folder, kept)
        held = self._held[spec.workload_id] = Held(folder, kept)
        self._look_after(held, spec)

    def _look_after(self, held: Held, spec: WorkloadSpec | None = None) -> None:
        held.task = asyncio.create_task(self._life(held, spec), name=held.kept.workload_id)

    async def _life(self, held: Held, spec: WorkloadSpec | None) -> None:
        try:
            if spec is not None:
                await self._launch(held, spec)
            await self._watch_over(held)
        except Exception:
            logger.exception("looking after %s failed; it is looked after again", held.kept.workload_id)
            await asyncio.sleep(LOOK_S)
            self._look_after(held)
            return
        held.task = None
        self._act()

    async def _launch(self, held: Held, spec: WorkloadSpec) -> None:
        """Start the engine; what cannot be started has failed."""
        try:
            async with self._making:
                model = await start.model_file(spec, self._models)
            if held.wished_to_stop.is_set():
                held.watch = Watch(phase="stopping", since=time.monotonic())
                return
            visible = None
            if spec.mig is not None and self._devices is not None:
                # A driver takes a while to cut a GPU.
                visible = await asyncio.to_thread(self._devices.visible, spec.devices[0], spec.mig)
            held.shim = process.launch(
                held.folder,
                spec.workload_id,
                start.program(spec, model),
                start.environment(spec, os.environ, visible),
                self._lifeline,
            )
        except (start.NotServed, NoInstance, OSError) as fault:
            held.watch = Watch(phase="failed", since=time.monotonic(), reason=str(fault))
            return
        held.watch = Watch(since=time.monotonic())
        self._tell_once(held, "started")

    async def _watch_over(self, held: Held) -> None:
        while True:
            await self._once(held)
            if held.interrupted:
                return
            if held.phase == "stopped":
                self._tell_once(held, "stopped")
                return
            if held.phase == "failed":
                self._tell_once(held, "failed")
                await self._end_rest(held)
                return
            pause = LOOK_STARTING_S if held.phase == "starting" else LOOK_S
            if held.wished_to_stop.is_set():
                await asyncio.sleep(pause)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await held.wished_to_stop.wait()

    async def _once(self, held: Held) -> None:
        """Look once, judge, and act on what was found."""
        now = time.monotonic()
        if held.wished_to_stop.is_set() and held.phase in {"starting", "ready"}:
            held.watch = Watch(phase="stopping", since=now)
            held.stop_at = now + STOP_WITHIN_S
            process.tell_shim(held.folder, held.kept.workload_id, signal.SIGTERM)
        found = held.look()
        if not found.alive and found.why == "lifeline":
            held.interrupted = True
            return
        if held.phase == "stopping" and now > held.stop_at:
            held.stop_at = float("inf")
            process.kill(held.folder, held.kept.workload_id)
        before = held.phase
        answered = await self._ask(held, found, now)
        words = "" if found.alive else words_of(held)
        held.watch = judge(held.watch, Seen(alive=found.alive, answered=answered, words=words), now)
        if held.phase == "ready" and before != "ready":
            if held.starting_us is None and found.engine_pid is not None:
                held.starting_us = cpu_us(found.engine_pid)
            self._tell_once(held, "ready")

    async def _ask(self, held: Held, found: process.Found, now: float) -> bool | None:
        """Ask the engine whether it is well, where it is time to."""
        if not found.alive or found.address is None or held.phase not in {"starting", "ready"}:
            return None
        if held.phase == "ready" and now - held.probed_at < PROBE_EVERY_S:
            return None
        held.probed_at = now
        return await answers(found.address)

    async def _end_rest(self, held: Held) -> None:
        """End what a failed workload left running: an engine that hangs."""
        workload_id = held.kept.workload_id
        process.tell_shim(held.folder, workload_id, signal.SIGTERM)
        until = time.monotonic() + HUNG_STOP_WITHIN_S
        while held.look().alive and time.monotonic() < until:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(LOOK_S)
        process.kill(held.folder, workload_id)

    def _tell_once(self, held: Held, what: str) -> None:
        kept = held.kept
        if process.marked(held.folder, f"{what}.{kept.incarnation}"):
            return
        about = (kept.workload_id, kept.incarnation)
        if what == "started":
            self._teller.tell_of(WorkloadStarted, *about)
        elif what == "ready":
            assert held.found.address is not None
            self._teller.tell_of(WorkloadReady, *about, address=held.found.address)
        elif what == "stopped":
            self._teller.tell_of(WorkloadStopped, *about)
        else:
            reason = held.watch.reason[:REASON_CHARS_MAX]
            self._teller.tell_of(WorkloadFailed, *about, reason=reason, exit_code=held.found.exit_code)
        # Told first, marked second: a kill in between tells the same fact again.
        process.mark(held.folder, f"{what}.{kept.incarnation}")
        METRICS.count("mesh_workloads_total", outcome=what)
        logger.info("%s is %s", kept.workload_id, what)
