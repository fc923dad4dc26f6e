"""One light agent: what a node runs, and what it tells of that."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec
from mesh_contracts.fact import Fact
from mesh_contracts.node import (
    Check,
    Device,
    ErasureRecorded,
    HealthChanged,
    NodeJoined,
    WorkloadFailed,
    WorkloadReady,
    WorkloadStarted,
    WorkloadStatus,
    WorkloadStopped,
)
from mesh_contracts.placement import Intent, MemberSpec, WorkloadSpec
from placement.domain.engine.site import NodeSpec

from mesh_tools.simulate.gangs import Gangs

DEVICE_MIB: Final = 183_359
BEGIN_S: Final = (20.0, 60.0)
END_S: Final = (2.0, 15.0)
CHECK_S: Final = (30.0, 60.0)
ERASE_S: Final = (120.0, 300.0)
"""Simulated seconds that a start, a stop, a health check, and each step after a lease take."""

Spec = WorkloadSpec | MemberSpec
Tell = Callable[["Agent", type[Fact], dict[str, Any]], None]


class Hands(msgspec.Struct, frozen=True, kw_only=True):
    """What agents share: how they tell, who hears that something has ended, how far jobs are, the time."""

    tell: Tell
    ended: Callable[[str, str], None]
    gangs: Gangs
    speed: float
    chance: random.Random

    def later(
        self, span: tuple[float, float], then: Callable[..., None], *given: Any
    ) -> asyncio.TimerHandle:
        """Have something done after a while, drawn from simulated seconds."""
        wait_s = self.chance.uniform(*span) / self.speed
        return asyncio.get_running_loop().call_later(wait_s, then, *given)


class _Running:
    """One workload on a node."""

    __slots__ = ("spec", "state", "timer")

    def __init__(self, spec: Spec, state: str) -> None:
        self.spec, self.state = spec, state
        self.timer: asyncio.TimerHandle | None = None


class Agent:
    """One node's agent."""

    def __init__(self, spec: NodeSpec, node_id: str, hands: Hands) -> None:
        self.spec, self.node_id, self.hands = spec, node_id, hands
        self.devices = [f"{spec.node}-gpu-{card}" for card in range(spec.gpus)]
        self.powered = True
        self.joined = False
        self.sick: str | None = None
        """The device at fault, while there is one."""
        self.version = self.checked = 0
        self._wished = 0
        self._running: dict[str, _Running] = {}
        self._over: set[str] = set()
        self._checking: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Join, and check the node for the first time."""
        self.joined = True
        self.checked = 0
        spec = self.spec
        self._tell(
            NodeJoined,
            name=spec.node,
            jurisdiction=spec.jurisdiction,
            devices=[
                Device(
                    device_id=one, index=card, model=spec.model, memory_mib=DEVICE_MIB, rehearsal=True
                )
                for card, one in enumerate(self.devices)
            ],
            memory_mib=spec.memory_mib,
            cpus=spec.cpu_milli // 1_000,
            address="127.0.0.1",
            agent_version="simulated",
            place=spec.place,
            assurances=list(spec.assurances),
            idle_w=spec.idle_w,
            gpu_w=spec.gpu_w,
        )
        self._verdict(0)

    def heed(self, intent: Intent) -> None:
        """Have run what is wished for, and nothing else."""
        if not self.powered:
            return
        specs: tuple[Spec, ...] = (*intent.workloads, *intent.members)
        listed = {spec.workload_id: spec for spec in specs}
        self._over &= listed.keys()
        for workload_id in [one for one in self._running if one not in listed]:
            self._stop(workload_id)
        for workload_id, spec in listed.items():
            if workload_id in self._over:
                continue
            running = self._running.get(workload_id)
            if running is None or (isinstance(spec, MemberSpec) and _step(running.spec) != spec.step):
                self._begin(spec)
        if intent.check > max(self.checked, self._wished):
            self._wished = intent.check
            self._checking = self.hands.later(CHECK_S, self._verdict, intent.check)

    def statuses(self) -> list[WorkloadStatus]:
        """Return what runs, as a heartbeat tells it."""
        return [
            WorkloadStatus(
                workload_id=workload_id,
                state=running.state,  # type: ignore[arg-type]
                address=self._address(workload_id) if running.state == "ready" else None,
            )
            for workload_id, running in self._running.items()
        ]

    def workloads(self) -> list[str]:
        """Return what runs and is not about to stop."""
        return [one for one, running in self._running.items() if running.state in {"starting", "ready"}]

    def fall_sick(self, card: int) -> None:
        """Have a device fail its health check, now and until it is mended."""
        self.sick = self.devices[card]
        self._verdict(self.checked)

    def fail(self, workload_id: str) -> None:
        """Have a workload end by itself."""
        self._gone(workload_id)
        self._over.add(workload_id)
        self._tell(WorkloadFailed, workload_id=workload_id, reason="simulated", exit_code=1)

    def down(self) -> None:
        """Lose power."""
        self.powered = self.joined = False
        self.cancel()
        for running in self._running.values():
            if isinstance(running.spec, MemberSpec) and running.spec.kind == "job":
                self.hands.gangs.gone(running.spec)
        self._running.clear()
        self._over.clear()
        self._wished = 0

    def cancel(self) -> None:
        """Have nothing happen that was to happen later."""
        if self._checking is not None:
            self._checking.cancel()
        for running in self._running.values():
            if running.timer is not None:
                running.timer.cancel()

    def _begin(self, spec: Spec) -> None:
        running = self._running[spec.workload_id] = _Running(spec, "starting")
        step = _step(spec)
        if step in {"", "hold"}:
            running.timer = self.hands.later(BEGIN_S, self._began, running)
        else:
            running.timer = self.hands.later(ERASE_S, self._stepped, running)

    def _began(self, running: _Running) -> None:
        spec = running.spec
        running.state = "ready"
        self._tell(WorkloadStarted, workload_id=spec.workload_id)
        if isinstance(spec, MemberSpec) and spec.kind == "job":
            self.hands.gangs.started(spec, self._finish)
        else:
            address = self._address(spec.workload_id)
            self._tell(WorkloadReady, workload_id=spec.workload_id, address=address)

    def _stepped(self, running: _Running) -> None:
        """Record that a server that was leased is erased, or attested."""
        step = "erased" if _step(running.spec) == "erase" else "attested"
        self._tell(
            ErasureRecorded,
            workload_id=running.spec.workload_id,
            step=step,
            verdict="pass",
            method="simulated",
        )

    def _stop(self, workload_id: str) -> None:
        running = self._running[workload_id]
        if running.state == "stopping":
            return
        if running.timer is not None:
            running.timer.cancel()
        if _step(running.spec) in {"erase", "attest"}:
            # It is clean, and nobody's any more.
            self._gone(workload_id)
            return
        running.state = "stopping"
        running.timer = self.hands.later(END_S, self._stopped, workload_id, None)

    def _finish(self, workload_id: str) -> None:
        if workload_id in self._running:
            self._over.add(workload_id)
            self._stopped(workload_id, 0)

    def _stopped(self, workload_id: str, exit_code: int | None) -> None:
        self._gone(workload_id)
        self._tell(WorkloadStopped, workload_id=workload_id, exit_code=exit_code)

    def _gone(self, workload_id: str) -> None:
        running = self._running.pop(workload_id)
        if running.timer is not None:
            running.timer.cancel()
        if isinstance(running.spec, MemberSpec) and running.spec.kind == "job":
            self.hands.gangs.gone(running.spec)
        self.hands.ended(self.node_id, workload_id)

    def _verdict(self, number: int) -> None:
        """Tell of a health check; ``number`` is the wish it answers."""
        self.checked = max(self.checked, number)
        sick = self.sick
        check = Check(
            name="gemm",
            device_id=sick or self.devices[0],
            verdict="pass" if sick is None else "fail",
            backend="numpy",
            rehearsal=True,
            took_ms=1,
            detail="exact" if sick is None else "wrong product",
        )
        self._tell(HealthChanged, verdict=check.verdict, level="quick", check=number, checks=[check])

    def _address(self, workload_id: str) -> str:
        return f"127.0.0.1:{20_000 + int(workload_id[-4:], 16) % 20_000}"

    def _tell(self, kind: type[Fact], **fields: Any) -> None:
        self.hands.tell(self, kind, fields)


def _step(spec: Spec) -> str:
    return spec.step if isinstance(spec, MemberSpec) else ""
