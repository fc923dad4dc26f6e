"""The gateway assembled: journal, memory, doors; begun in order and stopped in order."""

import asyncio
import gc
import logging
import random
from typing import Any

import aiohttp
from mesh_contracts.metering import Ceiling, ProducerMark
from mesh_contracts.placement import Route
from meshkit.bucket import Watched
from meshkit.clock import Clock
from meshkit.config import read_secret
from meshkit.errors import ConfigError
from meshkit.journal import Journal
from meshkit.service import Service
from meshkit.tasks import Supervised
from meshkit.telemetry import METRICS

from inference_gateway.access import Access
from inference_gateway.activity import Activity
from inference_gateway.beside import NOT_AGAIN
from inference_gateway.calls import Calls
from inference_gateway.demand import HELD_BACK, DemandTeller
from inference_gateway.domain.admission import Admission
from inference_gateway.domain.directory import Directory
from inference_gateway.domain.faults import unavailable
from inference_gateway.domain.routing.fleet import Fleet
from inference_gateway.eventring import EventRing
from inference_gateway.http.api.asking import Asker
from inference_gateway.http.deciding import Deciding
from inference_gateway.http.events import EventDoor
from inference_gateway.http.openai import Doors
from inference_gateway.http.site import Front, Porch, api
from inference_gateway.leasing import Leasing
from inference_gateway.meter import Meter
from inference_gateway.recording import STOPPING
from inference_gateway.room import Room
from inference_gateway.server import Server, listen
from inference_gateway.settings import ACTIVE_MAX, GatewaySettings
from inference_gateway.signals import Scraper
from inference_gateway.tally import Tally
from inference_gateway.upstream import Upstreams
from inference_gateway.waiting import Lines

logger = logging.getLogger(__name__)

JOURNAL_KIND = "producer"
FINISH_WITHIN_S = 2.0
"""How long a stop waits for calls in progress before it cuts them."""

TELL_LOOKS, TELL_LOOK_S = 35, 0.02
"""How long a stop waits for the last batch to leave; the journal has it in any case."""

COUNT_EVERY_S = 1.0

CEILING = "ceiling."
"""How the keys of ceilings begin in the bucket ``limits``."""

COLLECT_AFTER = (10_000, 20, 20)
"""Allocations (then rounds) between two collections of each generation: a request leaves hardly a cycle."""


