"""Silence, crowds and full journals: every wait and every heap has a bound."""

import asyncio
import gc
import json
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from inference_gateway import call, relay
from inference_gateway.app import JOURNAL_KIND
from inference_gateway.meter import Meter
from mesh_contracts import wire
from mesh_contracts.inference import UsageMetered, UsageRow
from mesh_contracts.metering import ProducerMark
from mesh_contracts.placement import Routing
from meshkit.clock import SystemClock
from meshkit.journal import Journal

from tests.adapters.gateways import (
    Town,
    begun,
    chunk,
    engines,
    say,
    sse,
    streaming,
    town,
)
from tests.adapters.roads import until
from tests.servers_nats import NatsServer

pytestmark = pytest.mark.slow

FEW = 3


def closed_at_the_next_start(folder: Path) -> list[UsageRow]:
    """Return the rows of the requests that a kill had cut, of a gateway that kept its journal here."""
    journal = Journal.open(folder, kind=JOURNAL_KIND)
    assert Meter(journal, SystemClock(), "fr-idf-1").form()
    journal.close()
    journal = Journal.open(folder, kind=JOURNAL_KIND)
    facts = [journal.fact_at(record.position) for record in journal.replay()]
    journal.close()
    rows = [row for fact in facts if isinstance(fact, UsageMetered) for row in fact.rows]
    return [row for row in rows if row.reason == "gateway_restarted"]


async def test_an_engine_that_says_nothing_is_given_up_in_time(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "FIRST_BYTE_WAIT_S", 0.2)
    monkeypatch.setattr(relay, "IDLE_GAP_S", 0.2)

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body["max_tokens"] == 1:
            await asyncio.sleep(30)
        return await streaming(2, pause_s=30)(request, body)

    async with engines(answer) as (engine,):
        await here.serve(engine.replica())
        async with here.chat(stream=True, max_tokens=1) as late:
            assert late.status == 503
            assert json.loads(await late.read())["error"]["code"] == "engine_first_byte_timeout"
        async with here.chat(stream=True, max_tokens=2) as silent:
            assert sse(await silent.read())[-1]["error"]["code"] == "engine_idle_timeout"
        rows = {row.reason: row for row in await here.rows(2)}
        assert rows["engine_first_byte_timeout"].completion_tokens is None
        assert rows["engine_idle_timeout"].completion_tokens == 1
        assert {row.state for row in rows.values()} == {"failed"}


async def test_an_engine_that_only_shows_that_it_lives_is_given_up_in_the_end(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "CALL_MAX_S", 0.5)

    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = await begun(request)
        await say(response, chunk("word ", 1))
        while True:
            await response.write(b": still here\n\n")
            await asyncio.sleep(0.02)

    async with engines(answer) as (engine,):
        await here.serve(engine.replica())
        async with here.chat(stream=True) as endless:
            assert sse(await endless.read())[-1]["error"]["code"] == "time_limit"
        (row,) = await here.rows(1)
        assert (row.state, row.reason, row.completion_tokens) == ("failed", "time_limit", 1)


async def test_a_client_that_reads_nothing_does_not_hold_an_engine_for_ever(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "CLIENT_STUCK_S", 0.3)

    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = await begun(request)
        for made in range(1, 4_000):
            await say(response, chunk("x" * 8_000, made))
        return response

    async with engines(answer) as (engine,):
        await here.serve(engine.replica())
        body = json.dumps({"model": "chat", "stream": True, "messages": [{"role": "user"}]})
        reader, writer = await asyncio.open_connection("127.0.0.1", here.door.port, limit=1024)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {here.key}\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        assert b"200" in await reader.readline()
        (row,) = await here.rows(1)
        assert (row.state, row.reason) == ("aborted", "client_left")
        writer.close()


