"""During an upgrade an old and a new process stand side by side on one consumer, and nothing is lost."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from meshkit.declare import declare
from meshkit.testing import envelope, test_id

from tests.adapters.old_and_new import EFFECTS, GrownProject
from tests.adapters.roads import connected, enrolled, eventually, opened, tell
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FACTS_EACH = 20


def grown(number: int) -> GrownProject:
    key = test_id("project", f"grown-{number}")
    return GrownProject(**envelope(key), name="demo", organization_name="demo", colour="green")


@contextmanager
def process(which: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.adapters.old_and_new", which, *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ)) as started:
        try:
            yield started
        finally:
            started.kill()


async def test_an_old_and_a_new_process_side_by_side_lose_nothing(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    bus = await connected(tmp_path, nats_server.url, "identity")
    await declare(bus)
    dsn = postgres.dsn("placement")
    store = await opened(dsn, "placement")
    async with store.transaction() as tx:
        await tx.change(EFFECTS)
    told: list[str] = []

    async def more() -> None:
        for _ in range(FACTS_EACH):
            pair = (enrolled(test_id("node", f"{len(told)}")), grown(len(told)))
            told.extend(fact.fact_id for fact in pair)
            await tell(bus, *pair)

    async def rows(statement: str) -> list[Any]:
        async with store.transaction() as tx:
            return [tuple(row.values()) for row in await tx.rows(statement)]

    async def seen() -> int:
        return len(await rows("SELECT fact_id FROM effect"))

    async def parked() -> int:
        return len(await rows("SELECT id FROM dead_letter WHERE parked"))

    arguments = (nats_server.url, dsn, str(tmp_path))
    try:
        with process("old", *arguments) as old:
            await more()
            # The old one handles what has grown as it always did, and keeps what it does not know.
            await eventually(seen, FACTS_EACH)
            await eventually(parked, FACTS_EACH)
            with process("new", *arguments):
                await more()
                await eventually(seen, 2 * FACTS_EACH)
                old.send_signal(signal.SIGKILL)
                await more()
                await eventually(seen, len(told), 30.0)
                with process("old", *arguments):
                    await more()
                    await eventually(seen, len(told), 30.0)
        assert sorted(fact for (fact,) in await rows("SELECT fact_id FROM effect")) == sorted(told)
        assert await rows("SELECT id FROM dead_letter") == []
        assert set(await rows("SELECT by, colour FROM effect WHERE key LIKE 'project%'")) == {
            ("old", None),
            ("new", "green"),
        }
        unknown_to_old = await rows("SELECT DISTINCT by FROM effect WHERE key LIKE 'node%'")
        assert unknown_to_old == [("new",)]
    finally:
        await asyncio.shield(store.close())
        await bus.close()
