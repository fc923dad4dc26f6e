"""The real servers under a simulation: nats-server, Postgres and placement, each a process, in one folder."""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from mesh_contracts.units import DEFAULT_SITE
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Settings, read_secret
from meshkit.declare import declare
from meshkit.errors import MeshError

from mesh_tools.embedded import tied
from mesh_tools.embedded.nats import Nats
from mesh_tools.embedded.postgres import Postgres, free_port

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
LOG_TAIL_CHARS = 2_000


class PlacementFailed(MeshError):
    """Placement ended, or did not become ready; the message says what it said last."""


class Servers(msgspec.Struct, frozen=True):
    """What runs, and where: the bus's address and shared secret, placement's database."""

    url: str
    secret: Path
    dsn: str
    placement: subprocess.Popen[bytes]

    async def connect(self) -> Bus:
        """Return a connection to the bus, which is open to whoever is on this machine."""
        settings = Settings(
            nats_url=self.url, nats_credentials=Path(os.devnull), mesh_secret_file=self.secret
        )
        secret = read_secret(self.secret)
        return await Bus.connect(settings, user="inference-gateway", clock=SystemClock(), secret=secret)


def prepare(folder: Path) -> None:
    """Make the folder one that Postgres, as nobody, can pass through, with a secret for the bus in it."""
    folder.chmod(0o755)
    (folder / "secret").write_text(secrets.token_hex(16))


@contextlib.asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[Servers]:
    """Have them run, with streams and buckets declared and placement ready, until the block ends."""
    prepare(folder)
    nats = Nats(folder / "nats", free_port())
    nats.prepare(f'listen: "127.0.0.1:{nats.port}"\njetstream {{ store_dir: "{nats.store}" }}\n')
    postgres = Postgres(folder / "postgres", free_port())
    secret = folder / "secret"
    try:
        postgres.prepare()
        nats.spawn(folder / "nats.log")
        postgres.spawn(folder / "postgres.log")
        await nats.wait_ready()
        await postgres.wait_ready()
        dsn = await postgres.ensure_database("placement")
        async with _placement(nats.url, secret, dsn, folder) as process:
            yield Servers(nats.url, secret, dsn, process)
    finally:
        nats.stop()
        postgres.stop()


@contextlib.asynccontextmanager
async def _placement(
    url: str, secret: Path, dsn: str, folder: Path
) -> AsyncIterator[subprocess.Popen[bytes]]:
    port, log = free_port(), folder / "placement.log"
    environ = {
        **os.environ,
        "NATS_URL": url,
        "NATS_CREDENTIALS": os.devnull,
        "MESH_SECRET_FILE": str(secret),
        "MESH_SITE": DEFAULT_SITE,
        "MESH_OPS_PORT": str(port),
        "POSTGRES_DSN": dsn,
    }
    settings = Settings(nats_url=url, nats_credentials=Path(os.devnull), mesh_secret_file=secret)
    admin = await Bus.connect(settings, user="admin", clock=SystemClock(), secret=read_secret(secret))
    await declare(admin)
    await admin.close()
    process = _spawn(environ, log)
    try:
        await _ready(process, port, log)
        yield process
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _spawn(environ: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    # It ends when this process ends, however that ends.
    command = tied.command(signal.SIGTERM, sys.executable, "-m", "placement")
    with log.open("ab") as said:
        # A Ctrl-C at the terminal is for us, who stop it in order.
        return subprocess.Popen(command, env=environ, stdout=said, stderr=said, process_group=0)


async def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while not await asyncio.to_thread(_answers, f"http://127.0.0.1:{port}/readyz"):
        if process.poll() is not None or time.monotonic() > until:
            raise PlacementFailed(f"placement does not serve: {_tail(log)}")
        await asyncio.sleep(0.1)


def _tail(log: Path) -> str:
    return log.read_text()[-LOG_TAIL_CHARS:]


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - our own
        return bool(answer.status == 200)
    return False
