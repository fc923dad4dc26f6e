"""Every fault of an engine, every way of a client: what it saw, and the one row that is true.

``-s`` prints a line for each cell.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters import cells as matrix
from tests.adapters.bounds import shorten
from tests.adapters.cells import Cell
from tests.adapters.faults import BEFORE_ITS_FIRST_BYTE, BEFORE_THE_CLIENTS_FIRST_BYTE
from tests.adapters.gateways import Town, town
from tests.adapters.playing import assert_all_true, gather_rows, opened, play
from tests.servers_nats import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
async def here(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Town]:
    async with town(tmp_path, nats_server.url) as made:
        shorten(monkeypatch, FIRST_BYTE_WAIT_S=2.0, IDLE_GAP_S=2.0)
        yield made


async def test_each_fault_is_told_truly_and_leaves_exactly_one_row(here: Town) -> None:
    cells = matrix.quick()
    async with opened(here, cells):
        await play(here, cells, here.door.port)
        await gather_rows(here, cells)
        assert_all_true(cells)


@pytest.mark.long
async def test_the_whole_cross_product_of_faults_shapes_clients_and_engines_is_true(here: Town) -> None:
    cells = matrix.every()
    async with opened(here, cells):
        await play(here, cells, here.door.port)
        await gather_rows(here, cells)
        assert_all_true(cells)


async def test_a_healthy_replica_answers_for_one_at_fault_under_the_same_id_and_is_billed_once(
    here: Town,
) -> None:
    cells = [Cell(fault, stream=True, second=True) for fault in sorted(BEFORE_ITS_FIRST_BYTE)]
    cells += [Cell(fault, stream=False, second=True) for fault in sorted(BEFORE_THE_CLIENTS_FIRST_BYTE)]
    async with opened(here, cells):
        await play(here, cells, here.door.port)
        await gather_rows(here, cells)
        assert_all_true(cells)


async def test_with_the_bus_away_nothing_is_answered_otherwise_and_no_row_is_lost(
    here: Town, nats_server: NatsServer
) -> None:
    cells = [cell for cell in matrix.quick() if not cell.fault.startswith("stalls")]
    async with opened(here, cells):
        nats_server.kill()
        await play(here, cells, here.door.port)
        nats_server.start()
        await gather_rows(here, cells)
        assert_all_true(cells)
