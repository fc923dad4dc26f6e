"""One workload from its start to its end: started, watched, judged, ended, and told of."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from mesh_contracts.node import WorkloadFailed, WorkloadReady, WorkloadStarted, WorkloadStopped
from mesh_contracts.placement import MemberSpec, WorkloadSpec
from mesh_contracts.units import WorkloadId
from meshkit.telemetry import METRICS
from msgspec.structs import replace

from node_agent import commands
from node_agent.devices import Devices, NoInstance
from node_agent.domain.supervise import Seen, Watch, judge
from node_agent.engines import start
from node_agent.held import Held, cpu_us, words_of
from node_agent.probe import answers
from node_agent.runtimes import containers, process
from node_agent.runtimes.cgroups import Cgroups
from node_agent.runtimes.surroundings import NotServed
from node_agent.telling import Teller

LOOK_STARTING_S = 0.05
LOOK_S = 0.25
"""An engine's end is noticed within this."""

PROBE_EVERY_S = 2.0
STOP_MORE_S = 4.0
"""Beyond the shim's own bound: then whatever is left is killed."""

HUNG_STOP_WITHIN_S = 2.0
"""The same for an engine that has failed: nobody is sent to it any more."""

KILLED_WITHIN_S = 1.0
REASON_CHARS_MAX = 1_000

logger = logging.getLogger(__name__)


MakeWay = Callable[[WorkloadSpec | MemberSpec], Awaitable[str | None]]


async def nobody_there(_: WorkloadSpec | MemberSpec) -> str | None:
    """Make way where nothing is ever checked."""
    return None


