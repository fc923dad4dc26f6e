"""What a node says again and again, and may be lost: that it lives, what it draws, the ends of logs."""

import asyncio
from collections.abc import Callable

import msgspec
from mesh_contracts import wire
from mesh_contracts.node import Heartbeat, LogTail, WorkloadStatus
from mesh_contracts.units import NodeId, Site
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.ticks import tick

from node_agent.health import Health
from node_agent.metering import LOOK_EVERY_S, NodeMeter

HEARTBEAT_EVERY_S = 2.0


class Samples:
    """Sends this node's samples over a bus."""

    def __init__(self, bus: Bus, site: Site, node_id: NodeId, clock: Clock) -> None:
        self._bus = bus
        self._site = site
        self._node_id = node_id
        self._clock = clock
        self._beats = 0

    async def beat(self, health: Health, statuses: Callable[[], list[WorkloadStatus]]) -> None:
        """Say for ever that the node lives, and what runs here."""
        while True:
            self._beats += 1
            beat = Heartbeat(
                node_id=self._node_id,
                at=self._clock.now(),
                sequence=self._beats,
                check=health.last,
                workloads=statuses(),
            )
            await self._say("heartbeat", beat)
            await tick(HEARTBEAT_EVERY_S)

    async def power(self, meter: NodeMeter) -> None:
        """Say for ever what the node draws."""
        while True:
            await tick(LOOK_EVERY_S)
            await self._say("power", meter.look(self._node_id))

    async def log(self, tails: "asyncio.Queue[LogTail]") -> None:
        """Send for ever the ends of logs that are to be told."""
        while True:
            await self._say("log", await tails.get())

    async def _say(self, noun: str, sample: msgspec.Struct) -> None:
        subject = f"sample.agent.{noun}.{self._site}.{self._node_id}"
        await self._bus.publish(subject, wire.encode(sample))
