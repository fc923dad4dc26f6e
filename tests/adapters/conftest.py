"""What many of these tests stand on."""

import ctypes
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from meshkit.config import Secret
from meshkit.store import Store
from meshkit.testing import FrozenClock
from node_agent.doubles.build import build
from node_agent.doubles.nvml import Scenario
from placement.app import MIGRATIONS

from tests.adapters.bare_metal import double
from tests.adapters.fleet import Site
from tests.adapters.gateways import Town, town
from tests.adapters.imaged import Imaged
from tests.adapters.memories import Open, starts
from tests.adapters.owners import Owners
from tests.adapters.watched import Hall
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer


@pytest.fixture
async def site(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[Site]:
    """Placement on a bus and a database of its own, with the project ``acme/demo`` and no node."""
    site = await Site.open(tmp_path, nats_server.url, postgres.dsn("placement"))
    try:
        yield site
    finally:
        await site.close()


@pytest.fixture
async def here(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Town]:
    """A gateway's surroundings on a bus of its own."""
    async with town(tmp_path, nats_server.url) as made:
        yield made


@pytest.fixture
async def hall(postgres: PostgresServer) -> AsyncIterator[Hall]:
    """A database with the pulse that watches it, and a clock that moves when told to."""
    clock = FrozenClock()
    store = await Store.connect(
        Secret(postgres.dsn("placement")), owner="placement", clock=clock, migrations=MIGRATIONS
    )
    yield Hall(store, clock)
    await store.close()


@pytest.fixture
async def start(postgres: PostgresServer) -> AsyncIterator[Open]:
    """Placement's memory, started on one database as often as is asked for."""
    async with starts(postgres.dsn("placement")) as opening:
        yield opening


@pytest.fixture
async def owners(here: Town) -> AsyncIterator[Owners]:
    """Whoever answers a gateway's asks, as a test has them answer."""
    made = Owners(here)
    yield made
    await made.stop()


@pytest.fixture(scope="session")
def nvml_double(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The double of NVML, loaded before the binding looks for it: the loader takes the one of that name."""
    return ctypes.CDLL(str(build(tmp_path_factory.mktemp("nvml"))))


@pytest.fixture
def driver(
    nvml_double: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scenario]:
    """What the double says, of eight GPUs."""
    made = Scenario(tmp_path / "scenario")
    monkeypatch.setenv("NVML_DOUBLE", str(made.path))
    yield made
    for gpu in range(8):
        made.about(gpu, hang=0)


@pytest.fixture
def imaged(tmp_path: Path) -> Iterator[Imaged]:
    """A server behind a double of a BMC, whose two accelerators a file names."""
    with double() as bmc:
        yield Imaged(tmp_path, bmc)
