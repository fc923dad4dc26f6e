"""How the cells of the fault matrix are played, and how they are judged together."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from mesh_contracts.inference import UsageRow
from meshkit.errors import Unavailable

from tests.adapters.cells import Cell
from tests.adapters.gateways import Town

AT_ONCE = 24
SETTLED_AFTER_S = 0.5
"""How long no further row comes before the count is taken."""
ROWS_WITHIN_S = 20.0


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


async def play(town: Town, cells: Sequence[Cell], port: int, at_once: int = AT_ONCE) -> None:
    """Ask all, so many at once; their engines and routes stand already."""
    slots = asyncio.Semaphore(at_once)

    async def one(cell: Cell) -> None:
        async with slots:
            await cell.ask(port, town.key)

    await asyncio.gather(*(one(cell) for cell in cells))
