"""The agent's part that hears errors of GPUs, beside a double of their driver."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from node_agent.devices import nvml
from node_agent.faults import Faults
from node_agent.health import Health

from tests.adapters.engines import Told, until


class Watching:
    """An agent's part that hears faults, and what it told."""

    def __init__(self, folder: Path, kernel_log: Path) -> None:
        self.devices = nvml.Nvml()
        self.health = Health(self.devices, folder)
        self.faults = Faults(self.devices, self.health, kernel_log)
        self.told = Told()

    @property
    def facts(self) -> list[Any]:
        return self.told.facts

    async def count(self, many: int) -> None:
        await until(lambda: len(self.facts) >= many)


@asynccontextmanager
async def watching(folder: Path, kernel_log: Path = Path("/no/such/log")) -> AsyncIterator[Watching]:
    made = Watching(folder, kernel_log)
    teller = made.told.teller()
    running = [
        asyncio.create_task(made.faults.run(teller)),
        asyncio.create_task(made.faults.watch_driver(teller)),
    ]
    await asyncio.sleep(0.1)
    try:
        yield made
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
