"""Every fault of an engine, every way of a client: what it saw, and the one row that is true.

``-s`` prints a line for each cell.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from mesh_contracts.inference import UsageRow
from meshkit.errors import Unavailable

from tests.adapters import cells as matrix
from tests.adapters.bounds import shorten
from tests.adapters.cells import Cell
from tests.adapters.faults import BEFORE_ITS_FIRST_BYTE, BEFORE_THE_CLIENTS_FIRST_BYTE
from tests.adapters.gateways import Town, town
from tests.servers_nats import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

AT_ONCE = 24
SETTLED_AFTER_S = 0.5
"""How long no further row comes before the count is taken."""
ROWS_WITHIN_S = 20.0


@pytest.fixture
async def here(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Town]:
    async with town(tmp_path, nats_server.url) as made:
        shorten(monkeypatch, FIRST_BYTE_WAIT_S=2.0, IDLE_GAP_S=2.0)
        yield made


@asynccontextmanager
async def opened(here: Town, cells: Sequence[Cell]) -> AsyncIterator[None]:
    """Open every cell, and wait until the door knows all of their routes."""
    assert len({cell.name for cell in cells}) == len(cells)
    try:
        for cell in cells:
            await cell.open(here)
        async with asyncio.timeout(20):
            while not all(cell.known(here) for cell in cells):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield
    finally:
        for cell in cells:
            await cell.close()


async def gather_rows(here: Town, cells: Sequence[Cell]) -> None:
    """Give each cell its rows, once no more come."""
    loop = asyncio.get_running_loop()
    wanted = sum(1 for cell in cells if cell.asked or cell.saw.status)
    until, seen, quiet_since = loop.time() + ROWS_WITHIN_S, -1, loop.time()
    rows: list[UsageRow] = []
    while True:
        with suppress(Unavailable):
            rows = [row for fact in await here.told() for row in fact.rows]
        if len(rows) != seen:
            seen, quiet_since = len(rows), loop.time()
        if seen >= wanted and loop.time() > quiet_since + SETTLED_AFTER_S:
            break
        if loop.time() > until:
            break
        await asyncio.sleep(0.02)
    for cell in cells:
        cell.rows = [row for row in rows if row.model == cell.name]


def assert_all_true(cells: Sequence[Cell]) -> None:
    said = [cell.line() for cell in cells]
    closed = [cell.closed_ms for cell in cells if cell.closed_ms is not None]
    if closed:
        late = sum(1 for one in closed if one > 100)
        said.append(f"let go after {max(closed):.0f} ms at most, {late} of {len(closed)} past 100 ms")
    sys.stdout.write("\n".join(["", *said, ""]))
    wrong = [fault for cell in cells for fault in cell.faults()]
    assert not wrong, "\n".join(["", *wrong])


async def test_each_fault_is_told_truly_and_leaves_exactly_one_row(here: Town) -> None:
    cells = matrix.quick()
    async with opened(here, cells):
        await matrix.play(here, cells, here.door.port, at_once=AT_ONCE)
        await gather_rows(here, cells)
        assert_all_true(cells)


@pytest.mark.long
async def test_the_whole_cross_product_of_faults_shapes_clients_and_engines_is_true(here: Town) -> None:
    cells = matrix.every()
    async with opened(here, cells):
        await matrix.play(here, cells, here.door.port, at_once=AT_ONCE)
        await gather_rows(here, cells)
        assert_all_true(cells)


async def test_a_healthy_replica_answers_for_one_at_fault_under_the_same_id_and_is_billed_once(
    here: Town,
) -> None:
    cells = [Cell(fault, stream=True, second=True) for fault in sorted(BEFORE_ITS_FIRST_BYTE)]
    cells += [Cell(fault, stream=False, second=True) for fault in sorted(BEFORE_THE_CLIENTS_FIRST_BYTE)]
    async with opened(here, cells):
        await matrix.play(here, cells, here.door.port, at_once=AT_ONCE)
        await gather_rows(here, cells)
        assert_all_true(cells)


async def test_with_the_bus_away_nothing_is_answered_otherwise_and_no_row_is_lost(
    here: Town, nats_server: NatsServer
) -> None:
    cells = [cell for cell in matrix.quick() if not cell.fault.startswith("stalls")]
    async with opened(here, cells):
        nats_server.kill()
        await matrix.play(here, cells, here.door.port, at_once=AT_ONCE)
        nats_server.start()
        await gather_rows(here, cells)
        assert_all_true(cells)
