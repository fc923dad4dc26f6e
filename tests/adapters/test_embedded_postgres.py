"""Postgres as ``mesh up`` runs it: from its wheel, never as root, gone with whoever started it."""

import asyncio
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from mesh_tools.embedded.postgres import Postgres, PostgresFailed

from tests.adapters.roads import until

pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mesh pg ") as name:
        yield Path(name) / "closed to others" / "postgres"


@pytest.fixture
def server(folder: Path) -> Iterator[Postgres]:
    # As under a root's home: a folder that nobody else may pass through.
    folder.parent.mkdir(mode=0o700)
    postgres = Postgres(folder, settings={"fsync": "off"})
    postgres.prepare()
    yield postgres
    postgres.kill()


async def test_it_runs_unprivileged_behind_a_closed_folder_and_keeps_its_data(server: Postgres) -> None:
    pid = server.spawn(server.folder / "log")
    await server.wait_ready()
    assert "Uid:\t0\t" not in _status(pid)
    dsn = await server.ensure_database("metering")
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept (id int)")
    await connection.close()
    server.stop()
    server.prepare()
    server.spawn(server.folder / "log")
    await server.wait_ready()
    assert await server.ensure_database("metering") == dsn
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM kept") == 0
    await connection.close()


async def test_services_that_start_together_each_get_their_database(server: Postgres) -> None:
    server.spawn(server.folder / "log")
    await server.wait_ready()
    owners = ("identity", "placement", "metering", "carbon")
    for _ in range(5):
        dsns = await asyncio.gather(*(server.ensure_database(owner) for owner in owners))
        assert len(set(dsns)) == len(owners)


def test_a_folder_whose_password_is_gone_is_an_error_and_never_a_new_database(server: Postgres) -> None:
    (server.folder / "superuser.password").unlink()
    with pytest.raises(PostgresFailed, match="put it back"):
        server.prepare()
    assert (server.data / "PG_VERSION").exists()


STARTER = """
import sys, time
from pathlib import Path
from mesh_tools.embedded.postgres import Postgres
server = Postgres(Path(sys.argv[1]))
print(server.spawn(Path(sys.argv[1]) / "log"), flush=True)
time.sleep(60)
"""


async def test_it_ends_when_whoever_started_it_is_killed(server: Postgres) -> None:
    with _started(server.folder) as starter:
        assert starter.stdout is not None
        pid = int(await asyncio.to_thread(starter.stdout.readline))
        await until(lambda: b"ready to accept" in (server.folder / "log").read_bytes())
        starter.send_signal(signal.SIGKILL)
    await until(lambda: not _runs(pid))


def _started(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", STARTER, str(folder)], stdout=subprocess.PIPE)


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == "postgres"
    except OSError:
        return False
