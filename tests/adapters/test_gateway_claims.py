"""An engine may be anybody's program: what it claims is checked before it stands in a row beside others'."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from tests.adapters.gateways import Engine, Town, begun, chunk, say, sse, streaming, usage_chunk

pytestmark = pytest.mark.slow


async def claiming(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer a word, and claim the usage that the client's message says."""
    usage = json.loads(body["messages"][0]["content"])
    if not body.get("stream"):
        message = {"role": "assistant", "content": "word "}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"model": "weights", "choices": choices, "usage": usage})
    response = await begun(request)
    await say(response, chunk("word ", 1))
    # So that the word has left before the claim is read.
    await asyncio.sleep(0.1)
    await say(response, {"choices": [], "usage": usage})
    await say(response, "[DONE]")
    return response


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "claimed",
    [
        {"prompt_tokens": -1},
        {"completion_tokens": -1},
        {"completion_tokens": 2**63},
        {"prompt_tokens": 2**53},
        {"prompt_tokens_details": {"cached_tokens": -1}},
    ],
)
async def test_counts_that_no_request_can_have_are_the_engines_fault_and_nobody_elses(
    here: Town, claimed: dict[str, Any], *, stream: bool
) -> None:
    engine = Engine(claiming)
    honest = Engine(streaming(3))
    await engine.start()
    await honest.start()
    await here.serve(engine.replica(), engine="external")
    await here.serve(honest.replica(), name="honest")
    usage = json.dumps({**usage_chunk(1)["usage"], **claimed})
    async with here.chat(stream=stream, messages=[{"role": "user", "content": usage}]) as answer:
        raw = await answer.read()
        if stream:
            assert sse(raw)[-1]["error"]["code"] == "engine_malformed"
        else:
            assert (answer.status, json.loads(raw)["error"]["code"]) == (503, "engine_failed")
    async with here.chat(model="honest") as answer:
        assert answer.status == 200
    rows = {row.model: row for row in await here.rows(2)}
    assert rows["honest"].completion_tokens == 3
    assert rows["chat"].state == "failed"
    assert rows["chat"].completion_tokens == (1 if stream else None)
    await here.door.stop()
    await here.open_door()
    await engine.stop()
    await honest.stop()


async def test_what_an_engine_says_in_two_breaths_is_heard_out(here: Town) -> None:
    async def refusing(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(status=400)
        await response.prepare(request)
        await response.write(b'{"error":{"message":"too long",')
        await asyncio.sleep(0.1)
        await response.write(b'"type":"exceed_context_size_error"}}')
        return response

    engine = Engine(refusing)
    await engine.start()
    await here.serve(engine.replica(), engine="external")
    async with here.chat() as answer:
        said = json.loads(await answer.read())["error"]
    assert (answer.status, said["code"]) == (400, "exceed_context_size_error")
    assert said["message"].startswith("too long.")
    await engine.stop()


@pytest.mark.parametrize("kind", ["a\0b", "x" * 60_000, "the prompt was: my secret", 7])
async def test_an_engines_word_for_its_refusal_is_recorded_only_where_it_is_a_code(
    here: Town, kind: Any
) -> None:
    async def refusing(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no", "type": kind}}, status=400)

    engine = Engine(refusing)
    await engine.start()
    await here.serve(engine.replica(), engine="external")
    async with here.chat() as answer:
        assert answer.status == 400
        assert json.loads(await answer.read())["error"]["code"] == "refused_by_engine"
    (row,) = await here.rows(1)
    assert (row.state, row.reason) == ("failed", "refused_by_engine")
    await engine.stop()