class Gateway(Service):
    """The public door. ``port`` is where it listens, from the moment it is made."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        clock: Clock | None = None,
        active_max: int = ACTIVE_MAX,
        journal_bytes_max: int | None = None,
    ) -> None:
        super().__init__("gateway", settings, clock=clock)
        journal_bytes_max = journal_bytes_max or settings.gateway_journal_bytes_max
        self._journal = Journal.open(
            settings.gateway_data_dir, kind=JOURNAL_KIND, bytes_max=journal_bytes_max
        )
        try:
            self._listening = listen(
                settings.gateway_host, settings.gateway_port, shared=settings.gateway_reuse_port
            )
        except ConfigError:
            self._journal.close()
            raise
        self._shared = settings.gateway_reuse_port
        self.port: int = self._listening.getsockname()[1]
        self.meter = Meter(
            self._journal,
            self.clock,
            settings.mesh_site,
            journal_bytes_max=journal_bytes_max,
        )
        self.calls = Calls(active_max)
        self.directory = Directory()
        self.lines: Lines | None = None
        self._upstreams: Upstreams | None = None
        self._porch = Porch()
        self._server = Server(self._porch, self._listening)
        self._work = Supervised()
        self.events: EventDoor | None = None
        self._access = self.watches("access")
        self._routes = self.watches("routes")
        self._limits = self.watches("limits")
        self.needs("door", self._missing_door)

    async def start(self) -> None:
        """Open every door: the bus first, then the public one."""
        if not self._shared:
            self._work.begin("http", self._server.serve)
        await super().start()
        if self.meter.closed:
            # Said here and not where it is done: a log has its form only once the service runs.
            logger.warning("closed %d requests that a kill had cut", self.meter.closed)
        self._upstreams = Upstreams()
        secret = read_secret(self.settings.mesh_secret_file).reveal().encode()
        room = self._furnish(secret)
        access = Access(self._access(), self.clock)
        asker = Asker(self.bus, access, self.clock, self.settings.mesh_site)
        ring = EventRing(self.bus)
        self.events = EventDoor(ring, access, secret)
        doors = Doors(room, Deciding(room, access, random.random))
        self._porch.front = Front(doors, self.events, api(asker))
        _settle()
        if self._shared:
            # Only now: whoever is sent here while it starts would be served at once by another.
            self._work.begin("http", self._server.serve)
        self._work.begin("events", ring.run)
        self._work.begin("watch", self.calls.watch)
        self._work.begin("sweep", self._upstreams.sweep)
        self._work.begin("batch", self.meter.batch)
        self._work.begin("drain", lambda: self.meter.drain(self.bus))
        self._work.begin("tell-again", lambda: self.meter.tell_missing(self.bus))
        self._work.begin("count", self._count)
        self._work.begin("lease", lambda: self._leasing.run(self.bus))
        self._work.begin("demand", self._demand.run)
        self._work.begin("scrape", self._scrape)

    def _furnish(self, secret: bytes) -> Room:
        """Return the room, and have it follow what the buckets say."""
        lines = self.lines = Lines(Fleet(), random.random)
        admission = Admission()
        activity = Activity(self.directory, lines)
        _follow(self._routes(), self.directory, lines, activity)
        _heed(self._limits(), self.meter, admission)
        self._leasing = Leasing(
            admission,
            producer=self.meter.producer,
            epoch=self.meter.epoch,
            settled_below=self.meter.settled_below,
        )
        self._demand = DemandTeller(
            self._journal,
            self.clock,
            self.settings.mesh_site,
            activity.snapshot,
            on_told=self.meter.told_besides,
        )
        lines.on_waiting = lambda _: self._demand.ring()
        assert self._upstreams is not None
        return Room(
            activity=activity,
            admission=admission,
            calls=self.calls,
            clock=self.clock,
            directory=self.directory,
            lines=lines,
            meter=self.meter,
            salt=secret,
            tally=Tally(),
            upstreams=self._upstreams,
        )

    async def _scrape(self) -> None:
        lines = self.lines
        assert lines is not None, "it begins after the room is furnished"
        async with aiohttp.ClientSession() as session:
            await Scraper(lines.fleet, lambda: self.directory, lines.waited_for, session).run()

    async def stop(self) -> None:
        """Finish what is in progress, tell what is not told, within ``STOP_WITHIN_S`` (5 s)."""
        self._server.stop_listening()
        if self.lines is not None:
            said = "This gateway is stopping. Send the request again."
            self.lines.close(unavailable("gateway_stopping", said))
        if self.events is not None:
            self.events.close()
        # Until then whoever was let in is served: an answer costs less than a second try elsewhere.
        await self._server.ended(FINISH_WITHIN_S)
        self.calls.closing = True
        self.calls.cut_all(STOPPING)
        await self._work.finish("http", 1.0)
        self._listening.close()
        if self._upstreams is not None:
            await self._upstreams.close()
        self.meter.form()
        for _ in range(TELL_LOOKS):
            if not self._journal.backlog or not self.bus.connected:
                break
            await asyncio.sleep(TELL_LOOK_S)
        await self._work.stop()
        await super().stop()
        self._journal.close()

    def _missing_door(self) -> str | None:
        if self._porch.front is None or not self._server.started:
            return "it is not open yet"
        return None

    async def _count(self) -> None:
        # What has not gone wrong yet is shown as nought, not as unknown.
        for name in ("mesh_gateway_retries_total", "mesh_gateway_overloaded_total", HELD_BACK):
            METRICS.count(name, 0)
        for kind in ("hedge", "retry"):
            METRICS.count(NOT_AGAIN, 0, kind=kind)
        METRICS.count("mesh_gateway_lease_renewals_total", 0, outcome="renewed")
        lines = self.lines
        assert lines is not None, "it begins after the room is furnished"
        while True:
            METRICS.bring()
            METRICS.set("mesh_gateway_active_requests", len(self.calls.active))
            METRICS.set("mesh_gateway_queued_requests", sum(map(lines.queued, lines.waited_for())))
            METRICS.set("mesh_gateway_journal_backlog", self._journal.backlog)
            METRICS.set("mesh_gateway_replicas", self.directory.replicas)
            METRICS.set("mesh_gateway_batches_unheld", self.meter.unheld)
            await asyncio.sleep(COUNT_EVERY_S)


def assemble(settings: GatewaySettings, **bounds: Any) -> Gateway:
    """Return the gateway, listening. Raises ``ConfigError`` for a taken port, ``MeshError`` for a held journal.

    ``bounds`` are those of ``Gateway``, and its clock.
    """
    return Gateway(settings, **bounds)


def _settle() -> None:
    """Have the collector of cycles look at what requests leave behind, not at the modules again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _follow(routes: "Watched[Route]", directory: Directory, lines: Lines, activity: Activity) -> None:
    def changed(endpoint_id: str, route: Route | None) -> None:
        directory.put(endpoint_id, route)
        lines.put(endpoint_id, route)
        activity.put(endpoint_id, route)

    routes.on_change(changed)
    for endpoint_id, route in routes.values.items():
        changed(endpoint_id, route)


def _heed(limits: "Watched[ProducerMark | Ceiling]", meter: Meter, admission: Admission) -> None:
    own = f"producer.{meter.producer}"

    def changed(key: str, value: ProducerMark | Ceiling | None) -> None:
        if key == own:
            assert not isinstance(value, Ceiling)
            meter.heed(value)
        elif key.startswith(CEILING):
            assert not isinstance(value, ProducerMark)
            admission.heed(key.removeprefix(CEILING), value)

    limits.on_change(changed)
    for key, value in limits.values.items():
        changed(key, value)
