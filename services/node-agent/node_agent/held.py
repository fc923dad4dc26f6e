"""One workload here: what its folder says, how it is judged, who looks after it."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Literal

import msgspec
from mesh_contracts.placement import MemberSpec

from node_agent.commands import Runs, container
from node_agent.domain import reconcile as wishes
from node_agent.domain.supervise import START_WITHIN_S, Watch
from node_agent.runtimes import process
from node_agent.runtimes.shim import STOP_WITHIN_S

LOADS_WITHIN_S = 1_800.0
"""Hundreds of GB of weights, read or even fetched, and graphs compiled."""
WENT_AWAY = "its server, or what runs it there, went away"
"""Why a member of a job is over that its machine's end took: its gang begins anew as a whole."""


class Held:
    """A workload and its engine, if it has one now."""

    def __init__(self, folder: Path, kept: process.Kept) -> None:
        self.folder = folder
        self.kept = kept
        self.watch = Watch(since=time.monotonic())
        self.found = process.look(folder, kept.workload_id)
        self.shim: int | None = None
        self.starting_us: int | None = None
        """Its engine's CPU time when it first answered; nothing while it has not."""
        self.interrupted = False
        self.cut_short = ""
        """Why it ends before its time, through no fault of its own, if so."""
        self.probed_at = 0.0
        self.told: set[str] = set()
        """What was told of it, where that cannot be kept in its folder."""
        self.told_to_stop = False
        self.cleared = False
        """Nothing of it runs any more, whatever it left: it may be forgotten."""
        self.stop_at = float("inf")
        self.wished_to_stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def went_away(self) -> None:
        """Note that its machine's end took it: an engine begins anew, a member of a job is over."""
        if self.kept.kind == "engine":
            self.interrupted = True
        else:
            self.cut_short = self.cut_short or WENT_AWAY
            self.watch = Watch(phase="failed", since=time.monotonic())

    def told_of(self) -> Literal["stopped", "failed"] | None:
        """Return which end was told of it, if one was."""
        ends: tuple[Literal["stopped", "failed"], ...] = ("stopped", "failed")
        return next(
            (one for one in ends if process.marked(self.folder, f"{one}.{self.kept.incarnation}")), None
        )

    def was_interrupted(self) -> bool:
        """Tell whether its machine's end took what does not live any more, or a kill its start.

        A job that has ended by itself has ended so, though its machine went down before that was told. One that was
        told to stop may have been so by the machine that went down: what it said then is no success.
        """
        if self.found.why == "lifeline":
            return True
        if self.kept.boot_id != process.boot_id():
            return not (self.kept.kind == "job" and self.found.why == "ended")
        started = process.marked(self.folder, f"started.{self.kept.incarnation}")
        return self.found.why is None and not started

    @property
    def phase(self) -> wishes.Phase:
        """Where it stands."""
        return "interrupted" if self.interrupted else self.watch.phase

    def kill(self) -> None:
        """End its engine and its shim at once, one that has not said yet who it is, too."""
        process.kill(self.folder, self.kept.workload_id)
        if self.shim is not None and not process.ended(self.shim):
            # Not reaped: the pid is its own.
            os.kill(self.shim, signal.SIGKILL)

    def look(self) -> process.Found:
        """Look into the folder; a shim of ours that has ended is reaped."""
        if self.shim is not None and process.ended(self.shim):
            self.shim = None
        if process.same(self.found):
            return self.found
        found = process.look(self.folder, self.kept.workload_id)
        # A shim that was only just started has not written its state yet.
        self.found = msgspec.structs.replace(found, alive=found.alive or self.shim is not None)
        return self.found


def kept_of(spec: wishes.Spec, incarnation: int, runs: Runs, job_stop_s: float) -> process.Kept:
    """Return what is kept of a workload that is about to start for the ``incarnation``-th time."""
    job = isinstance(spec, MemberSpec)
    return process.Kept(
        workload_id=spec.workload_id,
        name=spec.name,
        devices=list(spec.devices),
        incarnation=incarnation,
        boot_id=process.boot_id(),
        kind="job" if job else "engine",
        whole=wishes.whole(spec),
        start_within_s=LOADS_WITHIN_S if _loads_long(spec) else START_WITHIN_S,
        stop_within_s=job_stop_s if job else STOP_WITHIN_S,
        container=container(spec, runs),
    )


def _loads_long(spec: wishes.Spec) -> bool:
    return not isinstance(spec, MemberSpec) and spec.engine.kind == "vllm"


def words_of(held: Held) -> str:
    """Return why a workload ended, for people."""
    found = held.found
    if found.error:
        return found.error
    if found.exit_code is None:
        return "its shim was killed with it"
    if found.exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"it was killed by {signal.Signals(-found.exit_code).name}"
    said = process.last_words(held.folder)
    return f"it said: {said}" if said else "it said nothing"


def cpu_us(pid: int) -> int | None:
    """Return a process' CPU time since its start, its ended threads included."""
    try:
        # A process' own CPU clock, as clock_getcpuclockid(3) names it: exact to the nanosecond.
        return time.clock_gettime_ns((~pid << 3) | 2) // 1_000
    except OSError:
        return None
