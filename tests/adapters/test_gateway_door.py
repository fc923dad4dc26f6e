"""The door with a real bus and engines over HTTP: what goes through, and what is refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from inference_gateway.settings import ACCESS_AGE_MAX_S
from meshkit.clock import SystemClock
from meshkit.testing import test_id

from tests.adapters.gateways import ENGINE_KEY, Engine, Town, sse, streaming, town
from tests.adapters.roads import until
from tests.servers_nats import NatsServer

WORDS = 4


class LateClock(SystemClock):
    """A clock that can be set forward."""

    late_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.late_s


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(streaming(WORDS))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def here(tmp_path: Path, nats_server: NatsServer, engine: Engine) -> AsyncIterator[Town]:
    async with town(tmp_path, nats_server.url) as made:
        await made.serve(engine.replica())
        yield made


async def refusal(asked: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    async with asked as answer:
        said = json.loads(await answer.read())["error"]
        assert said["message"]
        assert said["type"]
        return answer.status, said, {name.lower(): value for name, value in answer.headers.items()}


async def test_a_chat_is_answered_and_its_usage_told(here: Town, engine: Engine) -> None:
    async with here.chat(max_tokens=9) as answer:
        said = json.loads(await answer.read())
        request_id = answer.headers["x-request-id"]
        assert answer.status == 200
        assert int(answer.headers["openai-processing-ms"]) >= 0
    assert said["model"] == "chat"
    (row,) = await here.rows(1)
    assert row.request_id == request_id
    assert (row.state, row.tokens_from, row.status) == ("completed", "engine", 200)
    assert (row.prompt_tokens, row.completion_tokens) == (5, WORDS)
    assert row.queue_us == 0, "that it did not wait is known"
    assert row.workload_id == test_id("workload", "r1")
    assert engine.asked[0]["model"] == "weights"
    assert engine.headers[0]["authorization"] == f"Bearer {ENGINE_KEY}"


async def test_a_stream_ends_with_done_and_carries_usage_only_when_asked(here: Town) -> None:
    async with here.chat(stream=True) as answer:
        plain = sse(await answer.read())
    async with here.chat(stream=True, stream_options={"include_usage": True}) as answer:
        asked = sse(await answer.read())
    assert plain[-1] == asked[-1] == "[DONE]"
    assert len(plain) == WORDS + 2
    assert all(said["choices"] and "usage" not in said and "timings" not in said for said in plain[:-1])
    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"]["completion_tokens"] == WORDS
    rows = await here.rows(2)
    assert all(row.streamed and row.completion_tokens == WORDS for row in rows)
    assert all(row.first_token_us is not None for row in rows)


async def test_the_official_client_talks_to_the_door(here: Town) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{here.base}/v1", api_key=here.key, max_retries=0, timeout=10
    ) as caller:
        stream = await caller.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "x"}], stream=True
        )
        words = [chunk.choices[0].delta.content async for chunk in stream]
        assert words[:WORDS] == ["word "] * WORDS
        names = [model.id async for model in caller.models.list()]
        assert names == ["chat"]
        with pytest.raises(openai.NotFoundError) as caught:
            await caller.completions.create(model="nothing", prompt="x")
        assert caught.value.code == "model_not_found"
    await here.rows(1)


async def test_a_client_may_label_its_request_but_not_name_it(here: Town) -> None:
    async with here.post(
        "/v1/embeddings", {}, **{"x-client-request-id": "mine", "x-request-id": "no"}
    ) as a:
        assert a.headers["x-client-request-id"] == "mine"
        assert a.headers["x-request-id"].startswith("request_")


async def test_one_more_than_the_bound_is_told_to_come_again(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    slow = Engine(streaming(50, pause_s=0.05))
    await slow.start()
    async with town(tmp_path, nats_server.url, active_max=1) as here:
        await here.serve(slow.replica())
        async with here.chat(stream=True) as first:
            await first.content.readany()
            status, said, headers = await refusal(here.chat())
            assert (status, said["code"]) == (503, "overloaded")
            assert headers["retry-after"]
    await slow.stop()


async def test_it_serves_while_every_bucket_is_without_its_writer_until_keys_are_too_old(
    tmp_path: Path, nats_server: NatsServer, engine: Engine
) -> None:
    clock = LateClock()
    async with town(tmp_path, nats_server.url, clock=clock) as here:
        await here.serve(engine.replica())
        for writer in here.writers.values():
            await writer.close()
        clock.late_s = ACCESS_AGE_MAX_S - 60
        async with here.chat() as answer:
            assert answer.status == 200
        clock.late_s = ACCESS_AGE_MAX_S + 60
        status, said, _ = await refusal(here.chat())
        assert (status, said["code"]) == (503, "access_too_old")


async def test_it_serves_while_the_bus_is_away_and_tells_everything_afterwards(
    here: Town, nats_server: NatsServer
) -> None:
    nats_server.kill()
    for _ in range(3):
        async with here.chat(stream=True) as answer:
            assert sse(await answer.read())[-1] == "[DONE]"
    nats_server.start()
    await here.bus.wait_whole()
    rows = await here.rows(3, within_s=20)
    assert all(row.state == "completed" for row in rows)


async def test_a_tenants_slot_wish_never_reaches_the_engine(here: Town, engine: Engine) -> None:
    async with here.chat(lora=[{"id": 1}], id_slot=0, seed=7) as answer:
        assert answer.status == 200
    assert "lora" not in engine.asked[0]
    assert "id_slot" not in engine.asked[0]
    assert engine.asked[0]["seed"] == 7


async def test_replicas_share_the_work(here: Town) -> None:
    engines = [Engine(streaming(1)) for _ in range(2)]
    for made in engines:
        await made.start()
    await here.serve(*(made.replica(f"s{n}") for n, made in enumerate(engines)), name="shared")
    for _ in range(6):
        body = {"model": "shared", "messages": [{"role": "user", "content": "x"}]}
        async with here.post("/v1/chat/completions", body) as answer:
            assert answer.status == 200
    assert [len(made.asked) for made in engines] == [3, 3]
    for made in engines:
        await made.stop()


@pytest.mark.slow
async def test_a_stop_lets_a_short_answer_finish_and_cuts_a_long_one_in_words(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        words = 10 if body["max_tokens"] == 1 else 10_000
        return await streaming(words, pause_s=0.05)(request, body)

    engine = Engine(answer)
    await engine.start()
    async with town(tmp_path, nats_server.url) as here:
        await here.serve(engine.replica())
        chats = (here.chat(stream=True, max_tokens=1), here.chat(stream=True, max_tokens=2))
        async with chats[0] as short, chats[1] as long:
            await short.content.readany()
            await long.content.readany()
            began = asyncio.get_running_loop().time()
            stopping = asyncio.create_task(here.door.stop())
            assert sse(await short.read())[-1] == "[DONE]"
            broken = sse(await long.read())
            await stopping
            assert asyncio.get_running_loop().time() - began < 5
        assert broken[-1]["error"]["code"] == "gateway_stopping"
        rows = {row.state: row for row in await here.rows(2)}
        assert rows["aborted"].completion_tokens
        assert rows["completed"].completion_tokens == 10
        await here.open_door()
    await until(lambda: engine.cancelled)
    await engine.stop()
