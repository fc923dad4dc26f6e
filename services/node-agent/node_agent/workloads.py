"""The workloads of this node: made as wished, looked after, found again after a restart."""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from mesh_contracts.node import WorkloadStatus
from mesh_contracts.placement import MemberSpec, WorkloadSpec
from mesh_contracts.units import WorkloadId, is_id

from node_agent.commands import Runs
from node_agent.domain import reconcile as wishes
from node_agent.domain.energy import Use
from node_agent.domain.supervise import Watch
from node_agent.held import Held, cpu_us, kept_of
from node_agent.leftovers import GONE, Leftovers
from node_agent.looking_after import LOOK_S, LookingAfter
from node_agent.runtimes import process

CLEAR_AGAIN_S = 5.0

logger = logging.getLogger(__name__)


class Workloads:
    """All engines and members of jobs here. ``adopt`` once, then ``wish`` whenever placement wishes."""

    def __init__(
        self,
        folder: Path,
        looking_after: LookingAfter,
        *,
        lifeline: int | None,
        runs: Runs,
        job_stop_s: float,
    ) -> None:
        self._folder = folder.resolve()
        self._leftovers = Leftovers(self._folder)
        self._looking_after = looking_after
        self._lifeline = lifeline
        self._runs, self._job_stop_s = runs, job_stop_s
        self._held: dict[WorkloadId, Held] = {}
        self._wanted: list[wishes.Spec] | None = None

    def adopt(self) -> None:
        """Find what runs from before, by pid, start time and workload id, and look after it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._leftovers.begin()
        for folder in sorted(self._folder.iterdir()):
            if folder.name == GONE:
                continue
            kept = process.recall(folder) if is_id(folder.name, "workload") else None
            if kept is None or kept.workload_id != folder.name:
                logger.warning("%s holds no workload; it is removed", folder)
                self._leftovers.put_away(folder)
                continue
            held = self._held[kept.workload_id] = Held(folder, kept)
            self._adopt(held)
        self._looking_after.forget_others(self._held)

    def _adopt(self, held: Held) -> None:
        """Go on with a workload where an earlier agent left it."""
        kept, folder = held.kept, held.folder
        told = held.told_of()
        if told is not None:
            # Whoever told it may have been killed before the rest of it had ended.
            held.watch = Watch(phase=told, since=time.monotonic())
            self._look_after(held)
        elif held.found.alive:
            logger.info("%s is adopted: it runs as pid %s", kept.workload_id, held.found.engine_pid)
            if process.marked(folder, f"ready.{kept.incarnation}"):
                held.starting_us = 0  # what it took to start was counted by whoever saw it
            self._look_after(held)
        elif held.was_interrupted():
            self._interrupted(held)
        else:
            if held.found.why == "stopped":
                held.watch = Watch(phase="stopping", since=time.monotonic())
            self._look_after(held)

    def wish(self, wanted: Sequence[WorkloadSpec | MemberSpec]) -> None:
        """Make it so that exactly ``wanted`` runs here."""
        self._wanted = list(wanted)
        self._act()

    def stop_jobs(self, why: str) -> None:
        """End the members of jobs here that run: their gangs begin anew elsewhere."""
        for held in self._held.values():
            if held.kept.kind == "job" and held.phase in {"starting", "ready"}:
                held.cut_short = why
                held.wished_to_stop.set()

    def statuses(self) -> list[WorkloadStatus]:
        """Return how each workload stands, for the heartbeat."""
        return [
            WorkloadStatus(
                workload_id=held.kept.workload_id,
                state=held.watch.phase,
                address=held.found.address
                if held.phase == "ready" and held.kept.kind == "engine"
                else None,
            )
            for held in self._held.values()
            if not held.interrupted
        ]

    def uses(self) -> list[Use]:
        """Return each living workload's CPU time, and its devices."""
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

    def in_use(self) -> set[str]:
        """Return the ids of the devices that somebody has here, from before its start until after its end."""
        return {
            device
            for held in self._held.values()
            if held.task is not None or held.found.alive
            for device in held.kept.devices
        }

    async def leave(self) -> None:
        """Look after nothing any more. All run on: whoever starts next adopts them."""
        tasks = [held.task for held in self._held.values() if held.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _interrupted(self, held: Held) -> None:
        """Have an engine begin anew where it was, and a member of a job be told of as over."""
        held.went_away()
        if not held.interrupted:
            self._look_after(held)

    def _act(self) -> None:
        if self._wanted is None:
            return
        phases = {workload_id: held.phase for workload_id, held in self._held.items()}
        for action in wishes.reconcile(self._wanted, phases):
            match action:
                case wishes.Start(spec):
                    # Past the lifeline's end whoever starts next brings it back.
                    if not process.over(self._lifeline) and not self._in_the_way(spec):
                        self._start(spec)
                case wishes.Stop(workload_id):
                    self._held[workload_id].wished_to_stop.set()
                case wishes.Forget(workload_id):
                    self._forget(self._held[workload_id])

    def _forget(self, held: Held) -> None:
        """Let go of a workload of which nothing runs; of any other, later."""
        if held.task is not None:
            return  # While its rest is still being ended the folder is needed; then this comes again.
        if held.cleared:
            del self._held[held.kept.workload_id]
            self._leftovers.put_away(held.folder)
            return
        held.task = asyncio.create_task(self._clear(held), name=held.kept.workload_id)

    async def _clear(self, held: Held) -> None:
        """End what is left of a workload; where that cannot be, it comes again in a while."""
        try:
            await self._looking_after.clear(held)
        except Exception:
            logger.exception("what is left of %s is not ended", held.kept.workload_id)
        if not held.cleared:
            await asyncio.sleep(CLEAR_AGAIN_S)
        held.task = None
        self._act()

    def _in_the_way(self, spec: wishes.Spec) -> bool:
        """Tell whether something else still has a device that this one is to have; then it begins once that has ended.

        What is left of its own last start is in the way, too: its container has the same name.
        """
        return any(
            held.kept.workload_id == spec.workload_id
            or (
                (held.kept.whole or wishes.whole(spec))
                and not set(held.kept.devices).isdisjoint(spec.devices)
            )
            for held in self._held.values()
            if held.task is not None
        )

    def _start(self, spec: wishes.Spec) -> None:
        before = self._held.get(spec.workload_id)
        incarnation = 1 if before is None else before.kept.incarnation + 1
        kept = kept_of(spec, incarnation, self._runs, self._job_stop_s)
        folder = self._folder / spec.workload_id
        try:
            process.remember(folder, kept)
        except OSError as fault:
            # Nothing of it can be kept: it does not begin, and the others do not wait for it.
            held = self._held[spec.workload_id] = Held(folder, kept)
            held.watch = Watch(
                phase="failed", since=time.monotonic(), reason=f"{folder}: {fault.strerror}"
            )
            self._look_after(held)
            return
        held = self._held[spec.workload_id] = Held(folder, kept)
        self._look_after(held, spec)

    def _look_after(self, held: Held, spec: wishes.Spec | None = None) -> None:
        held.task = asyncio.create_task(self._life(held, spec), name=held.kept.workload_id)

    async def _life(self, held: Held, spec: wishes.Spec | None) -> None:
        try:
            if spec is not None:
                await self._looking_after.launch(held, spec)
            await self._looking_after.watch_over(held)
        except Exception:
            logger.exception("looking after %s failed; it is looked after again", held.kept.workload_id)
            await asyncio.sleep(LOOK_S)
            self._look_after(held)
            return
        held.task = None
        self._act()
