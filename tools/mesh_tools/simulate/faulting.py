"""What breaks and is mended again, at its time: the simulated hall's bad luck, and the people who repair it."""

import asyncio
from collections import Counter
from typing import Final

from mesh_tools.simulate.agent import Agent
from mesh_tools.simulate.agents import Agents
from mesh_tools.simulate.asking import Asking
from mesh_tools.simulate.plan import Faults

OUT_AT_LEAST_S: Final = 15.0
"""Real seconds that a node stays silent at least: less would be no loss by placement's real limits."""
RETURN_TRIES, RETURN_AGAIN_S = 12, 5.0
REPAIRS_MAX: Final = 5_000


class Faulting:
    """Breaks nodes, devices and members at their times."""

    def __init__(self, agents: Agents, asking: Asking, faults: Faults, speed: float) -> None:
        self._agents, self._asking, self._faults, self._speed = agents, asking, faults, speed
        self.count: Counter[str] = Counter()
        self._broken: set[str] = set()
        self._repairs: set[asyncio.Task[None]] = set()

    async def run(self, began: float) -> None:
        """Have each thing break at its time, counted from ``began`` on the loop's clock, until cancelled."""
        loop = asyncio.get_running_loop()
        for at_s, kind in self._faults.all():
            await asyncio.sleep(began + at_s / self._speed - loop.time())
            if kind == "member":
                self._fail_member()
                continue
            agent = self._agents.all[self._faults.which(len(self._agents.all))]
            if agent.node_id in self._broken or len(self._repairs) >= REPAIRS_MAX:
                continue
            self.count[kind] += 1
            self._broken.add(agent.node_id)
            repair = self._lose(agent) if kind == "node" else self._spoil(agent)
            task = asyncio.create_task(repair)
            self._repairs.add(task)
            task.add_done_callback(self._repairs.discard)

    def stop(self) -> None:
        """Have nothing more be mended."""
        for task in self._repairs:
            task.cancel()

    async def mend(self) -> None:
        """Have all that is broken be mended now; what was taken out stays so."""
        self.stop()
        for agent in self._agents.all:
            agent.sick = None
            if not agent.powered:
                await self._agents.up(agent)

    def _fail_member(self) -> None:
        agents, first = self._agents.all, self._faults.which(len(self._agents.all))
        for agent in (*agents[first:], *agents[:first]):
            there = agent.workloads() if agent.powered else []
            if there:
                self.count["member"] += 1
                agent.fail(there[self._faults.which(len(there))])
                return

    async def _lose(self, agent: Agent) -> None:
        self._agents.down(agent)
        await asyncio.sleep(max(OUT_AT_LEAST_S, self._faults.repair_s() / self._speed))
        await self._agents.up(agent)
        self._broken.discard(agent.node_id)

    async def _spoil(self, agent: Agent) -> None:
        agent.fall_sick(self._faults.which(len(agent.devices)))
        await asyncio.sleep(self._faults.repair_s() / self._speed)
        agent.sick = None
        # It can be returned once placement has taken it out; where a breaker has left it in, it goes on.
        for _ in range(RETURN_TRIES):
            if await self._asking.return_node(agent.node_id):
                break
            await asyncio.sleep(RETURN_AGAIN_S)
        self._broken.discard(agent.node_id)
