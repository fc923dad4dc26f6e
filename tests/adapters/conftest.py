"""What many of these tests stand on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.fleet import Site
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
