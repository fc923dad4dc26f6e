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
from node_agent.commands import Runs
from node_agent.engines import start
from node_agent.runtimes.surroundings import NotServed

from tests.adapters.engines import KEY, Host, host, spec, until
from tests.adapters.podman import PODMAN_MORE, containers, image

__all__ = ["image"]

pytestmark = pytest.mark.slow

DOUBLE = (sys.executable, "-P", "-m", "node_agent.doubles.vllm", "serve")


def serves(*words: str, **more: Any) -> Runs:
    return Runs(runtime="process", vllm=words, **more)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        made.runs = serves(*DOUBLE)
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
    here.runs = serves(*DOUBLE, "--load-s", "1")
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
    here.runs = serves(*DOUBLE, "--fails")
    here.agent().wish([wished()])
    failed = await here.told.said("failed")
    assert "CUDA out of memory" in failed.reason


def in_image(image: str) -> Runs:
    """Serve with the double in a container, into which the Python of this server is mounted."""
    there = ("/usr", "/lib", "/lib64", sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
    mounts = [f"--volume={one}:{one}:ro" for one in dict.fromkeys(there) if Path(one).exists()]
    return serves(*DOUBLE, vllm_image=image, more=(*PODMAN_MORE, *mounts))


def contained(folder: Path) -> Any:
    """Wish for a replica whose weights are there, as what is mounted must be."""
    (folder / "large").mkdir()
    model = Model(id=str(folder / "large"), source="path")
    bounds = Resources(gpus=2, memory_mib=0)
    return replace(wished(), model=model, resources=bounds, devices=["rehearsal-1"])


async def test_it_serves_in_a_container_of_its_image_and_none_is_left(
    here: Host, image: str, tmp_path: Path
) -> None:
    here.runs = in_image(image)
    agent = here.agent()
    engine = contained(tmp_path)
    agent.wish([engine])
    ready = await here.told.said("ready")
    status, answer = ask(ready.address, KEY)
    assert status == 200
    assert answer["choices"][0]["message"]["content"].startswith(f"serve {engine.model.id} --host")
    assert containers() != ""
    agent.wish([])
    await here.told.said("stopped")
    assert containers() == ""


async def test_no_container_outlives_what_started_it(here: Host, image: str, tmp_path: Path) -> None:
    here.runs = in_image(image)
    engine = contained(tmp_path)
    here.agent().wish([engine])
    await here.told.said("ready")
    found = here.found(engine)
    assert found.engine_pid is not None
    os.kill(found.engine_pid, signal.SIGKILL)
    await here.told.said("failed")
    await until(lambda: containers() == "")


def test_a_container_gets_the_gpus_by_cdi_the_weights_and_the_bounds_and_its_key_by_name_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "podman").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    runs = serves("vllm", "serve", vllm_image="docker.io/vllm/vllm-openai:v1", more=("--ipc=host",))
    engine = replace(wished(loras={"law": "/models/law"}), api_key=KEY)
    words = start.program(engine, Path("/models/large"), runs, Path("/models"))
    after = words[words.index("--") + 1 :]
    assert after[0] == str(tmp_path / "podman")
    image = "docker.io/vllm/vllm-openai:v1"
    assert after[-3:] == ['--entrypoint=["vllm", "serve"]', "--", image]
    wanted = {"--device=nvidia.com/gpu=GPU-1", "--device=nvidia.com/gpu=GPU-2", "--env=VLLM_API_KEY"}
    wanted |= {"--volume=/models/large:/models/large:ro", "--volume=/models/law:/models/law:ro"}
    wanted |= {"--volume=/models:/models", "--env=HOME=/models", "--ipc=host", "--shm-size=0"}
    assert wanted < set(after)
    assert KEY not in " ".join(words)
    ours = start.environment(engine, {"HOME": "/root"}, Path("/models"), runs)
    assert "HOME" not in ours, "podman keeps its images where it always does"
    elsewhere = replace(engine, model=Model(id="/models/m:/etc:rw", source="path"))
    with pytest.raises(NotServed, match="cannot be mounted"):
        start.program(elsewhere, Path("/models/large"), runs, Path("/models"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotServed, match="no podman on this server"):
        start.program(engine, Path("/models/large"), runs, Path("/models"))


def test_a_node_without_vllm_says_how_it_would_have_it() -> None:
    with pytest.raises(NotServed, match="AGENT_VLLM='vllm serve'"):
        start.program(wished(), Path("/models/large"), serves(), Path("/models"))
    with pytest.raises(NotServed, match="there is no program 'no-such-vllm'"):
        start.program(wished(), Path("/models/large"), serves("no-such-vllm", "serve"), Path("/models"))
