"""The agent, assembled here and nowhere else: what it begins, in which order, and how it ends."""

import asyncio
import contextlib
import logging
import random
import shutil
import signal
import time

from mesh_contracts.fact import Fact
from mesh_contracts.node import LogTail, NodeJoined, WorkloadStatus
from mesh_contracts.placement import Intent, MemberSpec
from mesh_contracts.units import NodeId
from meshkit import telemetry, vitals
from meshkit.bus import Bus
from meshkit.clock import Clock, SystemClock
from meshkit.journal import Journal
from meshkit.ops import Ops, serve_ops
from meshkit.tasks import Supervised
from meshkit.ticks import tick

from node_agent.described import described
from node_agent.devices import Devices, open_devices
from node_agent.devices.declared import BESIDE, Declared
from node_agent.disk import Disk
from node_agent.domain.reconcile import Spec, whole
from node_agent.examining import open_health
from node_agent.faults import Faults
from node_agent.joining import Joining
from node_agent.leases import Leases, orphan
from node_agent.limits import open_limits
from node_agent.looking_after import LookingAfter
from node_agent.metering import LOOK_EVERY_S, NodeMeter
from node_agent.samples import Samples
from node_agent.servers.opened import open_server
from node_agent.settings import AgentSettings
from node_agent.tails import Tails
from node_agent.telling import Teller, drained
from node_agent.wishes import Wishes
from node_agent.workloads import Workloads

LOGS_MAX = 256
"""Ends of logs that wait to be sent; others are lost."""
ALONE_AFTER_S = 20.0
"""Below the time after which placement has what a lost node ran begin elsewhere."""
STOP_WITHIN_S = 4.0
TOLD_WITHIN_S = 1.0
"""At the stop: what still waits in the journal then is told after the next start."""
JOURNAL_BYTES_MAX = 64 * 1024**2
"""Weeks of facts without a bus."""
JOURNAL = "journal"

logger = logging.getLogger(__name__)


