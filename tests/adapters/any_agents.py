"""Light agents: each does what its intent says, tells what came of it, and now and then fails or falls silent."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal, NamedTuple

from mesh_contracts import wire
from mesh_contracts.node import WorkloadStatus
from mesh_contracts.placement import Intent, MemberSpec, WorkloadSpec
from meshkit.bus import Bus
from meshkit.errors import Unavailable

from tests.adapters.fleet import Node
from tests.adapters.holdings import recorded
from tests.adapters.standby import SITE

LOOK_EVERY_S = 0.05
BEAT_EVERY_S = 1.0
TOLD_WITHIN_S = 120.0
CARD_MILLI = 1_000
FAILS, UNCLEAN, SICK = 0.02, 0.03, 0.1
"""How often a member or a replica fails, a leased server is not clean, a check does not pass."""


class Had(NamedTuple):
    """What runs on a node: until when it is only starting, and when it ends by itself."""

    kind: Literal["endpoint", "job", "lease"]
    state: Literal["starting", "ready"]
    ready_at: float
    ends_at: float


class Patient:
    """A bus as an agent has it, whose journal tells a fact again until its stream has it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def store(self, subject: str, data: bytes, *, msg_id: str) -> int:
        until = time.monotonic() + TOLD_WITHIN_S
        while True:
            try:
                return await self._bus.store(subject, data, msg_id=msg_id)
            except Unavailable:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(LOOK_EVERY_S)


class Agent:
    """One node's agent."""

    def __init__(self, node: Node, chance: Random, run_max_s: float) -> None:
        self.node, self._chance, self._run_max_s = node, chance, run_max_s
        bus: Any = Patient(node.bus)
        node.bus = bus
        self.silent_until = 0.0
        self.returns = False
        self.has: dict[str, Had] = {}
        self.faults: list[str] = []
        self._over: set[tuple[str, str]] = set()
        self._checked = 0

    @property
    def silent(self) -> bool:
        return time.monotonic() < self.silent_until

    def beat(self) -> bytes:
        return wire.encode(
            self.node.beat(
                *(
                    WorkloadStatus(workload_id=one, state=had.state, address="127.0.0.1:4000")
                    for one, had in self.has.items()
                )
            )
        )

    async def act(self, intent: Intent) -> None:
        """Do and tell whatever is due."""
        if self.returns:
            self.returns = False
            await self._return()
        self._look(intent)
        wished = {
            one.workload_id: one
            for one in (*intent.workloads, *intent.members)
            if getattr(one, "step", "hold") == "hold"
        }
        for gone in [one for one in self.has if one not in wished]:
            del self.has[gone]
            await self.node.stopped(gone)
        listed = {one.workload_id for one in (*intent.workloads, *intent.members)}
        self._over = {one for one in self._over if one[0] in listed}
        for name, spec in wished.items():
            if name not in self.has and (name, "hold") not in self._over:
                await self._begin(name, spec)
        for name, had in list(self.has.items()):
            await self._go_on(name, had)
        for member in intent.members:
            if member.step != "hold" and (member.workload_id, member.step) not in self._over:
                self._over.add((member.workload_id, member.step))
                step = {"erase": "erased", "attest": "attested"}[member.step]
                unclean = self._chance.random() < UNCLEAN
                await recorded(self.node, member.workload_id, step, "fail" if unclean else "pass")
        if intent.check > self._checked:
            self._checked = intent.check
            sick = self._chance.random() < SICK
            await self.node.check("fail" if sick else "pass", intent.check)

    async def _return(self) -> None:
        """Be there after a silence: started anew, or having been cut off only."""
        if self._chance.random() < 0.5:
            await self.node.start()
            await self.node.check("pass", self._checked)

    async def _begin(self, name: str, spec: WorkloadSpec | MemberSpec) -> None:
        kind = spec.kind if isinstance(spec, MemberSpec) else "endpoint"
        now = time.monotonic()
        ready_at = now + self._chance.uniform(0, 0.3)
        runs_s = self._chance.uniform(0, self._run_max_s) * (1 if kind == "job" else 20)
        self.has[name] = Had(kind, "starting", ready_at, ready_at + runs_s)
        await self.node.started(name)

    async def _go_on(self, name: str, had: Had) -> None:
        now, draw = time.monotonic(), self._chance.random
        if had.state == "starting" and now >= had.ready_at:
            if draw() < FAILS:
                await self._end(name, failed=True)
                return
            self.has[name] = had._replace(state="ready")
            if had.kind != "job":
                await self.node.ready(name)
        elif now >= had.ends_at and had.kind == "job":
            await self._end(name, failed=draw() < FAILS)
        elif now >= had.ends_at and had.kind == "endpoint":
            await self._end(name, failed=True)

    async def _end(self, name: str, *, failed: bool) -> None:
        del self.has[name]
        self._over.add((name, "hold"))
        if failed:
            await self.node.failed(name)
        else:
            await self.node.stopped(name, exit_code=0)

    def _look(self, intent: Intent) -> None:
        """No device is to be given out for more than it is."""
        given: Counter[str] = Counter()
        for one in (*intent.workloads, *intent.members):
            milli = one.resources.gpu_milli if one.resources else 0
            for device in one.devices:
                given[device] += milli or CARD_MILLI
        for device, milli in given.items():
            if milli > CARD_MILLI:
                self.faults.append(f"{device} is to run {milli} milli: {intent}")


class Agents:
    """All agents of a site, in one task; ``intents`` is the bucket."""

    def __init__(
        self, nodes: Sequence[Node], intents: Mapping[str, Intent], seed: int, run_max_s: float
    ) -> None:
        self.all = [Agent(node, Random(f"{seed} {node.name}"), run_max_s) for node in nodes]
        self._chance = Random(f"{seed} silence")
        self._intents = intents

    async def run(self) -> None:
        """Act, until cancelled."""
        beaten = 0.0
        while True:
            heard = [one for one in self.all if not one.silent]
            await asyncio.gather(*(self._act(one) for one in heard))
            if time.monotonic() - beaten >= BEAT_EVERY_S:
                beaten = time.monotonic()
                for one in heard:
                    one.node.bus.send(f"sample.agent.heartbeat.{SITE}.{one.node.id}", one.beat())
            await asyncio.sleep(LOOK_EVERY_S)

    async def silences(self, least_s: float, most_s: float) -> None:
        """Have one node after the other fall silent for a while, until cancelled."""
        while True:
            one = self._chance.choice(self.all)
            for_s = self._chance.uniform(least_s, most_s)
            one.silent_until = time.monotonic() + for_s
            await asyncio.sleep(for_s)
            one.returns = True
            await asyncio.sleep(self._chance.uniform(0, 5))

    def faults(self) -> list[str]:
        return [fault for one in self.all for fault in one.faults]

    async def _act(self, agent: Agent) -> None:
        intent: Any = self._intents.get(agent.node.id)
        if intent is not None:
            await agent.act(intent)
