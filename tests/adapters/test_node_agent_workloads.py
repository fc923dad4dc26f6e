"""Real engines under real shims: started, adopted, killed, ended with the lifeline."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from mesh_contracts.placement import Engine
from node_agent.runtimes import process
from node_agent.workloads import LOOK_S

from tests.adapters.engines import KEY, Host, host, spec, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
async def here(tmp_path: Path, models: Path) -> AsyncIterator[Host]:
    async with host(tmp_path / "workloads", models) as made:
        yield made


def client(address: str, key: str = KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key=key, max_retries=0)


def runs(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


def of_process(pid: int | None, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def test_a_wished_chat_model_starts_answers_and_stops(here: Host) -> None:
    wished = spec()
    agent = here.agent()
    agent.wish([wished])
    address = (await here.told.said("ready")).address

    async with client(address) as caller:
        answer = await caller.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hello there"}], max_tokens=8
        )
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert 0 < answer.usage.completion_tokens <= 8
        streamed = await caller.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "hello there"}],
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in streamed]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens > 0
        completed = await caller.completions.create(model="tiny", prompt="the gateway", max_tokens=4)
        assert completed.choices[0].text
    async with client(address, "another key") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "hello"}]
            )

    assert agent.statuses()[0].state == "ready"
    agent.wish([])
    await here.told.said("stopped")
    assert here.told.verbs() == ["started", "ready", "stopped"]
    await until(lambda: not (here.folder / wished.workload_id).exists())
    assert agent.statuses() == []


async def test_the_embedding_model_knows_what_is_alike(here: Host) -> None:
    here.agent().wish([spec("all-minilm-l6-v2")])
    address = (await here.told.said("ready")).address

    async with client(address) as caller:
        answer = await caller.embeddings.create(
            model="all-minilm-l6-v2",
            input=[
                "a cat sleeps on the sofa",
                "a kitten naps on the couch",
                "share prices fell sharply",
            ],
            encoding_format="float",
        )
    cat, kitten, prices = (item.embedding for item in answer.data)
    assert len(cat) == 384
    assert _cosine(cat, cat) == pytest.approx(1.0, abs=1e-4)
    assert _cosine(cat, kitten) > 0.6
    assert _cosine(cat, prices) < 0.2


async def test_an_engine_is_adopted_by_the_next_agent_and_not_started_twice(here: Host) -> None:
    wished = spec()
    first = here.agent()
    first.wish([wished])
    await here.told.said("ready")
    before = here.found(wished)
    await first.leave()

    second = here.agent()
    second.wish([wished])
    await until(lambda: [status.state for status in second.statuses()] == ["ready"])

    after = here.found(wished)
    assert (after.engine_pid, after.shim_pid, after.address) == (
        before.engine_pid,
        before.shim_pid,
        before.address,
    )
    assert here.told.verbs() == ["started", "ready"]
    second.wish([])
    await here.told.said("stopped")


async def test_a_second_shim_of_a_running_workload_leaves_at_once(here: Host) -> None:
    wished = spec()
    here.agent().wish([wished])
    await here.told.said("ready")
    before = here.found(wished)
    folder = here.folder / wished.workload_id

    kept = process.recall(folder)
    assert kept is not None
    second = process.launch(folder, kept, ["/bin/false"], {}, None)
    await until(lambda: process.ended(second))
    assert here.found(wished) == before


async def test_a_killed_engine_is_told_within_a_second(here: Host) -> None:
    wished = spec()
    agent = here.agent()
    agent.wish([wished])
    await here.told.said("ready")
    engine = here.found(wished).engine_pid
    assert engine is not None

    began = asyncio.get_running_loop().time()
    os.kill(engine, signal.SIGKILL)
    failed = await here.told.said("failed")

    assert asyncio.get_running_loop().time() - began < 1.0
    assert failed.exit_code == -signal.SIGKILL
    assert "SIGKILL" in failed.reason
    agent.wish([wished])
    assert [status.state for status in agent.statuses()] == ["failed"]
    assert here.told.verbs() == ["started", "ready", "failed"]


@pytest.mark.slow
async def test_an_engine_ends_when_its_shim_is_killed(here: Host) -> None:
    wished = spec()
    here.agent().wish([wished])
    await here.told.said("ready")
    found = here.found(wished)
    assert found.shim_pid is not None
    assert found.engine_pid is not None

    os.kill(found.shim_pid, signal.SIGKILL)

    assert "shim" in (await here.told.said("failed")).reason
    await until(lambda: not runs(found.engine_pid))


@pytest.mark.slow
async def test_an_engine_that_hangs_has_failed_after_three_probes(here: Host) -> None:
    wished = spec()
    here.agent().wish([wished])
    await here.told.said("ready")
    engine = here.found(wished).engine_pid
    assert engine is not None

    os.kill(engine, signal.SIGSTOP)

    assert "3 probes" in (await here.told.said("failed")).reason
    await until(lambda: not runs(engine))


async def test_the_lifelines_end_ends_every_engine_and_the_next_start_brings_it_back(
    here: Host,
) -> None:
    wished = spec()
    first = here.agent()
    first.wish([wished])
    await here.told.said("ready")
    engine = here.found(wished).engine_pid

    here.cut_lifeline()
    await until(lambda: here.found(wished).why == "lifeline")
    assert not runs(engine)
    await asyncio.sleep(2 * LOOK_S)
    await first.leave()
    assert here.told.verbs() == ["started", "ready"]

    os.close(here.lifeline)
    here.lifeline, here.ours = os.pipe()
    second = here.agent()
    second.wish([wished])
    await until(lambda: here.told.verbs() == ["started", "ready", "started", "ready"])
    ids = [fact.fact_id for fact in here.told.facts]
    assert len(set(ids)) == 4


async def test_an_engine_started_anew_is_not_taken_for_who_answers_where_it_was_before(
    here: Host,
) -> None:
    async def well(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    wished = spec()
    folder = here.folder / wished.workload_id
    kept = process.Kept(
        workload_id=wished.workload_id,
        name="tiny",
        devices=[],
        incarnation=1,
        boot_id="an earlier boot",
    )
    process.remember(folder, kept)
    async with await asyncio.start_server(well, "127.0.0.1", 0) as another:
        before = f"127.0.0.1:{another.sockets[0].getsockname()[1]}"
        state = f"workload_id={wished.workload_id}\npid=99999999\nstart_time=1\naddress={before}\n"
        (folder / "state").write_text(state)
        (folder / "exit").write_text("0 lifeline\n")
        here.agent().wish([wished])
        assert (await here.told.said("ready")).address != before


async def test_an_engine_whose_start_a_kill_prevented_is_started_not_failed(here: Host) -> None:
    wished = spec()
    kept = process.Kept(
        workload_id=wished.workload_id,
        name="tiny",
        devices=[],
        incarnation=1,
        boot_id=process.boot_id(),
    )
    process.remember(here.folder / wished.workload_id, kept)
    here.agent().wish([wished])
    await here.told.said("ready")
    assert here.told.verbs() == ["started", "ready"]


async def test_what_cannot_be_served_fails_with_a_reason(here: Host) -> None:
    here.agent().wish([spec("unheard-of")])
    failed = await here.told.said("failed")
    assert "builtin are all-minilm-l6-v2, tiny" in failed.reason
    assert here.told.verbs() == ["failed"]


async def test_a_kind_of_engine_that_is_not_here_fails_with_a_reason(here: Host) -> None:
    here.agent().wish([spec(engine=Engine(kind="vllm"))])
    assert "AGENT_VLLM" in (await here.told.said("failed")).reason


async def test_a_broken_model_file_is_one_clear_line(here: Host, tmp_path: Path) -> None:
    here.models = tmp_path / "broken"
    here.models.mkdir()
    (here.models / "tiny-1.gguf").write_bytes(b"not a model")
    here.agent().wish([spec(model="tiny")])
    failed = await here.told.said("failed")
    assert "tiny-1.gguf is not a GGUF model; delete it" in failed.reason
    assert failed.exit_code == 3


async def test_an_engine_knows_nothing_of_the_agents_environment(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_CREDENTIALS", "/a/secret/place")
    wished = spec()
    here.agent().wish([wished])
    await here.told.said("ready")
    found = here.found(wished)

    environment, command = (
        of_process(found.engine_pid, "environ"),
        of_process(found.engine_pid, "cmdline"),
    )

    assert "NATS" not in environment
    assert KEY in environment
    assert KEY not in command
    kept = (path for path in (here.folder / wished.workload_id).iterdir() if path.is_file())
    assert all(KEY.encode() not in path.read_bytes() for path in kept)


def _cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
