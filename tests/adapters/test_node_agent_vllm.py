"""vLLM as the agent starts it, with a double of its server in its place: loaded, asked, ended, and never left behind."""

import http.client
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.placement import Engine, Model, Resources
from msgspec.structs import replace
from node_agent.engines import start
from node_agent.runtimes.surroundings import NotServed

from tests.adapters.engines import KEY, Host, host, spec, until

pytestmark = pytest.mark.slow

DOUBLE = (sys.executable, "-P", "-m", "node_agent.doubles.vllm", "serve")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        made.vllm = DOUBLE
        yield made


def wished(**engine: Any) -> Any:
    return replace(
        spec(),
        model=Model(id="/models/large", source="path"),
        engine=Engine(kind="vllm", **engine),
        resources=Resources(gpus=2),
        devices=["GPU-1", "GPU-2"],
    )


def ask(address: str, key: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(address, timeout=5)
    body = json.dumps({"model": "/models/large", "messages": []})
    connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return answer.status, found


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_it_is_ready_once_its_model_is_loaded_and_serves_over_all_its_gpus(here: Host) -> None:
    here.vllm = (*DOUBLE[:-1], "serve", "--load-s", "1")
    engine = wished(loras={"law": "/models/law"})
    here.agent().wish([engine])
    ready = await here.told.said("ready")
    assert here.told.verbs() == ["started", "ready"]
    status, answer = ask(ready.address, KEY)
    assert status == 200
    words = answer["choices"][0]["message"]["content"]
    assert "serve --load-s 1 /models/large --host 127.0.0.1" in words
    assert "--served-model-name /models/large --tensor-parallel-size 2" in words
    assert words.endswith("--enable-lora --lora-modules law=/models/law")
    assert KEY not in words
    assert ask(ready.address, "another")[0] == 401


async def test_it_ends_with_its_wrapper_however_that_ends(here: Host) -> None:
    agent = here.agent()
    engine = wished()
    agent.wish([engine])
    await here.told.said("ready")
    found = here.found(engine)
    assert found.engine_pid is not None
    (child,) = children(found.engine_pid)
    os.kill(found.engine_pid, signal.SIGKILL)
    await here.told.said("failed")
    await until(lambda: not Path(f"/proc/{child}").exists())


async def test_it_is_told_to_end_and_nothing_is_left(here: Host) -> None:
    agent = here.agent()
    engine = wished()
    agent.wish([engine])
    await here.told.said("ready")
    agent.wish([])
    await here.told.said("stopped")


async def test_one_that_cannot_load_says_why(here: Host) -> None:
    here.vllm = (*DOUBLE[:-1], "serve", "--fails")
    here.agent().wish([wished()])
    failed = await here.told.said("failed")
    assert "CUDA out of memory" in failed.reason


def test_a_node_without_vllm_says_how_it_would_have_it() -> None:
    with pytest.raises(NotServed, match="AGENT_VLLM='vllm serve'"):
        start.program(wished(), Path("/models/large"))
    with pytest.raises(NotServed, match="there is no program 'no-such-vllm'"):
        start.program(wished(), Path("/models/large"), ["no-such-vllm", "serve"])