class Agent:
    """One node's agent. ``run`` serves until told to stop; its engines live on."""

    ops: Ops
    bus: Bus
    teller: Teller
    workloads: Workloads
    leases: Leases
    tails: Tails
    meter: NodeMeter

    def __init__(self, settings: AgentSettings, clock: Clock, chance: random.Random) -> None:
        self.settings = settings
        self.clock = clock
        self.devices: Devices = open_devices(settings)
        settings.agent_data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.server = open_server(settings, self.devices)
        self.journal = self._open_journal()
        self.health = open_health(settings, self.devices, self.server)
        log, folder = settings.agent_kernel_log, settings.agent_data_dir
        self.faults = Faults(self.devices, self.health, log, folder)
        self.joining = Joining(settings, clock, chance)
        self.told_to_stop = asyncio.Event()
        self._tasks = Supervised()
        self._wishes: Wishes | None = None
        self._logs: asyncio.Queue[LogTail] = asyncio.Queue(LOGS_MAX)

    async def run(self) -> None:
        """Start, serve until SIGTERM, SIGINT or the lifeline's end, stop.

        Raises ``ConfigError`` and ``SystemExit`` (the bus closed for ever: be started again).
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.told_to_stop.set)
        lifeline = self.settings.agent_lifeline_fd
        if lifeline is not None:
            loop.add_reader(lifeline, self._lifeline_ended, lifeline)
        starting = asyncio.create_task(self.start())
        told = asyncio.create_task(self.told_to_stop.wait())
        await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self.stop()
            return
        starting.result()
        closed = asyncio.create_task(self.bus.closed.wait())
        await asyncio.wait({told, closed}, return_when=asyncio.FIRST_COMPLETED)
        gone = closed.done() and not told.done()
        told.cancel()
        closed.cancel()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self.stop()
        except TimeoutError:
            logger.error("the agent did not stop within %s s; leaving", STOP_WITHIN_S)  # noqa: TRY400
        if gone:
            logger.error(
                "the bus closed for ever; leaving so that whoever runs the agent starts it again"
            )
            raise SystemExit(1)

    async def start(self) -> None:
        """Join, adopt what runs, and begin all that the agent does. Raises ``ConfigError``."""
        settings = self.settings
        telemetry.start("node-agent", settings)
        self.ops = await serve_ops(
            settings.mesh_ops_port,
            live=self._dead,
            ready=self._missing,
            metrics=telemetry.METRICS.expose,
        )
        member = self.joining.member()
        if member is not None:
            # Known from before: what runs here is looked after even while the bus is away.
            self._settle(member.node_id)
        # Devices are checked while the bus is joined; the verdict waits for the node's name.
        first = asyncio.create_task(self.health.first(self._in_use))
        try:
            self.bus, node_id = await self.joining.join()
        except BaseException:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            raise
        if member is None or member.node_id != node_id:
            if member is not None:
                logger.warning("the mesh forgot %s; this is %s from now on", member.node_id, node_id)
                await self._leave_name()
            self._settle(node_id)
        wishes = self._wishes = Wishes(self.bus, node_id, self._wished)
        self._tasks.begin("alone", self._alone)
        self._tasks.begin("vitals", vitals.watch)
        self._tasks.begin("journal", self._drain)
        self._tasks.begin("health", lambda: self.health.run(first, self.teller, self._in_use))
        self._tasks.begin("faults", lambda: self.faults.run(self.teller))
        disk = Disk(settings.agent_data_dir, self.health, settings.agent_disk_least_mib)
        self._tasks.begin("disk", lambda: disk.watch(self.teller))
        self._tasks.begin("driver", lambda: self.faults.watch_driver(self.teller))
        self._tasks.begin("wishes", wishes.run)
        self._tasks.begin("leases", self.leases.run)
        samples = Samples(self.bus, settings.mesh_site, node_id, self.clock)
        self._tasks.begin("heartbeat", lambda: samples.beat(self.health, self._statuses))
        self._tasks.begin("power", lambda: samples.power(self.meter))
        self._tasks.begin("logs", lambda: samples.log(self._logs))
        self._tasks.begin(
            "energy", lambda: self.meter.run(self.teller, settings.agent_energy_interval_s)
        )
        self._tasks.begin("renewal", lambda: self.joining.renew(self.bus))
        logger.info("%s has started as %s", settings.agent_name, node_id)

    def _settle(self, node_id: NodeId) -> None:
        """Under its own name: tell that it started, adopt what runs, go on counting."""
        settings = self.settings
        self.teller = Teller(self._tell, node_id, settings.mesh_site, self.clock)
        self.teller.tell(NodeJoined, **described(settings, self.devices))
        lifeline = settings.agent_lifeline_fd
        folder = settings.agent_data_dir / "workloads"
        self.tails = Tails(folder, node_id, self.clock, self._tail)
        looking_after = LookingAfter(
            settings.models_dir,
            self.teller,
            runs=settings.runs,
            lifeline=lifeline,
            devices=self.devices,
            make_way=self._make_way,
            cgroups=open_limits(settings),
            ended=self.tails.tell,
        )
        self.workloads = Workloads(
            folder,
            looking_after,
            lifeline=lifeline,
            runs=settings.runs,
            job_stop_s=settings.agent_job_stop_s,
        )
        self.workloads.adopt()
        self.leases = Leases(settings.agent_data_dir, self.server, self.teller, self.health)
        if isinstance(self.devices, Declared):
            self.devices.leased = lambda: self.leases.held
        self.meter = NodeMeter(self.devices, settings.agent_data_dir, self.workloads.uses, self.clock)

    async def _leave_name(self) -> None:
        """Let go of what was to be told under a name that nobody may speak in any more."""
        await self.workloads.leave()
        orphan(self.settings.agent_data_dir)
        self.journal.close()
        shutil.rmtree(self.settings.agent_data_dir / JOURNAL)
        self.journal = self._open_journal()

    def _open_journal(self) -> Journal:
        folder = self.settings.agent_data_dir / JOURNAL
        return Journal.open(folder, kind="agent", bytes_max=JOURNAL_BYTES_MAX)

    async def stop(self) -> None:
        """Tell the last counters and leave; engines run on."""
        if hasattr(self, "meter"):
            self.meter.look(self.teller.node_id)
            self.meter.tell(self.teller)
            await self.workloads.leave()
        if hasattr(self, "bus"):
            await drained(self.journal, self.bus, TOLD_WITHIN_S)
        await self._tasks.stop()
        if hasattr(self, "bus"):
            await self.bus.close()
        self.journal.close()
        if hasattr(self, "ops"):
            await self.ops.close()
        telemetry.stop()

    async def _drain(self) -> None:
        # Nobody asks an agent for what was told: it is let go of at once.
        await self.journal.drain(self.bus, told=self.journal.release)

    def _tell(self, fact: Fact) -> None:
        self.journal.tell(fact)

    def _wished(self, intent: Intent) -> None:
        jobs = [member for member in intent.members if member.kind == "job"]
        self.workloads.wish([*intent.workloads, *jobs])
        self.tails.wish([*intent.workloads, *jobs])
        self.leases.wish([member for member in intent.members if member.kind == "lease"])
        self.health.wish(intent.check, intent.asked)

    def _statuses(self) -> list[WorkloadStatus]:
        return [*self.workloads.statuses(), *self.leases.statuses()]

    def _tail(self, tail: LogTail) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._logs.put_nowait(tail)

    def _in_use(self) -> set[str]:
        if not hasattr(self, "workloads"):
            return set()
        if self.leases.held:
            return {device.device_id for device in self.devices.listed()}
        return self.workloads.in_use()

    async def _make_way(self, spec: Spec) -> str | None:
        if isinstance(self.devices, Declared):
            return BESIDE
        return await self.health.make_way(
            spec.devices,
            self.teller,
            project=spec.project,
            whole=whole(spec),
            gang=isinstance(spec, MemberSpec) and spec.members > 1,
        )

    async def _alone(self) -> None:
        """End members of jobs once placement may count this node as lost: it gives their work to others."""
        while True:
            await tick(LOOK_EVERY_S)
            if self._wishes and time.monotonic() - self._wishes.heard_at > ALONE_AFTER_S:
                self.workloads.stop_jobs(f"placement was not heard here for {ALONE_AFTER_S:g} s")

    def _lifeline_ended(self, lifeline: int) -> None:
        # Nobody ever writes to it: readable means ended.
        asyncio.get_running_loop().remove_reader(lifeline)
        self.told_to_stop.set()

    def _dead(self) -> list[str]:
        closed = self._wishes is not None and self.bus.closed.is_set()
        return ["the bus is closed for ever"] if closed else []

    def _missing(self) -> list[str]:
        if self._wishes is None:
            return [f"not on the bus: {self.joining.said}"]
        missing = []
        if not self.bus.connected:
            missing.append("the bus is away")
        if not self._wishes.read:
            missing.append("what is wished of this node was not read yet")
        return missing


def assemble(
    settings: AgentSettings, *, clock: Clock | None = None, chance: random.Random | None = None
) -> Agent:
    """Return the agent. Raises ``ConfigError``, and ``MeshError`` where its data folder is in use."""
    return Agent(settings, clock or SystemClock(), chance or random.Random())  # noqa: S311 - only jitter
