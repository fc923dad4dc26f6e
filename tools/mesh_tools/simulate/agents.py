"""Light agents: each an object that tells and does what a node-agent would, all in one process on one connection.

They enrol as identity would tell it, join, check themselves, beat every two seconds, hear their intent as it is
republished and read it from the bucket at their start and every thirty seconds.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from mesh_contracts import wire
from mesh_contracts.fact import Fact
from mesh_contracts.identity import NodeEnrolled
from mesh_contracts.node import Heartbeat
from mesh_contracts.placement import Intent
from mesh_contracts.units import DEFAULT_SITE, derived_id, new_id
from meshkit.bucket import Entry
from meshkit.bus import Bus, Message, Subscription
from meshkit.errors import Unavailable
from placement.domain.engine.site import NodeSpec

from mesh_tools.simulate.agent import Agent, Hands
from mesh_tools.simulate.asking import Asking
from mesh_tools.simulate.telling import Teller
from mesh_tools.simulate.watcher import Place, Watcher

HEARTBEAT_EVERY_S: Final = 2.0
READ_EVERY_S: Final = 30.0
SLICE_S: Final = 0.1
"""Beats and reads that are due are sent together, so often."""
READS_AT_ONCE: Final = 16


class Agents:
    """All agents of a hall."""

    def __init__(
        self,
        bus: Bus,
        specs: Sequence[NodeSpec],
        asking: Asking,
        teller: Teller,
        *,
        speed: float,
        seed: int,
    ) -> None:
        self._bus, self._teller = bus, teller
        began = bus.clock.now()
        hands = Hands(
            tell=self._tell,
            ended=self._ended,
            gangs=asking.gangs,
            speed=speed,
            chance=random.Random(f"{seed}/agents"),  # noqa: S311 - only how long starts and stops take
        )
        self.all = [Agent(spec, derived_id("node", began, spec.node), hands) for spec in specs]
        self._by_id = {agent.node_id: agent for agent in self.all}
        self.watcher = Watcher([_place(agent) for agent in self.all], asking.jurisdictions.get)
        self._seen: dict[str, tuple[int, int]] = {}
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._hearing: Subscription | None = None
        self.beats = self.reads = 0

    async def enrol(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Have all nodes enrol, join and pass their first check; ``wait`` is awaited between."""
        self._hearing = await self._bus.subscribe("intent.*", self._heard)
        for agent in self.all:
            born = self._born(agent.node_id) | {"version": 1}
            self._teller.tell(
                NodeEnrolled(**born, node_id=agent.node_id, name=agent.spec.node, public_key="U")
            )
        await wait()
        for agent in self.all:
            agent.start()

    def down(self, agent: Agent) -> None:
        """Have a node lose power."""
        self.watcher.down(agent.node_id)
        agent.down()

    async def up(self, agent: Agent) -> None:
        """Have a node's agent start again, which begins what it reads in the bucket."""
        agent.powered = True
        self.watcher.up(agent.node_id)
        agent.start()
        self._seen.pop(agent.node_id, None)
        await self._read(agent)

    async def beat(self) -> None:
        """Have each agent beat in its turn, until cancelled."""
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        while True:
            due = int((loop.time() - began) / HEARTBEAT_EVERY_S * len(self.all))
            # Who was held up does not make up for beats that nobody heard.
            for number in range(max(sent, due - len(self.all)), due):
                agent = self.all[number % len(self.all)]
                if agent.powered and agent.joined:
                    self._beat(agent, number // len(self.all) + 1)
            sent = due
            await asyncio.sleep(SLICE_S)

    async def read(self) -> None:
        """Have each agent read its intent in its turn, in case it has missed one, until cancelled."""
        loop = asyncio.get_running_loop()
        began, done = loop.time(), 0
        while True:
            due = int((loop.time() - began) / READ_EVERY_S * len(self.all))
            turn = [self.all[number % len(self.all)] for number in range(done, due)][-len(self.all) :]
            await asyncio.gather(*(self._read(agent) for agent in turn if agent.powered))
            done = due
            await asyncio.sleep(SLICE_S)

    async def close(self) -> None:
        """Hear no more, and have nothing happen any more."""
        if self._hearing is not None:
            await self._hearing.stop()
        for agent in self.all:
            agent.cancel()

    def _beat(self, agent: Agent, sequence: int) -> None:
        beat = Heartbeat(
            node_id=agent.node_id,
            at=self._bus.clock.now(),
            sequence=sequence,
            check=agent.checked,
            workloads=agent.statuses(),
        )
        try:
            self._bus.send(f"sample.agent.heartbeat.{DEFAULT_SITE}.{agent.node_id}", wire.encode(beat))
        except Unavailable:
            return
        self.beats += 1

    async def _read(self, agent: Agent) -> None:
        async with self._reading:
            try:
                stored = await self._bus.last("KV_intents", f"$KV.intents.{agent.node_id}")
            except Unavailable:
                return
        self.reads += 1
        if stored is not None:
            self._take(agent, stored.sequence, stored.data)

    def _heard(self, message: Message) -> None:
        agent = self._by_id.get(message.subject.partition(".")[2])
        if agent is not None:
            self._take(agent, int(message.headers.get("Nats-Sequence", "0")), message.data)

    def _take(self, agent: Agent, sequence: int, data: bytes) -> None:
        entry = wire.decode(data, Entry)
        seen = entry.epoch, sequence
        if seen <= self._seen.get(agent.node_id, (0, 0)):
            return
        self._seen[agent.node_id] = seen
        raw = bytes(entry.value)
        intent = Intent(node_id=agent.node_id) if raw == b"null" else wire.decode(raw, Intent)
        self.watcher.told(agent.node_id, intent, _ms(self._bus.clock.now()))
        agent.heed(intent)

    def _ended(self, node_id: str, workload_id: str) -> None:
        self.watcher.ended(node_id, workload_id)

    def _tell(self, agent: Agent, kind: type[Fact], fields: dict[str, Any]) -> None:
        agent.version += 1
        born = self._born(agent.node_id) | {"version": agent.version, "node_id": agent.node_id}
        self._teller.tell(kind(**born, **fields))

    def _born(self, key: str) -> dict[str, Any]:
        now = self._bus.clock.now()
        return {
            "fact_id": new_id("fact"),
            "key": key,
            "site": DEFAULT_SITE,
            "occurred_at": now,
            "recorded_at": now,
        }


def _place(agent: Agent) -> Place:
    spec = agent.spec
    return Place(
        node_id=agent.node_id,
        jurisdiction=spec.jurisdiction,
        devices=tuple(agent.devices),
        idle_w=spec.idle_w,
        gpu_w=spec.gpu_w,
        domains=spec.place,
    )


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1_000)