class LookingAfter:
    """Looks after workloads, each in a task of its own.

    ``jobs``: what runs jobs on this node; ``vllm`` the words that serve with vLLM, none where it cannot. ``make_way`` frees the devices of what is about to begin, and returns why it
    may not, if so; ``cgroups`` bound what each takes, where the kernel lets the agent. ``ended`` is called with each that has ended, while its folder is there.
    """

    def __init__(
        self,
        models: Path,
        teller: Teller,
        *,
        runs: commands.Runs,
        lifeline: int | None,
        devices: Devices | None = None,
        make_way: MakeWay = nobody_there,
        cgroups: Cgroups | None = None,
        ended: Callable[[WorkloadId], None] = lambda _: None,
    ) -> None:
        self._models = models
        self._teller = teller
        self._runs = runs
        self._lifeline = lifeline
        self._devices = devices
        self._make_way = make_way
        self._cgroups = cgroups
        self._ended = ended
        self._making = asyncio.Lock()

    async def launch(self, held: Held, spec: WorkloadSpec | MemberSpec) -> None:
        """Start a workload; what cannot be started has failed."""
        refused = await self._make_way(spec)
        if refused is not None:
            held.cut_short = refused
            held.watch = Watch(phase="failed", since=time.monotonic(), reason=refused)
            return
        try:
            program, environment, reads = await self._made(spec)
            if held.wished_to_stop.is_set():
                held.watch = Watch(phase="stopping", since=time.monotonic())
                return
            groups = await asyncio.to_thread(self._groups, held, spec)
            held.shim = process.launch(
                *(held.folder, held.kept, program, environment, self._lifeline),
                groups=groups,
                reads=reads,
            )
        except (NotServed, NoInstance, OSError, ValueError) as fault:
            held.watch = Watch(phase="failed", since=time.monotonic(), reason=str(fault))
            return
        held.watch = Watch(since=time.monotonic())
        self._tell_once(held, "started")

    def forget_others(self, here: Collection[WorkloadId]) -> None:
        """End what is left of workloads that are not here any more."""
        if self._cgroups is not None:
            self._cgroups.sweep(here)

    async def clear(self, held: Held) -> None:
        """End whatever a workload that has ended left running, its container, too."""
        await self._end_rest(held)
        held.cleared = await containers.remove(held.kept.container)

    async def watch_over(self, held: Held) -> None:
        """Look again and again until it has ended, and tell what it comes to."""
        while True:
            await self._once(held)
            if held.interrupted:
                return
            if held.phase == "stopped" and not held.cut_short:
                await self.clear(held)
                self._tell_once(held, "stopped")
                return
            if held.phase in {"stopped", "failed"}:
                self._tell_once(held, "failed")
                await self.clear(held)
                return
            pause = LOOK_STARTING_S if held.phase == "starting" else LOOK_S
            if held.wished_to_stop.is_set():
                await asyncio.sleep(pause)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await held.wished_to_stop.wait()

    async def _made(
        self, spec: WorkloadSpec | MemberSpec
    ) -> tuple[list[str], Mapping[str, str], bytes]:
        """Return a workload's command line, its environment, and what it reads. Raises ``NotServed`` and ``NoInstance``."""
        if spec.mig is not None and self._devices is not None:
            # A driver takes a while to cut a GPU.
            name = await asyncio.to_thread(self._devices.instance, spec.devices[0], spec.mig)
            spec = replace(spec, devices=[name])
        if isinstance(spec, MemberSpec):
            program = commands.program(spec, self._runs)
            environment = commands.environment(spec, self._runs, os.environ)
            return program, environment, commands.reads(spec, self._runs)
        async with self._making:
            model = await start.model_file(spec, self._models)
        program = start.program(spec, model, self._runs, self._models)
        return program, start.environment(spec, os.environ, self._models, self._runs), b""

    def _groups(self, held: Held, spec: WorkloadSpec | MemberSpec) -> list[Path]:
        """Return the control groups that bound a workload; podman bounds its own. Raises ``OSError``."""
        if self._cgroups is None or spec.resources is None or held.kept.container:
            return []
        asked = spec.resources
        return self._cgroups.make(held.kept.workload_id, asked.memory_mib, asked.cpu_milli)

    async def _once(self, held: Held) -> None:
        """Look once, judge, and act on what was found."""
        now = time.monotonic()
        if held.wished_to_stop.is_set() and held.phase in {"starting", "ready"}:
            held.watch = Watch(phase="stopping", since=now)
            held.stop_at = now + held.kept.stop_within_s + STOP_MORE_S
        self._have_stop(held, now)
        found = held.look()
        if not found.alive and found.why == "lifeline" and held.phase not in {"stopped", "failed"}:
            held.went_away()
            return
        if held.phase == "stopping" and now > held.stop_at:
            held.stop_at = float("inf")
            held.kill()
            await containers.remove(held.kept.container)
        before = held.phase
        seen = Seen(
            alive=found.alive,
            answered=await self._ask(held, found, now),
            done=held.kept.kind == "job" and found.exit_code == 0,
            words="" if found.alive else words_of(held),
        )
        held.watch = judge(held.watch, seen, now, held.kept.start_within_s)
        if held.phase == "ready" and before != "ready":
            if held.starting_us is None and found.engine_pid is not None:
                held.starting_us = cpu_us(found.engine_pid) if held.kept.kind == "engine" else 0
            self._tell_once(held, "ready")

    def _have_stop(self, held: Held, now: float) -> None:
        """Tell the shim to stop, until it was told: one that only begins has not said yet who it is."""
        if held.phase != "stopping" or held.told_to_stop:
            return
        held.told_to_stop = process.tell_shim(held.folder, held.kept.workload_id, signal.SIGTERM)
        if held.told_to_stop:
            held.stop_at = now + held.kept.stop_within_s + STOP_MORE_S

    async def _ask(self, held: Held, found: process.Found, now: float) -> bool | None:
        """Ask the engine whether it is well, where it is time to; a job that runs is."""
        if held.kept.kind == "job":
            return found.alive if held.phase == "starting" else None
        if not found.alive or found.address is None or held.phase not in {"starting", "ready"}:
            return None
        if held.phase == "ready" and now - held.probed_at < PROBE_EVERY_S:
            return None
        held.probed_at = now
        return await answers(found.address)

    async def _end_rest(self, held: Held) -> None:
        """End what a workload left running: an engine that hangs, and what left its group."""
        workload_id = held.kept.workload_id
        process.tell_shim(held.folder, workload_id, signal.SIGTERM)
        await self._gone_within(held, HUNG_STOP_WITHIN_S)
        held.kill()
        await self._gone_within(held, KILLED_WITHIN_S)
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.remove, workload_id)

    async def _gone_within(self, held: Held, seconds: float) -> None:
        """Wait until its shim has ended; then that is reaped, too."""
        until = time.monotonic() + seconds
        while held.look().alive and time.monotonic() < until:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(LOOK_STARTING_S)

    def _tell_once(self, held: Held, what: str) -> None:
        kept, job = held.kept, held.kept.kind == "job"
        if what in held.told or process.marked(held.folder, f"{what}.{kept.incarnation}"):
            return
        about = (kept.workload_id, kept.incarnation)
        if what == "started":
            self._teller.tell_of(WorkloadStarted, *about)
        elif what == "ready" and not job:
            assert held.found.address is not None
            self._teller.tell_of(WorkloadReady, *about, address=held.found.address)
        elif what == "stopped":
            code = held.found.exit_code if job else None
            self._teller.tell_of(WorkloadStopped, *about, exit_code=code)
        elif what == "failed":
            self._teller.tell_of(
                WorkloadFailed,
                *about,
                reason=(held.cut_short or held.watch.reason)[:REASON_CHARS_MAX],
                exit_code=held.found.exit_code,
                interrupted=bool(held.cut_short),
            )
        if what in {"stopped", "failed"}:
            self._ended(kept.workload_id)
        # Told first, marked second: a kill in between tells the same fact again.
        held.told.add(what)
        try:
            process.mark(held.folder, f"{what}.{kept.incarnation}")
        except OSError as fault:
            logger.error("that %s is %s cannot be kept: %s", kept.workload_id, what, fault)  # noqa: TRY400
        METRICS.count("mesh_workloads_total", outcome=what)
        logger.info("%s is %s", kept.workload_id, what)
