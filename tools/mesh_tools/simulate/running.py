"""One simulation from its beginning to its figures."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from mesh_contracts import wire
from mesh_contracts.placement import JobFailed, NodeCordoned, NodeLost, NodeReturned
from meshkit.bus import Bus, Message
from placement.domain.engine.site import NodeSpec

from mesh_tools.bench.placement import halls
from mesh_tools.simulate import plan, sums
from mesh_tools.simulate.agents import Agents
from mesh_tools.simulate.asking import Asking, lease_s
from mesh_tools.simulate.faulting import Faulting
from mesh_tools.simulate.figures import Figures, Samples, between, told_of
from mesh_tools.simulate.servers import Servers, servers
from mesh_tools.simulate.telling import Teller

WITHIN_S: Final = 900.0
"""Real seconds within which all nodes join."""
LOOKS: Final = 4
"""What differs at the end is looked at so often: what is only on its way is no breach."""
SAID_MAX: Final = 100
GPUS_AN_ENDPOINT, ENDPOINTS_MAX = 128, 40
GPUS_A_LEASE, LEASES_MAX = 1_000, 20
LEASE_NODES_MAX: Final = 4
FOREIGN_EVERY: Final = 10
"""One server of so many stands in another country, where not all work may be."""

Say = Callable[[str], None]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be simulated."""

    gpus: int
    hours: float
    seed: int
    speed: float
    load: float
    gang_share: float
    fault_times: float
    trace: Path | None = None


async def simulate(wanted: Wanted, stop: asyncio.Event, say: Say) -> Figures:
    """Return the figures of one simulation. It ends early, with what there is, once ``stop`` is set."""
    with tempfile.TemporaryDirectory(prefix="mesh-simulate-") as folder:
        async with servers(Path(folder)) as running:
            bus = await running.connect()
            try:
                return await _Simulation(wanted, running, bus, say).run(stop)
            finally:
                await bus.close()


def hall(gpus: int) -> list[NodeSpec]:
    """Return the simulated servers, eight GPUs each."""
    return [
        msgspec.structs.replace(
            spec, jurisdiction=plan.NAMES[number % FOREIGN_EVERY == FOREIGN_EVERY - 1]
        )
        for number, spec in enumerate(halls.servers(gpus))
    ]


