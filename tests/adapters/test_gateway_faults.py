"""Engines that fail, clients that leave, and the one row that says what became of each request."""

import asyncio
import json
import socket
from typing import Any

import pytest
from aiohttp import web
from inference_gateway.domain.routing import twice
from mesh_contracts.placement import Replica
from meshkit.testing import test_id

from tests.adapters.gateways import (
    Answer,
    Town,
    begun,
    chunk,
    engines,
    say,
    sse,
    streaming,
)
from tests.adapters.roads import until

pytestmark = pytest.mark.slow

FEW = 3


async def dying(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    """Say a few words, then lose the connection as a killed process does."""
    response = await begun(request)
    for made in range(1, FEW + 1):
        await say(response, chunk("word ", made))
    # So that each word is read before the connection is reset.
    await asyncio.sleep(0.1)
    assert request.transport is not None
    request.transport.abort()
    return response


async def silent_at_once(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def loading(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"error": {"message": "Loading model"}}, status=503)


async def refusing(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
    said = {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}}
    return web.json_response(said, status=400)


async def erring(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    response = await begun(request)
    await say(response, chunk("word ", 1))
    await asyncio.sleep(0.1)
    await say(response, {"error": {"message": "out of memory"}})
    return response


async def stopping_short(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    response = await begun(request)
    await say(response, chunk("word ", 1))
    return response


def nowhere(name: str = "dead") -> Replica:
    """Return a replica at a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return Replica(workload_id=test_id("workload", name), address=f"127.0.0.1:{port}", api_key="k")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("broken", [silent_at_once, loading, None])
async def test_another_replica_answers_where_one_fails_before_its_first_byte(
    here: Town, broken: Answer | None, *, stream: bool
) -> None:
    async with engines(broken or loading, streaming(FEW)) as (bad, good):
        first = nowhere() if broken is None else bad.replica("bad")
        await here.serve(first, good.replica("good"))
        for _ in range(2):
            async with here.chat(stream=stream) as answer:
                assert answer.status == 200
                await answer.read()
        rows = await here.rows(2)
        assert {row.workload_id for row in rows} == {test_id("workload", "good")}
        assert max(row.attempts for row in rows) > 1
        assert all((row.state, row.completion_tokens) == ("completed", FEW) for row in rows)


async def test_a_model_whose_every_engine_is_gone_is_503_with_one_row(here: Town) -> None:
    await here.serve(nowhere("a"), nowhere("b"))
    async with here.chat() as answer:
        assert answer.status == 503
        assert json.loads(await answer.read())["error"]["code"] == "engine_unavailable"
        assert answer.headers["retry-after"]
    (row,) = await here.rows(1)
    assert (row.state, row.status, row.reason) == ("failed", 503, "engine_unavailable")
    assert (row.tokens_from, row.completion_tokens, row.attempts) == ("none", None, 2)


async def test_in_an_outage_an_engine_is_asked_no_more_once_enough_was_asked_again(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twice, "SPARE", 0)
    async with engines(loading, loading) as (one, two):
        await here.serve(one.replica("one"), two.replica("two"))
        async with here.chat() as answer:
            assert answer.status == 503
            assert answer.headers["retry-after"]
        assert len(one.asked) + len(two.asked) == 1
        (row,) = await here.rows(1)
        assert (row.state, row.attempts) == ("failed", 1)


async def test_an_engines_refusal_of_the_body_is_the_clients_400_and_asked_nowhere_else(
    here: Town,
) -> None:
    async with engines(refusing, refusing) as (one, two):
        await here.serve(one.replica("one"), two.replica("two"))
        async with here.chat(stream=True) as answer:
            assert answer.status == 400
            said = json.loads(await answer.read())["error"]
        assert said["code"] == "exceed_context_size_error"
        assert len(one.asked) + len(two.asked) == 1
        (row,) = await here.rows(1)
        assert (row.state, row.status) == ("failed", 400)


@pytest.mark.parametrize(
    ("broken", "code", "tokens"),
    [
        (dying, "engine_lost", FEW),
        (erring, "engine_error", 1),
        (stopping_short, "engine_ended_early", 1),
    ],
)
async def test_a_stream_that_breaks_tells_its_client_and_is_recorded_as_far_as_it_came(
    here: Town, broken: Answer, code: str, tokens: int
) -> None:
    async with engines(broken) as (engine,):
        await here.serve(engine.replica())
        async with here.chat(stream=True) as answer:
            assert answer.status == 200
            said = sse(await answer.read())
        assert said[-1]["error"]["code"] == code
        assert len(said) == tokens + 1
        (row,) = await here.rows(1)
        assert (row.state, row.reason) == ("failed", code)
        assert (row.tokens_from, row.completion_tokens, row.prompt_tokens) == ("counted", tokens, 5)


async def test_an_engine_without_usage_is_counted_and_labelled_so(here: Town) -> None:
    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = await begun(request)
        for _ in range(FEW):
            said = chunk("word ", 0)
            del said["timings"]
            await say(response, said)
        await say(response, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        await say(response, "[DONE]")
        return response

    async with engines(answer) as (engine,):
        await here.serve(engine.replica(), engine="external")
        async with here.chat(stream=True) as got:
            assert sse(await got.read())[-1] == "[DONE]"
        (row,) = await here.rows(1)
        assert (row.state, row.tokens_from, row.completion_tokens) == ("completed", "counted", FEW)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_the_engine_at_once(here: Town, *, stream: bool) -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not body.get("stream"):
            await asyncio.sleep(30)
        return await streaming(10_000, pause_s=0.01)(request, body)

    async with engines(answer) as (engine,):
        await here.serve(engine.replica())
        seen = 0
        if stream:
            async with here.chat(stream=True) as leaving:
                seen = (await leaving.content.read(400)).count(b"word ")
                leaving.close()
        else:
            asked = asyncio.create_task(_whole(here))
            await until(lambda: engine.asked)
            asked.cancel()
        await until(lambda: engine.cancelled, 2.0)
        (row,) = await here.rows(1)
        assert (row.state, row.status, row.reason) == ("aborted", 499, "client_left")
        assert (row.completion_tokens or 0) >= seen
        assert row.tokens_from == ("counted" if stream else "none")
        assert not here.door.calls.active


async def _whole(here: Town) -> None:
    async with here.chat() as answer:
        await answer.read()
