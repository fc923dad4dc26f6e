"""A real Postgres for the tests: one server a session, a fresh database and role each time."""

import asyncio
import os
import re
import signal
import threading
from collections.abc import Coroutine, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mesh_tools.embedded.postgres import Postgres, PostgresFailed

from tests.scratch import scratch


def _apart(work: Coroutine[Any, Any, Any]) -> Any:
    """Run ``work`` to its end in a loop of its own, also from within a test's loop."""
    got: list[Any] = []
    fault: list[BaseException] = []

    def run() -> None:
        try:
            got.append(asyncio.run(work))
        except BaseException as raised:  # noqa: BLE001
            fault.append(raised)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if fault:
        raise fault[0]
    return got[0]


class PostgresServer:
    """A server under test: give it databases, kill it, start it again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A test kills programs, never the machine: nothing needs to reach the disk.
        self._server = Postgres(folder / "postgres", settings={"fsync": "off"})
        self._serial = count(1)
        self._server.prepare()
        self.start()

    @property
    def pid(self) -> int:
        assert self._server.process is not None
        return self._server.process.pid

    def dsn(self, owner: str) -> str:
        """Return the DSN of a new, empty database with a role of its own."""
        name = f"t{next(self._serial)}_{re.sub('[^a-z0-9]', '_', owner)}"
        text: str = _apart(self._server.ensure_database(owner, database=name))
        return text

    def kill(self) -> None:
        """Kill it as a crash would."""
        self._server.kill()

    def start(self) -> None:
        """Start it again, on the same port with the same data; return once it answers."""
        for left in reversed(range(20)):
            process = self._server.process
            if process is None or process.poll() is not None:
                self._server.spawn(self._folder / "log")
            try:
                _apart(self._server.wait_ready())
            except PostgresFailed:
                # The children of a killed server may still hold its memory for a moment.
                if not left:
                    raise
            else:
                return

    def stop(self) -> None:
        """End it and its children, without the checkpoint of an orderly stop."""
        process = self._server.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGQUIT)
            process.wait(10)


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[PostgresServer]:
    folder = scratch("mesh-postgres-")
    folder.chmod(0o755)
    server = PostgresServer(folder)
    try:
        yield server
    finally:
        server.stop()
        # Hundreds of databases take seconds to delete, which nobody needs to wait for.
        os.spawnlp(os.P_NOWAIT, "rm", "rm", "-rf", str(folder))


@pytest.fixture
def postgres(_postgres_server: PostgresServer) -> PostgresServer:
    """A Postgres that answers; ``dsn(owner)`` makes an empty database."""
    _postgres_server.start()
    return _postgres_server
