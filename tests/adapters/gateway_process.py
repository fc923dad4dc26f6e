"""The gateway as a process of its own, to be killed."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from tests.adapters.gateways import Town
from tests.servers_nats import free_port


def environment(here: Town, port: int, folder: str = "process") -> dict[str, str]:
    told = here.settings()
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "NATS_URL": told.nats_url,
        "NATS_CREDENTIALS": str(told.nats_credentials),
        "MESH_SECRET_FILE": str(told.mesh_secret_file),
        "GATEWAY_DATA_DIR": str(here.folder / folder),
        "GATEWAY_PORT": str(port),
    }


class Process:
    """``python -m inference_gateway`` (or another ``command``) in its own process.

    ``shared`` is a port that others have, too.
    """

    def __init__(
        self, here: Town, *command: str, folder: str = "process", shared: int | None = None
    ) -> None:
        self.here = here
        self._command = command or ("inference_gateway",)
        self.port = shared or free_port()
        self._environment = environment(here, self.port, folder)
        if shared:
            self._environment["GATEWAY_REUSE_PORT"] = "true"
        self.base = f"http://127.0.0.1:{self.port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, models: int = 1) -> None:
        """Start it (again); return once it takes callers and knows so many models."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *self._command),
            env=self._environment,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(20):
            while True:
                with suppress(aiohttp.ClientError):
                    headers = {"authorization": f"Bearer {self.here.key}"}
                    async with self.here.http.get(f"{self.base}/v1/models", headers=headers) as got:
                        if got.status == 200 and len(json.loads(await got.read())["data"]) >= models:
                            return
                await asyncio.sleep(0.02)

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Return how much memory it holds now, or (``VmHWM``) the most it ever held."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(f"{what}:"))
        return int(line.split()[1]) / 1024

    async def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(how)
        return await self._process.wait()


@asynccontextmanager
async def process(here: Town, *command: str, models: int = 1) -> AsyncIterator[Process]:
    made = Process(here, *command)
    await made.start(models)
    try:
        yield made
    finally:
        await made.end(signal.SIGKILL)