class _Simulation:
    def __init__(self, wanted: Wanted, servers: Servers, bus: Bus, say: Say) -> None:
        self._wanted, self._servers, self._bus, self._say = wanted, servers, bus, say
        self._teller = Teller(bus)
        self._asking = Asking(bus, wanted.speed)
        specs = hall(wanted.gpus)
        self._agents = Agents(
            bus, specs, self._asking, self._teller, speed=wanted.speed, seed=wanted.seed
        )
        self._watcher = self._agents.watcher
        faults = plan.Faults(wanted.seed, wanted.gpus, wanted.fault_times)
        self._faulting = Faulting(self._agents, self._asking, faults, wanted.speed)
        self._samples = Samples(self._watcher, wanted.gpus * plan.MILLI)
        self._heard: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.found = Figures(
            gpus=wanted.gpus,
            nodes=len(specs),
            seed=wanted.seed,
            speed=wanted.speed,
            load=wanted.load,
            sizes="built in" if wanted.trace is None else wanted.trace.name,
            fault_times=wanted.fault_times,
        )

    async def run(self, stop: asyncio.Event) -> Figures:
        """Return the figures."""
        try:
            arrivals = self._plan()
            await self._bus.subscribe("placement.>", self._told)
            await self._or(stop, self._join())
            await self._or(stop, self._fill(arrivals))
            began = self._bus.clock.now()
            coming = await self._live(stop, arrivals)
            for task in coming:
                task.cancel()
            await self._note(began)
            await self._look()
            return self.found
        finally:
            self._faulting.stop()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._agents.close()

    def _plan(self) -> plan.Plan:
        wanted = self._wanted
        sizes = plan.built_in() if wanted.trace is None else plan.of_trace(wanted.trace)
        return plan.Plan(
            wanted.seed, wanted.gpus, wanted.load, sizes=sizes, gang_share=wanted.gang_share
        )

    async def _join(self) -> None:
        """Have all nodes join, and wait until all take work."""
        began = asyncio.get_running_loop().time()
        self._go(self._teller.run(), self._agents.beat(), self._judge())
        self._teller.tell(*self._asking.admitted())
        await self._agents.enrol(lambda: _until(lambda: not self._teller.waits))
        await _until(lambda: self._heard["node.returned"] >= self.found.nodes)
        self.found.joined_s = round(asyncio.get_running_loop().time() - began, 1)
        self._say(f"{self.found.nodes} nodes have joined within {self.found.joined_s} s")
        self._go(self._agents.read())

    async def _fill(self, arrivals: plan.Plan) -> None:
        """Have caps set, and what is at work when the simulated time begins."""
        began, gpus = asyncio.get_running_loop().time(), self._wanted.gpus
        await self._asking.cap(self._watcher)
        await self._asking.serve(_some(gpus, GPUS_AN_ENDPOINT, ENDPOINTS_MAX))
        await self._asking.fill(arrivals.there())
        self.found.filled_s = round(asyncio.get_running_loop().time() - began, 1)
        self._say(f"{self._samples.now_pct()} % of the GPUs are at work within {self.found.filled_s} s")

    async def _live(self, stop: asyncio.Event, arrivals: plan.Plan) -> list[asyncio.Task[None]]:
        """Have the simulated time pass; return what still comes."""
        wanted, began = self._wanted, asyncio.get_running_loop().time()
        self._asking.gangs.go_on()
        leases = _some(wanted.gpus, GPUS_A_LEASE, LEASES_MAX)
        coming = self._go(
            self._asking.arrive(arrivals.arrivals(), began),
            self._faulting.run(began),
            self._samples.take(),
            self._asking.scale(),
            *(
                self._asking.lease(one, lease_s(one), 1 + one % LEASE_NODES_MAX)
                for one in range(leases)
            ),
        )
        await self._or(stop, asyncio.sleep(wanted.hours * 3_600 / wanted.speed))
        lasted_s = asyncio.get_running_loop().time() - began
        self.found.simulated_h = round(lasted_s * wanted.speed / 3_600, 2)
        self.found.interrupted = stop.is_set()
        return coming

    async def _note(self, began: datetime) -> None:
        """Note what there was, as the simulated time ends."""
        asking, watcher, found = self._asking, self._watcher, self.found
        found.allocation_mean_pct = self._samples.mean_pct()
        found.allocation_end_pct = self._samples.now_pct()
        found.asks, found.turned_away = asking.asked, asking.turned_away
        found.placed, found.queued, found.refused = (
            asking.outcomes[way] for way in ("placed", "queued", "refused")
        )
        found.reasons = dict(asking.reasons.most_common(3))
        found.waiting_at_end = len(asking.waiting)
        found.wait_p50_s, found.wait_p99_s = (between(asking.waits_s, part) for part in (0.5, 0.99))
        found.ask_p50_ms, found.ask_p99_ms = (between(asking.took_s, part, 1e3) for part in (0.5, 0.99))
        found.succeeded, found.failed = asking.gangs.succeeded, asking.ended_badly
        found.members_begun, found.members_moved = watcher.begun, watcher.moved
        found.members_restarted = watcher.restarted
        found.failures = dict(self._faulting.count)
        found.heartbeats, found.facts_told = self._agents.beats, self._teller.told
        for name, value in told_of(self._heard).items():
            setattr(found, name, value)
        rates = await sums.rates(self._servers.dsn, began)
        seconds = max(1.0, (self._bus.clock.now() - began).total_seconds())
        found.decisions, found.decisions_peak_per_s = rates["decisions"], rates["peak"]
        found.decisions_per_s = round(rates["during"] / seconds, 1)

    async def _look(self) -> None:
        """Have all come to rest, and look at what the tables say and agents were told."""
        found, watcher = self.found, self._watcher
        self._say("the simulated time is over; what is under way comes to rest")
        self._asking.gangs.stand_still()
        await self._faulting.mend()
        different: list[str] = []
        for _ in range(LOOKS):
            await _until(lambda: not self._teller.waits)
            found.quiet = await sums.quiet(self._servers.dsn)
            if not found.quiet:
                continue
            told = watcher.listed()
            different = await sums.breaches(self._servers.dsn, told, watcher.broken())
            if not different:
                break
        await _until(lambda: not watcher.suspects)
        found.breaches = sum(watcher.count.values()) + len(different)
        found.breaches_said = [*watcher.breaches, *different][:SAID_MAX]

    async def _judge(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._watcher.judge(_ms(self._bus.clock.now()))

    def _told(self, message: Message) -> None:
        kind = ".".join(message.subject.split(".")[1:3])
        self._heard[kind] += 1
        if kind == "node.returned":
            back = wire.decode(message.data, NodeReturned)
            self._watcher.opened(back.node_id, _ms(back.occurred_at))
        elif kind in {"node.cordoned", "node.lost"}:
            types: dict[str, Any] = {"node.cordoned": NodeCordoned, "node.lost": NodeLost}
            gone = wire.decode(message.data, types[kind])
            self._watcher.closed(gone.node_id, _ms(gone.occurred_at))
        elif kind == "job.failed":
            self._asking.failed(wire.decode(message.data, JobFailed).name)
        elif kind == "breaker.tripped":
            self._go(self._asking.rearm())

    def _go(self, *coroutines: Coroutine[Any, Any, None]) -> list[asyncio.Task[None]]:
        """Have things run beside; what one of them raises ends the simulation."""
        tasks = [asyncio.create_task(one) for one in coroutines]
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._done)
        return tasks

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None and not self._fault.done():
            self._fault.set_exception(fault)

    async def _or(self, stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
        """Wait for some work, or to be stopped. Raises what anything that runs beside has raised."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
        first: set[asyncio.Future[Any]] = {working, stopping, self._fault}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if self._fault.done():
                self._fault.result()
            if working.done():
                working.result()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)


async def _until(true: Callable[[], bool]) -> None:
    """Wait for what nobody announces. Raises ``TimeoutError``."""
    async with asyncio.timeout(WITHIN_S):
        while not true():  # noqa: ASYNC110 - nothing to be woken by
            await asyncio.sleep(0.05)


def _some(gpus: int, each: int, most: int) -> int:
    """Return one for each so many GPUs, no more than ``most``."""
    return min(most, gpus // each)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1_000)
