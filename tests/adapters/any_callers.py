"""Callers who ask placement for whatever comes into their heads, and remember what they were answered."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random
from typing import Any

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import (
    CancelJob,
    CancelMaintenance,
    CapDomain,
    ChangeEndpoint,
    CheckNode,
    CordonNode,
    CreateEndpoint,
    DeleteEndpoint,
    DrainNode,
    ExplainPlacement,
    GetJob,
    GetLease,
    ListJobs,
    ListNodes,
    Maintenance,
    Model,
    PlanMaintenance,
    PowerCap,
    Quota,
    RearmBreaker,
    ReleaseLease,
    Replicas,
    RequestLease,
    Resources,
    ReturnNode,
    SetCap,
    SetQuota,
    SubmitJob,
)
from meshkit.bus import Bus
from meshkit.clock import SystemClock

from tests.adapters import any_shapes
from tests.adapters.any_kept import Kept, World
from tests.adapters.holdings import RUN

HONEST = {409, 412, 422, 429}
"""Problems that tell what is so; 503 and 504 are asked again."""
NOT_NOW = {503, 504}
OWN_MAX = 5
"""Jobs, leases and endpoints that one caller lets be at a time."""
PATIENCE_S = 90.0
ASK_WAIT_S = 2.5
"""How long a caller waits for an answer: of one who died, none comes."""

Draw = tuple[float, Callable[["Caller"], Any]]


class Caller:
    """One of those who ask at the same time, each with chances of its own."""

    def __init__(
        self, bus: Bus, world: World, kept: Kept, number: int, seed: int, mix: Sequence[Draw]
    ) -> None:
        self._mix = mix
        self._bus, self._world, self._kept = bus, world, kept
        self._chance = Random(f"{seed} caller {number}")
        self._name = f"c{number}"
        self._who, self._project = world.tenants[number % len(world.tenants)]
        self._serial = 0
        self._window: str | None = None
        self._own: dict[str, dict[str, Any]] = {"job": {}, "lease": {}, "endpoint": {}}

    async def run(self, goes_on: Callable[[], bool]) -> None:
        weights, draws = [one for one, _ in self._mix], [one for _, one in self._mix]
        while goes_on():
            (draw,) = self._chance.choices(draws, weights)
            await draw(self)

    async def submit(self) -> None:
        one = self._chance.choice
        wished = {
            "members": one([1, 1, 1, 1, 1, 2, 2, 2, 4, 8, 16]),
            "resources": any_shapes.resources(self._chance),
            "command": RUN,
            "residency": any_shapes.residency(self._chance),
            "near": any_shapes.near(self._chance),
            "isolation": one(["none"] * 8 + ["node", "node", "nvlink", "rack"]),
            "assurances": one([[], [], [], ["hds"]]),
            "preemptible": one([True, True, False]),
            "priority": one([0, 50, 100, 100, 200, 300, 500]),
            "min_run_s": one([0, 0, 1]),
            "run_max_s": one([0, 0, 1, 3, 600]),
            "restarts_max": one([0, 1, 3]),
        }
        await self._make("job", SubmitJob, **wished)

    async def submit_one(self) -> None:
        """Submit what is alone and small, and would be anywhere."""
        cards = [{"gpus": 1}, {"gpu_milli": 600}, *[{"gpu_milli": 250}] * 4, *[dict[str, int]()] * 4]
        card = self._chance.choice(cards)
        wished = {
            "resources": Resources(**card, memory_mib=1),
            "run_max_s": self._chance.choice([0, 0, 5]),
        }
        await self._make("job", SubmitJob, command=RUN, residency=any_shapes.anywhere(), **wished)

    async def request(self) -> None:
        one, now = self._chance.choice, SystemClock().now()
        wished: dict[str, Any] = {
            "residency": any_shapes.residency(self._chance),
            "wait_s": one([0, 0, 2, 10]),
            "priority": one([50, 100, 300]),
            "starts_at": any_shapes.moment(now, one([None, None, 0.5, 2, 5])),
            "ends_at": any_shapes.moment(now, one([None, 3, 6, 12])),
        }
        wished |= (
            {"domains": one([1, 1, 2])} if one([False] * 3 + [True]) else {"nodes": one([1, 1, 2, 4])}
        )
        await self._make("lease", RequestLease, **wished)

    async def create(self) -> None:
        least = self._chance.choice([0, 1, 1, 2, 3])
        await self._make(
            "endpoint",
            CreateEndpoint,
            model=Model(id="tiny"),
            replicas=Replicas(min=least, max=max(1, least) + 1),
            resources=any_shapes.resources(self._chance),
            residency=any_shapes.residency(self._chance),
        )

    async def change(self) -> None:
        made = self._some("endpoint")
        if made is None:
            return
        least = self._chance.choice([0, 1, 2, 3])
        answer = await self._ask(
            ChangeEndpoint,
            endpoint=made.id,
            replicas=Replicas(min=least, max=max(1, least) + 1),
            generation=made.generation,
        )
        if not isinstance(answer, Problem):
            self._own["endpoint"][made.id] = answer

    async def delete(self) -> None:
        await self._end("endpoint", DeleteEndpoint)

    async def cancel(self) -> None:
        await self._end("job", CancelJob)

    async def release(self) -> None:
        await self._end("lease", ReleaseLease)

    async def set_quota(self) -> None:
        one, all_of_it = self._chance.choice, self._world.gpus
        if one([True, False]):
            scope = {"scope_kind": "organization", "scope": one(self._world.organizations)}
        else:
            scope = {"scope_kind": "project", "scope": one(self._world.tenants)[0].project}
        gpus = self._chance.randint(0, all_of_it // 3)
        answer = await self._ask(
            SetQuota,
            self._world.admin,
            **scope,
            gpus=gpus,
            gpus_max=one([None, gpus, gpus + all_of_it // 8, all_of_it]),
            weight=one([0, 100, 100, 300]),
        )
        if isinstance(answer, Quota):
            self._kept.quota(answer)

    async def set_cap(self) -> None:
        level, domain, full_w = self._chance.choice(self._world.parts)
        watts = self._chance.choice([None, full_w, self._chance.randint(full_w // 3, full_w)])
        await self._cap(level, domain, watts)

    async def lift_cap(self) -> None:
        level, domain, _ = self._chance.choice(self._world.parts)
        await self._cap(level, domain, None)

    async def _cap(self, level: str, domain: str, watts: int | None) -> None:
        answer = await self._ask(SetCap, self._world.admin, level=level, domain=domain, watts=watts)
        if isinstance(answer, PowerCap):
            self._kept.cap(answer)

    async def cordon(self) -> None:
        await self._ask(CordonNode, self._world.admin, node=self._node(), reason="somebody wants it")

    async def drain(self) -> None:
        grace_s = self._chance.choice([0, 2, 3_600])
        await self._ask(
            DrainNode, self._world.admin, node=self._node(), reason="it is to be empty", grace_s=grace_s
        )

    async def bring_back(self) -> None:
        await self._ask(ReturnNode, self._world.admin, node=self._node())

    async def maintain(self) -> None:
        """Plan that somebody works on nodes, or cancel what this caller planned last."""
        if self._window is not None:
            await self.end_window()
            return
        one = self._chance.choice
        start = SystemClock().now() + timedelta(seconds=one([-1, 1, 3, 60]))
        ends = one([None, start + timedelta(seconds=one([2, 4, 30]))])
        nodes = [self._node() for _ in range(one([1, 2, 3]))]
        wished = {"nodes": nodes, "starts_at": start, "ends_at": ends, "reason": "somebody works there"}
        answer = await self._ask(PlanMaintenance, self._world.admin, **wished)
        if isinstance(answer, Maintenance):
            self._window = answer.id

    async def end_window(self) -> None:
        if self._window is not None:
            window, self._window = self._window, None
            await self._ask(CancelMaintenance, self._world.admin, window=window)

    async def check(self) -> None:
        await self._ask(CheckNode, self._world.admin, node=self._node())

    async def rearm(self) -> None:
        await self._ask(RearmBreaker, self._world.admin, reason="somebody has looked")

    async def explain(self) -> None:
        one = self._chance.choice
        level, domain, full_w = one(self._world.parts)
        lower = [CapDomain(level=level, domain=domain, watts=full_w // 2)]
        await self._ask(
            ExplainPlacement,
            self._world.admin,
            resources=any_shapes.resources(self._chance),
            residency=any_shapes.residency(self._chance),
            members=one([1, 2, 4]),
            supposed=one([[], lower]),
        )

    async def look(self) -> None:
        kind = self._chance.choice(["job", "lease", "jobs", "nodes"])
        made = self._some(kind) if kind in self._own else None
        if kind == "jobs":
            await self._ask(ListJobs)
        elif kind == "nodes":
            await self._ask(ListNodes, self._world.admin)
        elif made is not None:
            await self._ask({"job": GetJob, "lease": GetLease}[kind], **{kind: made.id})

    async def _make(self, kind: str, ask: Any, **wished: Any) -> None:
        if len(self._own[kind]) >= OWN_MAX:
            await self._end(kind, {"job": CancelJob, "lease": ReleaseLease}.get(kind, DeleteEndpoint))
            return
        name = f"{self._name}-{self._serial + 1}"
        answer = await self._ask(ask, name=name, project=self._project, **wished)
        if not isinstance(answer, Problem):
            self._kept.made[answer.id] = answer
            self._own[kind][answer.id] = answer

    async def _end(self, kind: str, ask: Any) -> None:
        made = self._some(kind)
        if made is None:
            return
        del self._own[kind][made.id]
        self._kept.undone.add(made.id)
        answer = await self._ask(ask, **{kind: made.id})
        if not isinstance(answer, Problem):
            self._kept.ended.add(made.id)

    async def _ask(self, kind: Any, who: Principal | None = None, **fields: Any) -> Any:
        """Ask until there is an answer other than "not now", under one key."""
        self._serial += 1
        self._kept.asked += 1
        key = f"{self._name}/{self._serial}" if kind.changes else None
        until = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            wish = self._bus.wish(who or self._who, timeout_s=ASK_WAIT_S, idempotency_key=key)
            answer = await self._bus.ask(kind(**wish, **fields))
            if not isinstance(answer, Problem):
                self._kept.answers[f"{kind.__name__} ok"] += 1
                return answer
            self._kept.answers[f"{kind.__name__} {answer.status} {answer.code}"] += 1
            late = asyncio.get_running_loop().time() > until
            if answer.status not in NOT_NOW or late:
                if late or answer.status not in HONEST or not answer.detail:
                    self._kept.faults.append(f"{kind.__name__} {fields} was answered {answer}")
                return answer
            await asyncio.sleep(self._chance.uniform(0.05, 0.15))

    def _some(self, kind: str) -> Any:
        own = self._own[kind]
        return own[self._chance.choice(list(own))] if own else None

    def _node(self) -> str:
        return self._chance.choice(self._world.nodes)
