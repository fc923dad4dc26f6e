"""The gateway's process is killed; what it owes is settled by the next one, once."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from inference_gateway import meter
from inference_gateway.domain import records
from inference_gateway.domain.records import Opening
from inference_gateway.meter import Meter
from mesh_contracts import wire
from mesh_contracts.inference import UsageMetered
from mesh_contracts.metering import ProducerMark
from meshkit.clock import SystemClock
from meshkit.errors import JournalFull
from meshkit.journal import Journal
from meshkit.testing import NOW, test_id

from tests.adapters.gateway_process import environment, process
from tests.adapters.gateways import ORGANIZATION, PROJECT, Engine, Town, sse, streaming, town
from tests.adapters.roads import until
from tests.servers_nats import NatsServer, free_port

WORDS = 400


class Seen:
    """One stream as its client saw it."""

    def __init__(self) -> None:
        self.request_id = ""
        self.words = 0
        self.usage: dict[str, Any] | None = None


async def watch(here: Town, base: str, words: int) -> Seen:
    """Stream until the end or until the connection is lost."""
    seen, raw = Seen(), b""
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": words,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"authorization": f"Bearer {here.key}"}
    with suppress(aiohttp.ClientError):
        url = f"{base}/v1/chat/completions"
        async with here.http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200
            seen.request_id = answer.headers["x-request-id"]
            async for part in answer.content.iter_any():
                raw += part
    whole = sse(raw[: raw.rfind(b"\n\n") + 2])
    for said in whole:
        if said != "[DONE]":
            seen.words += bool(said["choices"] and said["choices"][0]["delta"].get("content"))
            seen.usage = said.get("usage") or seen.usage
    return seen


@pytest.mark.slow
async def test_a_gateway_killed_mid_stream_leaves_each_admitted_request_one_true_row(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    made: dict[int, int] = {}

    async def answer(request: Any, body: dict[str, Any]) -> Any:
        words: int = body["max_tokens"]
        made[words] = words
        return await streaming(words, pause_s=0.004)(request, body)

    engine = Engine(answer)
    await engine.start()
    async with town(tmp_path, nats_server.url) as here:
        await here.serve(engine.replica())
        seen: list[Seen] = []
        async with process(here) as door:
            for round_ in range(3):
                short = [watch(here, door.base, 3 + n) for n in range(5)]
                long = [watch(here, door.base, WORDS + 10 * round_ + n) for n in range(5)]
                streams = [asyncio.create_task(one) for one in (*short, *long)]
                await asyncio.sleep(0.25)
                await door.end(signal.SIGKILL)
                seen += await asyncio.gather(*streams)
                await door.start()
            admitted = [one for one in seen if one.request_id]
            assert any(one.usage for one in admitted)
            assert any(not one.usage for one in admitted)
            rows = {row.request_id: row for row in await here.rows(len(admitted), within_s=20)}
            for one in admitted:
                row = rows[one.request_id]
                if one.usage is not None:
                    assert row.completion_tokens == one.usage["completion_tokens"]
                    assert (row.state, row.tokens_from) == ("completed", "engine")
                elif row.state == "completed":
                    assert (row.completion_tokens or 0) >= one.words
                else:
                    assert (row.state, row.reason) == ("aborted", "gateway_restarted")
                    assert one.words <= (row.completion_tokens or 0) <= WORDS + 40
            assert await door.end(signal.SIGTERM) == 0
    await engine.stop()


@pytest.mark.slow
async def test_a_taken_port_and_missing_settings_are_one_clear_line(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with town(tmp_path, nats_server.url) as here:
        taken = environment(here, here.door.port)
        for told, says in ((taken, "GATEWAY_PORT"), ({"PATH": os.environ["PATH"]}, "GATEWAY_DATA_DIR")):
            ended = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "inference_gateway"),
                env=told,
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await asyncio.wait_for(ended.communicate(), 20)
            assert ended.returncode == 1
            assert says in said.decode()
            assert "Traceback" not in said.decode()


@pytest.mark.slow
async def test_a_gateway_that_has_no_bus_yet_says_so_instead_of_keeping_callers_waiting(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with town(tmp_path, nats_server.url) as here:
        port = free_port()
        told = environment(here, port) | {"NATS_URL": f"nats://127.0.0.1:{free_port()}"}
        alone = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "inference_gateway"), env=told, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            for path, name in (("/v1/models", "error"), ("/api/v1/usage", "code")):
                found = await _answer(here, f"http://127.0.0.1:{port}{path}")
                assert found[0] == 503
                assert name in found[1]
        finally:
            alone.kill()
            await alone.wait()


async def _answer(here: Town, url: str) -> tuple[int, dict[str, Any]]:
    async with asyncio.timeout(20):
        while True:
            with suppress(aiohttp.ClientError):
                async with here.http.get(url) as answer:
                    return answer.status, json.loads(await answer.read())
            await asyncio.sleep(0.05)


async def test_a_second_gateway_on_the_same_folder_is_refused(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with town(tmp_path, nats_server.url) as here:
        with pytest.raises(Exception, match="another process holds"):
            await here.open_door()


def opening(name: str) -> Opening:
    return Opening(
        request_id=test_id("request", name),
        organization=ORGANIZATION,
        project=PROJECT,
        key_id=test_id("key", "k"),
        endpoint_id=test_id("endpoint", "e"),
        model="chat",
        route="/v1/chat/completions",
        streamed=True,
        started_at=NOW,
    )


def test_what_a_kill_left_open_is_closed_once_however_often_it_is_killed_again(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, kind="producer")
    journal.append(records.OPENED, wire.encode(opening("a")))
    at = journal.append(records.OPENED, wire.encode(opening("b")))
    journal.append(records.PROGRESS, records.progress_bytes(at, 7, 5))
    for _ in range(3):
        journal.close()
        journal = Journal.open(tmp_path, kind="producer")
        restored = Meter(journal, SystemClock(), "fr-idf-1")
        assert restored.open_requests == 0
        assert (restored.untold, restored.unheld) == (0, 1)
    assert restored.settled_below() == 0
    held = ProducerMark(producer=journal.producer, epoch=journal.epoch, sequence=0, earlier=[(2, 1)])
    restored.heed(held)
    assert (restored.unheld, restored.settled_below()) == (0, journal.epoch)
    journal.close()


def test_what_a_stream_had_said_is_known_after_a_kill(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, kind="producer")
    first = Meter(journal, SystemClock(), "fr-idf-1")
    opened = {name: first.open(opening(name)) for name in ("a", "b", "c")}
    for tokens in (1, 7):
        first.progress(opened["b"], tokens, 5)
    first.progress(opened["c"], 3, None)
    # The process is gone, and with it all that stood in its memory alone.
    journal.close()
    journal = Journal.open(tmp_path, kind="producer")
    assert Meter(journal, SystemClock(), "fr-idf-1").closed == 3
    facts = [journal.fact_at(record.position) for record in _again(journal, tmp_path).replay()]
    rows = {
        row.request_id: row for fact in facts if isinstance(fact, UsageMetered) for row in fact.rows
    }
    counted = [rows[opening(name).request_id].completion_tokens for name in ("a", "b", "c")]
    assert counted == [None, 7, 3]


def _again(journal: Journal, folder: Path) -> Journal:
    journal.close()
    return Journal.open(folder, kind="producer")


def test_an_admitted_request_may_be_asked_elsewhere_though_nothing_more_is_admitted(
    tmp_path: Path,
) -> None:
    journal = Journal.open(tmp_path, kind="producer", bytes_max=64_000)
    door = Meter(journal, SystemClock(), "fr-idf-1", journal_bytes_max=64_000)
    admitted = door.open(opening("first"))

    def fill() -> None:
        for number in range(1_000):
            door.open(opening(f"{number}"))

    with pytest.raises(JournalFull):
        fill()
    held = door.open_requests
    door.reopen(admitted, opening("first"))
    assert door.open_requests == held
    journal.close()


async def test_a_batch_that_the_ledger_jumped_over_is_told_again(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "MARK_WAIT_S", 0.2)
    engine = Engine(streaming(1))
    await engine.start()
    async with town(tmp_path, nats_server.url) as here:
        await here.serve(engine.replica())
        for _ in range(2):
            async with here.chat() as answer:
                await answer.read()
            await until(lambda: here.door.meter.untold == 0)
        await here.rows(2)
        assert here.copies == 2
        mark = ProducerMark(producer=here.door.meter.producer, epoch=1, sequence=0, missing=[(1, 1)])
        await here.writers["limits"].put(f"producer.{mark.producer}", mark)
        async with asyncio.timeout(10):
            while here.copies < 3:
                assert {fact.sequence for fact in await here.told()} == {1, 2}
                await asyncio.sleep(0.02)
        done = ProducerMark(producer=mark.producer, epoch=1, sequence=2)
        await here.writers["limits"].put(f"producer.{mark.producer}", done)
        await until(lambda: here.door.meter.unheld == 0)
    await engine.stop()
