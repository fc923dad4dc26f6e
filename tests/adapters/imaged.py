"""A server whose accelerators a file names, behind a double of a BMC, with an erase image that finds what it is told to."""

import asyncio
import json
from pathlib import Path
from typing import Any

from node_agent.devices.declared import Declared
from node_agent.doubles.redfish import Double
from node_agent.examining import Examining
from node_agent.health import Health

from tests.adapters.bare_metal import Bare, image_ran, looked_at
from tests.adapters.engines import until

ERASE = "https://images.example/erase.iso"
GPUS = ("GPU-a", "GPU-b")


def declared(folder: Path, *ids: str) -> Declared:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "devices.json"
    named = [{"device_id": one, "model": "NVIDIA H200", "memory_mib": 143_771} for one in ids or GPUS]
    file.write_text(json.dumps(named))
    return Declared(file, folder, idle_w=1_000, gpu_w=700)


class Imaged:
    """A server behind a double of a BMC, with an erase image that finds what it is told to."""

    def __init__(self, folder: Path, bmc: Double) -> None:
        self.reports = folder / "reports"
        self.reports.mkdir()
        self.bmc, self.runs = bmc, 0
        self.found = [looked_at(one) for one in GPUS]
        self.leaves = True
        self.serials = ["NVME-1", "NVME-2"]
        self.devices = declared(folder / "agent")
        url = f"{self.reports.as_uri()}/{{system}}.json"
        hold: dict[str, Any] = {"erase_image": ERASE, "report_url": url, "devices": self.devices}
        self.bare = Bare(folder / "agent", bmc.url, **hold)
        self.start()

    def start(self) -> None:
        """Have what an agent that just started has."""
        self.bmc.on_boot = self.booted
        self.server = self.bare.server()
        self.checks = Examining(self.devices, self.server)
        self.health = Health(self.devices, self.bare.folder, probing=self.checks)

    def again(self) -> "Imaged":
        """Return the same after the agent started again."""
        self.start()
        return self

    def booted(self, image: str | None) -> None:
        if image == ERASE:
            self.runs += 1
            if self.leaves:
                system = self.bmc.state.system
                image_ran(self.reports, system, self.serials, self.runs, self.found)

    def verdicts(self) -> list[str]:
        return [one.verdict for one in self.devices.known()]


async def wished(imaged: Imaged, number: int, *, asked: bool = True) -> Any:
    """Wish for a check as placement does, where somebody asked or not; return what was told."""
    first = asyncio.create_task(imaged.health.first(lambda: ()))
    running = asyncio.create_task(imaged.health.run(first, imaged.bare.told.teller(), lambda: ()))
    try:
        imaged.health.wish(number, asked=number if asked else 0)

        def told() -> Any:
            facts = imaged.bare.told.facts
            return next((f for f in facts if getattr(f, "check", None) == number), None)

        return await until(told, 20.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
