"""Who leaves the line before full replicas has one row too, also where nothing was asked of any engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from inference_gateway import going, waiting
from mesh_contracts.inference import UsageRow
from mesh_contracts.metering import Ceiling
from mesh_contracts.placement import Routing

from tests.adapters.gateways import PROJECT, Town, sse, town
from tests.adapters.roads import until
from tests.servers_nats import NatsServer

SIGN = b": waiting for a replica\n\n"


@pytest.fixture
async def here(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Town]:
    monkeypatch.setattr(going, "SIGN_OF_LIFE_S", 0.05)
    async with town(tmp_path, nats_server.url) as made:
        await made.serve(state="asleep", wakes=True)
        yield made


def assert_nothing_asked(row: UsageRow) -> None:
    assert (row.attempts, row.workload_id, row.node_id) == (0, None, None)
    assert (row.tokens_from, row.prompt_tokens, row.completion_tokens) == ("none", None, None)
    assert row.queue_us
    assert row.explained is not None
    assert (row.explained.queue_position, row.explained.chosen_by) == (1, None)


async def test_a_client_that_leaves_the_line_after_a_sign_of_life_has_one_row(here: Town) -> None:
    async with here.chat(stream=True) as leaving:
        assert leaving.status == 200
        assert await leaving.content.readexactly(len(SIGN)) == SIGN
        leaving.close()
    (row,) = await here.rows(1)
    assert row.request_id == leaving.headers["x-request-id"]
    assert (row.state, row.status, row.reason) == ("aborted", 499, "client_left")
    assert_nothing_asked(row)


async def test_a_client_that_leaves_the_line_unheard_has_one_row_and_took_nothing_of_its_limits(
    here: Town,
) -> None:
    bound = Ceiling(scope_id=PROJECT, scope_kind="project", tokens_per_minute=80_000)
    await here.writers["limits"].put(f"ceiling.{PROJECT}", bound)
    await until(lambda: PROJECT in here.door._leasing._admission._scopes)
    lines = here.door.lines
    assert lines is not None
    left: list[int | None] = []
    for number in range(2):
        leaving = asyncio.ensure_future(here.chat(max_tokens=5_000).__aenter__())
        await until(lambda: lines.queued(here.route_id))
        leaving.cancel()
        row = (await here.rows(number + 1))[number]
        assert (row.state, row.status, row.reason) == ("aborted", 499, "client_left")
        assert_nothing_asked(row)
        assert row.explained is not None
        left += [one.tokens_left for one in row.explained.counted if one.scope == PROJECT]
    assert left[0] is not None
    assert left[1] is not None
    assert left[1] >= left[0], "what the first might have taken was given back"


async def test_who_is_shown_signs_of_life_and_then_refused_has_one_row_that_says_so(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "WAKE_WAIT_S", 0.3)
    await here.serve(state="asleep", wakes=True, routing=Routing(queue_wait_ms=100))
    async with here.chat(stream=True) as answer:
        assert answer.status == 200
        error = sse((await answer.read()).replace(SIGN, b""))[-1]["error"]
    (row,) = await here.rows(1)
    assert (row.state, row.status, row.reason) == ("failed", 200, error["code"])
    assert_nothing_asked(row)
