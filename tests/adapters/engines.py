"""What the tests of the node's agent share: workloads to wish for, and what was told of them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh_contracts.fact import Fact, tag_of
from mesh_contracts.node import Check, Device, HealthChanged
from mesh_contracts.placement import Command, Engine, MemberSpec, Model, Resources, WorkloadSpec
from meshkit.clock import SystemClock
from meshkit.testing import test_id
from node_agent.commands import Runs
from node_agent.domain.verdicts import of_device
from node_agent.looking_after import LookingAfter, MakeWay, nobody_there
from node_agent.runtimes import process
from node_agent.runtimes.cgroups import Cgroups
from node_agent.telling import Teller
from node_agent.workloads import Workloads

KEY = "key-of-this-engine"
NODE = test_id("node", "tested")
LISTED = Device(device_id="rehearsal-n1-0", index=0, model="rehearsal", memory_mib=1, rehearsal=True)


def spec(model: str = "tiny", **fields: Any) -> WorkloadSpec:
    """Return a wish for one engine."""
    wished = {
        "workload_id": test_id("workload"),
        "endpoint_id": test_id("endpoint"),
        "organization": test_id("organization"),
        "project": test_id("project"),
        "name": model,
        "model": Model(id=model),
        "engine": Engine(),
        "resources": Resources(),
        "devices": ["rehearsal-n1-0"],
        "api_key": KEY,
        **fields,
    }
    return WorkloadSpec(**wished)


def member(*argv: str, **fields: Any) -> MemberSpec:
    """Return a wish for the one member of a job, which runs a program of Python."""
    wished = {
        "workload_id": test_id("workload"),
        "kind": "job",
        "owner_id": test_id("job"),
        "organization": test_id("organization"),
        "project": test_id("project"),
        "name": "train",
        "number": 0,
        "members": 1,
        "devices": ["rehearsal-n1-0"],
        "resources": Resources(gpus=1),
        "command": Command(image="none", argv=list(argv)),
        **fields,
    }
    return MemberSpec(**wished)


async def until(seen: Callable[[], Any], within_s: float = 15.0) -> Any:
    """Return what ``seen`` gives once it gives anything."""
    async with asyncio.timeout(within_s):
        while not (found := seen()):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.02)
    return found


class Checked:
    """Stands for what checks the devices: it found these checks, at whatever level."""

    def __init__(self, *found: Check) -> None:
        self.found, self.levels = found, list[str]()

    async def check(self, level: str) -> list[Check]:
        self.levels.append(level)
        return list(self.found)

    async def give_way(self) -> None:
        """Check nothing any more: nothing is."""

    def take_out(self, name: str, detail: str, action: str, teller: Teller) -> None:
        """Tell that the server should take no work."""
        check = of_device(name, LISTED, "inconclusive", detail, action)
        teller.tell(HealthChanged, verdict="inconclusive", level="quick", check=0, checks=[check])


class Told:
    """The facts that were told, in order."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def teller(self) -> Teller:
        return Teller(self.facts.append, NODE, "fr-idf-1", SystemClock())

    def verbs(self) -> list[str]:
        return [tag_of(type(fact)).split(".")[2].partition("/")[0] for fact in self.facts]

    async def said(self, verb: str) -> Any:
        def find() -> Any:
            return next((f for f, v in zip(self.facts, self.verbs(), strict=True) if v == verb), None)

        return await until(find)


class Host:
    """A folder with workloads, a lifeline, and the agents' part that looks after them."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder = folder
        self.models = models
        self.runs = Runs(runtime="process")
        self.ended: Callable[[str], None] = lambda _: None
        self.make_way: MakeWay = nobody_there
        self.cgroups: Cgroups | None = None
        self.told = Told()
        self.lifeline, self.ours = os.pipe()
        self.agents: list[Workloads] = []

    def agent(self, devices: Any = None) -> Workloads:
        """Return what an agent that just started has."""
        looking_after = LookingAfter(
            self.models,
            self.told.teller(),
            runs=self.runs,
            lifeline=self.lifeline,
            ended=self.ended,
            make_way=self.make_way,
            cgroups=self.cgroups,
            devices=devices,
        )
        made = Workloads(
            self.folder, looking_after, lifeline=self.lifeline, runs=self.runs, job_stop_s=2.0
        )
        made.adopt()
        self.agents.append(made)
        return made

    def found(self, wished: WorkloadSpec | MemberSpec) -> process.Found:
        return process.look(self.folder / wished.workload_id, wished.workload_id)

    def cut_lifeline(self) -> None:
        if self.ours >= 0:
            os.close(self.ours)
            self.ours = -1

    async def close(self) -> None:
        for agent in self.agents:
            await agent.leave()
        self.cut_lifeline()
        os.close(self.lifeline)
        for folder in self.folder.iterdir() if self.folder.exists() else ():
            process.tell_shim(folder, folder.name, signal.SIGTERM)

            def gone(folder: Path = folder) -> bool:
                pid = process.look(folder, folder.name).shim_pid
                if pid is not None:
                    process.ended(pid)
                return not process.look(folder, folder.name).alive

            await until(gone)


@asynccontextmanager
async def host(folder: Path, models: Path) -> AsyncIterator[Host]:
    """Run a test on a host of which nothing is left afterwards."""
    made = Host(folder, models)
    try:
        yield made
    finally:
        await made.close()
