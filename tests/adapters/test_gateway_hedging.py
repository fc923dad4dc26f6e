"""A second replica is asked beside one that is late: one answer, one row, and the slower one is let go."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from inference_gateway.domain.routing import twice
from mesh_contracts.placement import Routing

from tests.adapters.gateways import Answer, Engine, Town, engines, sse, streaming
from tests.adapters.roads import until

pytestmark = pytest.mark.slow

AT_ONCE = Routing(hedge_after_ms=100)
NEVER_S = 60


def first_is_late(then: Answer) -> Answer:
    """Return an answer that whoever is asked first does not give."""
    asked = 0

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.sleep(NEVER_S)
        return await then(request, body)

    return answer


async def both_serve(here: Town, made: Sequence[Engine]) -> None:
    """Put a route to two engines that asks the second where the first is late."""
    replicas = [engine.replica(name) for engine, name in zip(made, ("a", "b"), strict=True)]
    await here.serve(*replicas, routing=AT_ONCE)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_faster_of_two_answers_is_relayed_and_the_slower_let_go(
    here: Town, *, stream: bool
) -> None:
    answer = first_is_late(streaming(3))
    async with engines(answer, answer) as made:
        await both_serve(here, made)
        async with here.chat(stream=stream) as got:
            assert got.status == 200
            raw = await got.read()
        assert sse(raw)[-1] == "[DONE]" if stream else json.loads(raw)["usage"]
        (row,) = await here.rows(1)
        assert (row.state, row.completion_tokens, row.attempts) == ("completed", 3, 2)
        assert row.explained is not None
        (slower,) = row.explained.tried
        assert slower.reason == "slower"
        assert row.workload_id != slower.workload_id
        await until(lambda: sum(engine.cancelled for engine in made) == 1)
        assert not here.door.calls.active


async def test_a_late_request_is_not_asked_twice_once_enough_of_them_were(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twice, "SPARE", 0)

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.6)
        return await streaming(2)(request, body)

    async with engines(answer, answer) as made:
        await both_serve(here, made)
        async with here.chat() as got:
            assert got.status == 200
        assert sum(len(engine.asked) for engine in made) == 1
        (row,) = await here.rows(1)
        assert (row.state, row.attempts) == ("completed", 1)


async def test_what_fails_beside_a_late_one_changes_nothing(here: Town) -> None:
    asked = 0

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 2:
            return web.json_response({"error": {"message": "no"}}, status=500)
        await asyncio.sleep(0.6)
        return await streaming(2)(request, body)

    async with engines(answer, answer) as made:
        await both_serve(here, made)
        async with here.chat() as got:
            assert got.status == 200
            assert json.loads(await got.read())["usage"]["completion_tokens"] == 2
        (row,) = await here.rows(1)
        assert (row.state, row.completion_tokens) == ("completed", 2)


async def test_a_client_that_leaves_while_two_are_asked_leaves_nothing_behind(here: Town) -> None:
    async def never(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(NEVER_S)
        raise AssertionError

    async with engines(never, never) as made:
        await both_serve(here, made)
        chat = asyncio.ensure_future(here.chat(stream=True).__aenter__())
        await until(lambda: all(engine.asked for engine in made))
        chat.cancel()
        await until(lambda: all(engine.cancelled for engine in made))
        (row,) = await here.rows(1)
        assert (row.state, row.reason) == ("aborted", "client_left")
        fleet = here.door.lines.fleet if here.door.lines else None
        assert fleet is not None
        assert fleet.in_flight(here.route_id) == (0, 0)
