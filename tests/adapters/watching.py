"""The agent's part that hears errors of GPUs, beside a double of their driver."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
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
        self.suspected: list[tuple[int, str]] = []

    def suspects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note what is suspected, by index and level, in place of having it checked."""
        monkeypatch.setattr(
            self.health, "suspect", lambda device, level: self.suspected.append((device.index, level))
        )

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


@asynccontextmanager
async def watching_a_log(folder: Path) -> AsyncIterator[tuple[Watching, Callable[[str], None]]]:
    """Give the same beside a kernel's log, and what writes a line of it: whose (``NVRM: Xid ...``), and what."""
    log = folder / "kmsg"
    os.mkfifo(log)
    numbers = count(1)
    async with watching(folder, log) as made:
        kernel = os.open(log, os.O_WRONLY)

        def write(line: str) -> None:
            number = next(numbers)
            os.write(kernel, f"4,{number},{number},-;{line}\n".encode())

        try:
            yield made, write
        finally:
            os.close(kernel)
