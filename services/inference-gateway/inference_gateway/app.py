"""The gateway assembled: journal, memory, doors; begun in order and stopped in order."""

import asyncio
import contextlib
import gc
import logging
from typing import Any

from mesh_contracts.metering import ProducerMark
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
from inference_gateway.calls import Calls
from inference_gateway.domain.directory import Directory
from inference_gateway.eventring import EventRing
from inference_gateway.http.api.asking import Asker
from inference_gateway.http.events import EventDoor
from inference_gateway.http.openai import Door
from inference_gateway.http.site import Front, Porch, api
from inference_gateway.meter import Meter
from inference_gateway.recording import STOPPING
from inference_gateway.room import Room
from inference_gateway.server import Server, listen
from inference_gateway.settings import ACTIVE_MAX, GatewaySettings
from inference_gateway.tally import Tally
from inference_gateway.upstream import Upstreams

logger = logging.getLogger(__name__)

JOURNAL_KIND = "producer"
FINISH_WITHIN_S = 2.0
"""How long a stop waits for calls in progress before it cuts them."""

TELL_LOOKS, TELL_LOOK_S = 35, 0.02
"""How long a stop waits for the last batch to leave; the journal has it in any case."""

COUNT_EVERY_S = 1.0

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
            self._listening = listen(settings.gateway_host, settings.gateway_port)
        except ConfigError:
            self._journal.close()
            raise
        self.port: int = self._listening.getsockname()[1]
        self.meter = Meter(
            self._journal,
            self.clock,
            settings.mesh_site,
            journal_bytes_max=journal_bytes_max,
        )
        self.calls = Calls(active_max)
        self.directory = Directory()
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
        self._work.begin("http", self._server.serve)
        await super().start()
        if self.meter.closed:
            # Said here and not where it is done: a log has its form only once the service runs.
            logger.warning("closed %d requests that a kill had cut", self.meter.closed)
        _follow(self._routes(), self.directory)
        _heed(self._limits(), self.meter)
        access = Access(self._access(), self.clock)
        self._upstreams = Upstreams()
        room = Room(
            calls=self.calls,
            clock=self.clock,
            directory=self.directory,
            in_flight={},
            meter=self.meter,
            tally=Tally(),
            upstreams=self._upstreams,
        )
        asker = Asker(self.bus, access, self.clock, self.settings.mesh_site)
        ring = EventRing(self.bus)
        secret = read_secret(self.settings.mesh_secret_file).reveal().encode()
        self.events = EventDoor(ring, access, secret)
        self._porch.front = Front(Door(room, access), self.events, api(asker))
        _settle()
        self._work.begin("events", ring.run)
        self._work.begin("watch", self.calls.watch)
        self._work.begin("sweep", self._upstreams.sweep)
        self._work.begin("batch", self.meter.batch)
        self._work.begin("drain", lambda: self.meter.drain(self.bus))
        self._work.begin("tell-again", lambda: self.meter.tell_missing(self.bus))
        self._work.begin("count", self._count)

    async def stop(self) -> None:
        """Finish what is in progress, tell what is not told, within ``STOP_WITHIN_S`` (5 s)."""
        self.calls.closing = True
        if self.events is not None:
            self.events.close()
        self._server.stop_listening()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_WITHIN_S):
                await self.calls.idle()
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
        for name in ("mesh_gateway_retries_total", "mesh_gateway_overloaded_total"):
            METRICS.count(name, 0)
        while True:
            METRICS.bring()
            METRICS.set("mesh_gateway_active_requests", len(self.calls.active))
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


def _follow(routes: "Watched[Route]", directory: Directory) -> None:
    routes.on_change(directory.put)
    for endpoint_id, route in routes.values.items():
        directory.put(endpoint_id, route)


def _heed(limits: "Watched[ProducerMark]", meter: Meter) -> None:
    own = f"producer.{meter.producer}"

    def changed(key: str, mark: ProducerMark | None) -> None:
        if key == own:
            meter.heed(mark)

    limits.on_change(changed)
    meter.heed(limits.values.get(own))
