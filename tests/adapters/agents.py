"""A site for one node's agent: a closed bus, an identity that enrols, a placement that wishes."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from mesh_contracts import wire
from mesh_contracts.ask import Problem
from mesh_contracts.fact import Fact
from mesh_contracts.identity import Enrolment, EnrolNode
from mesh_contracts.placement import Intent, WorkloadSpec
from mesh_contracts.streams import FACT_BY_TAG
from mesh_contracts.units import DEFAULT_SITE
from meshkit.bucket import Entry
from meshkit.testing import test_id
from nats.aio.client import Client
from nats.aio.msg import Msg
from node_agent.runtimes import process

from tests.adapters.engines import until
from tests.closed_bus import ClosedBus, closed_bus

NODE = test_id("node", "of the site")


class Site:
    """What one agent has around it."""

    def __init__(self, bus: ClosedBus, folder: Path, models: Path) -> None:
        self.bus = bus
        self.folder = folder
        self.data = folder / "node"
        self.models = models
        self.facts: list[Any] = []
        self.beats: list[Msg] = []
        self.enrolments: list[EnrolNode] = []
        self.refusal: Problem | None = None
        self.node_id = NODE
        """What a node that enrols is called from then on."""
        self.life_s = 3_600.0
        self.lifeline, self.ours = os.pipe()
        self.process: asyncio.subprocess.Process | None = None
        self._placement: Client | None = None
        self._identity: Client | None = None
        self._epoch = 1

    async def open(self, stack: AsyncExitStack) -> None:
        identity = await stack.enter_async_context(self.bus.caller("identity"))
        self._identity = identity.client
        await self.bus.answer_strangers(identity.client)
        await identity.client.subscribe(f"ask.identity.node.enrol.{DEFAULT_SITE}", cb=self._enrol)
        observer = await stack.enter_async_context(self.bus.caller("observer"))
        await observer.client.subscribe("agent.>", cb=self._fact)
        placement = await stack.enter_async_context(self.bus.caller("placement"))
        for noun in ("heartbeat", "power"):
            await placement.client.subscribe(f"sample.agent.{noun}.>", cb=self._sample)
        self._placement = placement.client
        for caller in (identity, observer, placement):
            await caller.settle()

    async def _enrol(self, message: Msg) -> None:
        ask = wire.decode(message.data, EnrolNode)
        self.enrolments.append(ask)
        if self.refusal is not None:
            headers = {"Nats-Service-Error": "no", "Nats-Service-Error-Code": str(self.refusal.status)}
            assert self._identity is not None
            await self._identity.publish(message.reply, wire.encode(self.refusal), headers=headers)
            return
        self.bus.nodes[ask.public_key] = self.node_id
        await message.respond(wire.encode(Enrolment(node_id=self.node_id)))

    async def _fact(self, message: Msg) -> None:
        self.facts.append(wire.decode(message.data, FACT_BY_TAG[wire.tag_in(message.data)]))

    async def _sample(self, message: Msg) -> None:
        self.beats.append(message)

    async def wish(self, *workloads: WorkloadSpec, check: int = 0) -> None:
        """Write what the node should run, as placement does."""
        assert self._placement is not None
        value = Intent(node_id=NODE, workloads=list(workloads), check=check)
        entry = Entry(epoch=self._epoch, generation=1, value=msgspec.Raw(wire.encode(value)))
        await self._placement.jetstream().publish(f"$KV.intents.{NODE}", wire.encode(entry))

    async def start(self, **environment: str) -> None:
        """Start the agent in a process of its own."""
        self.folder.mkdir(exist_ok=True)
        token = self.folder / "join.token"
        token.write_text(self.bus.join_token)
        os.set_inheritable(self.lifeline, True)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "node_agent"),
            env={
                "PATH": os.environ["PATH"],
                "NATS_URL": self.bus.server.url,
                "AGENT_DATA_DIR": str(self.data),
                "AGENT_NAME": "n1",
                "AGENT_JOIN_TOKEN_FILE": str(token),
                "AGENT_DEVICES": "rehearsal",
                "AGENT_MODELS_DIR": str(self.models),
                "AGENT_ENERGY_INTERVAL_S": "1",
                "AGENT_LIFELINE_FD": str(self.lifeline),
                "AGENT_CREDENTIAL_LIFE_S": str(self.life_s),
                **environment,
            },
            pass_fds=(self.lifeline,),
            stderr=asyncio.subprocess.PIPE,
        )

    async def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End the agent; return what it said."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        _, said = await asyncio.wait_for(self.process.communicate(), 10)
        return said.decode()

    def of(self, kind: type[Fact]) -> list[Any]:
        """Return the facts of a kind that were told so far, each once."""
        found = {fact.fact_id: fact for fact in self.facts if isinstance(fact, kind)}
        return list(found.values())

    async def told(self, kind: type[Fact], count: int = 1, within_s: float = 15.0) -> Any:
        """Return the newest fact of a kind once ``count`` of them were told."""
        await until(lambda: len(self.of(kind)) >= count, within_s)
        return self.of(kind)[-1]

    def found(self, wished: WorkloadSpec) -> process.Found:
        folder = (self.data / "workloads" / wished.workload_id).resolve()
        return process.look(folder, wished.workload_id)

    def cut_lifeline(self) -> None:
        if self.ours >= 0:
            os.close(self.ours)
            self.ours = -1

    async def close(self) -> None:
        self.cut_lifeline()
        if self.process is not None and self.process.returncode is None:
            await self.end(signal.SIGKILL)
        os.close(self.lifeline)
        folders = (
            list((self.data / "workloads").iterdir()) if (self.data / "workloads").exists() else []
        )
        await until(lambda: not any(process.look(folder, folder.name).alive for folder in folders))


@asynccontextmanager
async def site(folder: Path, models: Path) -> AsyncIterator[Site]:
    """Run a test on a site of which nothing is left afterwards."""
    async with closed_bus() as bus, AsyncExitStack() as stack:
        made = Site(bus, folder, models)
        await made.open(stack)
        try:
            yield made
        finally:
            await made.close()


def passed(began: float) -> float:
    """Return the seconds since ``began``."""
    return time.monotonic() - began
