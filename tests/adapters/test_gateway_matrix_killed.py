"""The gateway is killed with a request at each stage: the next one says once, and truly, what became of each."""

import asyncio
import signal
from itertools import product
from pathlib import Path

import pytest

from tests.adapters.cells import ENGINES, Cell
from tests.adapters.gateway_process import process
from tests.adapters.gateways import town
from tests.adapters.playing import assert_all_true, gather_rows, opened, play
from tests.servers_nats import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

HELD = ("head", "middle")
SEEN_WITHIN_S = 20.0


async def test_a_kill_at_any_stage_leaves_each_request_one_row_between_what_arrived_and_what_was_made(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    shapes = list(product((False, True), ENGINES))
    ended = [Cell("none", stream, kind=kind) for stream, kind in shapes]
    cut = [Cell("none", stream, kind=kind, held=held) for held in HELD for stream, kind in shapes]
    cut += [Cell("stalls_after_headers", stream, kind=kind) for stream, kind in shapes]
    async with town(tmp_path, nats_server.url) as here, opened(here, [*ended, *cut]):
        async with process(here, models=len(ended) + len(cut)) as door:
            await play(here, ended, door.port)
            playing = asyncio.ensure_future(play(here, cut, door.port, at_once=len(cut)))
            async with asyncio.timeout(SEEN_WITHIN_S):
                while not all(_has_come_far_enough(cell) for cell in cut):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            killed_at = asyncio.get_running_loop().time()
            await door.end(signal.SIGKILL)
            await playing
            for cell in cut:
                assert not cell.saw.whole
                cell.saw.left_at = killed_at
            await door.start(models=len(ended) + len(cut))
            await gather_rows(here, [*ended, *cut])
            assert await door.end(signal.SIGTERM) == 0
        assert_all_true([*ended, *cut])
        rows = [row for cell in cut for row in cell.rows]
        assert {(row.state, row.reason) for row in rows} == {("aborted", "gateway_restarted")}


def _has_come_far_enough(cell: Cell) -> bool:
    engine = cell.engines[0]
    if cell.held is None:
        return engine.reached["head"].is_set()
    if not engine.reached[cell.held].is_set():
        return False
    return cell.held == "head" or not cell.stream or cell.saw.words > 0
