"""Who asks: tenants with jobs, endpoints and leases, and operators who set caps and return mended nodes."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from mesh_contracts.ask import Ask, Principal, Problem
from mesh_contracts.fact import Fact
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.placement import (
    ChangeEndpoint,
    Command,
    CreateEndpoint,
    Endpoint,
    Job,
    Lease,
    Model,
    RearmBreaker,
    ReleaseLease,
    Replicas,
    RequestLease,
    Residency,
    Resources,
    ReturnNode,
    SetCap,
    SubmitJob,
)
from mesh_contracts.units import DEFAULT_SITE, derived_id, new_id
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.principal import seal

from mesh_tools.simulate.gangs import Gangs
from mesh_tools.simulate.plan import HOUR_S, Arrival
from mesh_tools.simulate.watcher import Watcher

ORGANIZATIONS, PROJECTS = 4, 2
"""Organisations, and projects of each."""
AT_ONCE: Final = 16
ANSWER_WITHIN_S: Final = 30.0
TRIES: Final = 5
WAITING_MAX: Final = 2_000
"""Jobs that wait at once; who comes then does not ask, and is counted."""
WAITS_MAX: Final = 1_000_000
BOUND_TIMES: Final = 3
"""A job that says how long it may run says so many times what it takes, and some real time for starts."""
BOUND_MORE_S: Final = 120
REPLICAS, SCALES, SCALE_EVERY_S = 2, (4, 1, 6, 2), 120.0
"""Replicas of an endpoint at first; then, in turn, of one endpoint every so many simulated seconds."""
LEASE_S: Final = (2 * HOUR_S, 8 * HOUR_S)
CAP_SHARE, CAP_EVERY = 0.9, 8
"""One PDU of so many may draw only so much of what it would; other parts a little more than they would."""
CAP_ROOM: Final = 1.02


class Asking:
    """Asks, and keeps what came of it."""

    def __init__(self, bus: Bus, speed: float) -> None:
        self._bus, self._speed = bus, speed
        self.gangs = Gangs(speed, self.runs, self.over)
        admin = Principal(
            principal_id="simulated", role="admin", expires_at=SystemClock().now() + timedelta(days=30)
        )
        self._principal = seal(admin, bus.secret)
        self._began = SystemClock().now()
        names = [f"{org}-{number}" for org in range(ORGANIZATIONS) for number in range(PROJECTS)]
        self.projects = {f"project-{name}": derived_id("project", self._began, name) for name in names}
        self.asked = self.turned_away = self.ended_badly = 0
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.took_s: list[float] = []
        self.waits_s: list[float] = []
        self.jurisdictions: dict[str, list[str]] = {}
        self.waiting: dict[str, tuple[float, bool]] = {}
        """Jobs that do not run yet: when they were asked for, and whether that counts."""
        self._endpoints: dict[str, int] = {}
        self._free = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def admitted(self) -> list[Fact]:
        """Return the facts of identity that projects may use the site."""
        return [self._admitted(name, project) for name, project in self.projects.items()]

    async def fill(self, there: Iterator[Arrival]) -> None:
        """Ask for what is there when the simulated time begins; return once all is answered."""
        async with asyncio.TaskGroup() as group:
            for one in there:
                await self._free.acquire()
                group.create_task(self._submit(one, counts=False))

    async def arrive(self, arrivals: Iterator[Arrival], began: float) -> None:
        """Ask for each at its time, counted from ``began`` on the loop's clock, until cancelled."""
        loop = asyncio.get_running_loop()
        for one in arrivals:
            await asyncio.sleep(began + one.at_s / self._speed - loop.time())
            if len(self.waiting) >= WAITING_MAX:
                self.turned_away += 1
                continue
            await self._free.acquire()
            task = asyncio.create_task(self._submit(one, counts=True))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def answered(self) -> None:
        """Return once all who asked are answered."""
        await asyncio.gather(*self._tasks)

    def runs(self, name: str) -> None:
        """Hear that all members of a job run."""
        since, counts = self.waiting.pop(name, (0.0, False))
        if counts and len(self.waits_s) < WAITS_MAX:
            self.waits_s.append((asyncio.get_running_loop().time() - since) * self._speed)

    def over(self, name: str) -> None:
        """Hear that a job will not run again."""
        self.waiting.pop(name, None)
        self.jurisdictions.pop(name, None)
        self.gangs.forget(name)

    def failed(self, name: str) -> None:
        """Hear that a job failed for good."""
        self.ended_badly += 1
        self.over(name)

    async def cap(self, watcher: Watcher) -> None:
        """Set a cap on each PDU, row and hall and on the site; one PDU of some may not draw all it would."""
        for level, domain in sorted(watcher.domains()):
            if level == "rack":
                continue
            drawn, most = watcher.domains()[level, domain]
            tight = level == "pdu" and int(domain[1:]) % CAP_EVERY == 0
            watts = max(drawn, int(most * (CAP_SHARE if tight else CAP_ROOM)))
            name = DEFAULT_SITE if level == "site" else domain
            await self._ask(SetCap, level=level, domain=name, watts=watts)
            watcher.cap(level, domain, watts)

    async def serve(self, count: int) -> None:
        """Have so many endpoints of a few replicas each."""
        for number in range(count):
            found = await self._ask(
                CreateEndpoint,
                name=f"endpoint-{number}",
                project=self._project(number),
                model=Model(id="tiny"),
                replicas=Replicas(min=REPLICAS, max=REPLICAS),
                resources=Resources(gpus=1, memory_mib=65_536),
            )
            self._note(found, Endpoint, counts=False)
            if isinstance(found, Endpoint):
                self._endpoints[found.name] = found.generation

    async def scale(self) -> None:
        """Have one endpoint after the other want more replicas, or fewer again; until cancelled."""
        turn, count = 0, len(self._endpoints)
        while count:
            await asyncio.sleep(SCALE_EVERY_S / self._speed)
            name, many = f"endpoint-{turn % count}", SCALES[turn // count % len(SCALES)]
            found = await self._ask(
                ChangeEndpoint,
                endpoint=name,
                generation=self._endpoints[name],
                replicas=Replicas(min=many, max=many),
            )
            if isinstance(found, Endpoint):
                self._endpoints[name] = found.generation
            turn += 1

    async def lease(self, number: int, chance_s: float, nodes: int) -> None:
        """Lease servers, give them back after a while, and again; until cancelled."""
        turn = 0
        while True:
            turn += 1
            name = f"lease-{number}-{turn}"
            found = await self._ask(
                RequestLease, name=name, project=self._project(number), nodes=nodes, wait_s=HOUR_S
            )
            self._note(found, Lease, counts=True)
            await asyncio.sleep(chance_s / self._speed)
            if isinstance(found, Lease):
                await self._ask(ReleaseLease, lease=found.id)

    async def return_node(self, node_id: str) -> bool:
        """Have a mended node checked; return whether it was in a state for that."""
        return not isinstance(await self._ask(ReturnNode, node=node_id), Problem)

    async def rearm(self) -> None:
        """Have failed checks take nodes out again: here each has been looked at."""
        await self._ask(RearmBreaker, reason="simulated faults come faster than real ones")

    async def _submit(self, one: Arrival, *, counts: bool) -> None:
        try:
            name = one.name
            self.jurisdictions[name] = one.jurisdictions
            self.gangs.expect(name, one.run_s)
            loop = asyncio.get_running_loop()
            self.waiting[name] = loop.time(), counts
            # What is there at the start stands still until all is there: no bound of its own fits.
            bounded = one.bounded and counts
            bound_s = int(BOUND_TIMES * one.run_s / self._speed) + BOUND_MORE_S if bounded else 0
            found = await self._ask(
                SubmitJob,
                name=name,
                project=self._project(one.number),
                command=Command(image="simulated", argv=["run", "--seconds", str(int(one.run_s))]),
                members=one.members,
                resources=one.resources,
                residency=Residency(jurisdictions=one.jurisdictions),
                near=one.near,
                priority=one.priority,
                run_max_s=bound_s,
            )
            self._note(found, Job, counts=counts)
            if isinstance(found, Problem):
                self.over(name)
        finally:
            self._free.release()

    def _note(self, found: Any, kind: type[Any], *, counts: bool) -> None:
        """Keep what came of an ask."""
        self.asked += counts
        reasons = [one.code for one in getattr(found, "reasons", ()) if not isinstance(one, dict)]
        if isinstance(found, Problem):
            outcome, reasons = "refused", [found.code]
        else:
            assert isinstance(found, kind), found
            waits = found.state in {"queued", "requested", "pending"}
            refused = found.state in {"failed", "refused"}
            outcome = "queued" if waits else "refused" if refused else "placed"
        self.outcomes[outcome] += counts
        if outcome != "placed" and reasons and counts:
            self.reasons[f"{outcome}: {reasons[0]}"] += 1

    async def _ask(self, kind: type[Ask], **fields: Any) -> Any:
        """Return the answer; what the service could not answer yet is asked again, under the same key."""
        key, loop = new_id("ask"), asyncio.get_running_loop()
        for tried in range(TRIES):
            began = loop.time()
            wish = self._bus.wish(self._principal, timeout_s=ANSWER_WITHIN_S, idempotency_key=key)
            found = await self._bus.ask(kind(**wish, **fields))
            if kind is SubmitJob and len(self.took_s) < WAITS_MAX:
                self.took_s.append(loop.time() - began)
            if not isinstance(found, Problem) or found.status not in {503, 504}:
                return found
            await asyncio.sleep(tried / 2)
        return found

    def _project(self, number: int) -> str:
        return list(self.projects.values())[number % len(self.projects)]

    def _admitted(self, name: str, project: str) -> ProjectAdmitted:
        organization = f"organization-{name.split('-')[1]}"
        return ProjectAdmitted(
            fact_id=new_id("fact"),
            key=project,
            site=DEFAULT_SITE,
            occurred_at=self._began,
            recorded_at=self._began,
            version=1,
            organization=derived_id("organization", self._began, organization),
            project=project,
            name=name,
            organization_name=organization,
        )


def lease_s(number: int) -> float:
    """Return for how many simulated seconds the n-th lease is held."""
    least, most = LEASE_S
    return least + (most - least) * (number * 7 % 10) / 10