async def test_a_thousand_clients_that_leave_mid_stream_leave_nothing_but_their_rows(
    here: Town,
) -> None:
    count = 1_000
    async with engines(streaming(10_000, pause_s=0.02)) as (engine,):
        await here.serve(engine.replica(), routing=Routing(parallel_max=count))

        async def leave(serial: int) -> int:
            async with here.chat(stream=True) as answer:
                assert answer.status == 200
                seen = (await answer.content.read(200 + serial % 300)).count(b"word ")
                answer.close()
                return seen

        seen = await asyncio.gather(*(leave(serial) for serial in range(count)))
        rows = await here.rows(count, within_s=30)
        assert {row.state for row in rows} == {"aborted"}
        assert sum(row.completion_tokens or 0 for row in rows) >= sum(seen)
        await until(lambda: engine.cancelled == count)
        assert not here.door.calls.active
        assert here.door.meter.open_requests == 0
        await until(lambda: len(asyncio.all_tasks()) < 60)
        gc.collect()
        left = [thing for thing in gc.get_objects() if isinstance(thing, call.Call)]
        assert left == []


async def test_a_full_journal_refuses_before_anything_is_asked_until_the_ledger_has_caught_up(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with (
        engines(streaming(1)) as (engine,),
        town(tmp_path, nats_server.url, journal_bytes_max=200_000) as here,
    ):
        await here.serve(engine.replica())
        answered = 0
        while True:
            async with here.chat(stream=True) as answer:
                if answer.status != 200:
                    said = json.loads(await answer.read())["error"]
                    break
                assert sse(await answer.read())[-1] == "[DONE]"
                answered += 1
        assert said["code"] == "journal_full"
        assert len(engine.asked) == answered
        await here.rows(answered)
        last = max(await here.told(), key=lambda fact: fact.sequence)
        mark = ProducerMark(producer=last.producer, epoch=last.epoch, sequence=last.sequence)
        await here.writers["limits"].put(f"producer.{last.producer}", mark)
        await until(lambda: here.door.meter.unheld == 0)
        async with here.chat() as answer:
            assert answer.status == 200
        await here.rows(answered + 1)


async def test_a_long_request_takes_no_room_from_those_that_come_and_go_beside_it(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    ending = asyncio.Event()

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not body.get("stream"):
            return await streaming(1)(request, body)
        response = await begun(request)
        for made in range(1, FEW + 1):
            await say(response, chunk("word ", made))
        await ending.wait()
        await say(response, chunk("word ", FEW + 1, finish_reason="stop"))
        return response

    size = 100_000
    async with (
        engines(answer) as (engine,),
        town(tmp_path, nats_server.url, journal_bytes_max=size) as here,
    ):
        await here.serve(engine.replica())
        async with here.chat(stream=True) as long:
            for _ in range(FEW):
                await long.content.readuntil(b"\n\n")
            written = answered = 0
            while written < 3 * size:
                shorts = [here.chat() for _ in range(8)]
                for short in await asyncio.gather(*shorts):
                    assert short.status == 200, await short.read()
                    short.close()
                answered += len(shorts)
                rows = await here.rows(answered)
                written += 2 * sum(len(wire.encode(row)) for row in rows[-len(shorts) :])
                last = max(await here.told(), key=lambda fact: fact.sequence)
                mark = ProducerMark(producer=last.producer, epoch=last.epoch, sequence=last.sequence)
                await here.writers["limits"].put(f"producer.{last.producer}", mark)
                await until(lambda: here.door.meter.unheld == 0)
            # What a kill would leave at this moment.
            shutil.copytree(tmp_path / "gateway", tmp_path / "killed")
            ending.set()
            assert sse(await long.read())[-1] == "[DONE]"
        (row,) = closed_at_the_next_start(tmp_path / "killed")
        assert (row.reason, row.completion_tokens) == ("gateway_restarted", FEW)
        rows = {row.request_id: row for row in await here.rows(len(engine.asked))}
        assert rows[row.request_id].completion_tokens == FEW + 1


async def test_connections_to_an_engine_are_kept(here: Town) -> None:
    seen: set[Any] = set()

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        seen.add(request.transport.get_extra_info("peername"))
        return await streaming(1)(request, body)

    async with engines(answer) as (engine,), aiohttp.ClientSession():
        await here.serve(engine.replica())
        for stream in (True, False, True, False):
            async with here.chat(stream=stream) as got:
                await got.read()
        assert len(seen) == 1
