"""What an engine is started with: its program, its environment, its model made beforehand."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from mesh_contracts.placement import WorkloadSpec

from node_agent.commands import Runs
from node_agent.engines.llama_server import KEY_VARIABLE
from node_agent.engines.make import FILES
from node_agent.engines.vllm_server import VLLM_KEY_VARIABLE
from node_agent.runtimes import containers
from node_agent.runtimes.surroundings import NotServed, clean, visible

EMBEDDING_MODELS = ("all-minilm-l6-v2",)
MAKE_WITHIN_S = 60.0


async def model_file(spec: WorkloadSpec, folder: Path) -> Path:
    """Return the file of a workload's model, made now if it is not there; of vLLM its own business. Raises ``NotServed``."""
    if spec.engine.kind == "vllm":
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        return Path(spec.model.id)
    if spec.model.source != "builtin" or spec.model.id not in FILES:
        known = ", ".join(sorted(FILES))
        raise NotServed(
            f"model {spec.model.id!r} from {spec.model.source!r} cannot be had here; builtin are {known}"
        )
    path = folder / FILES[spec.model.id]
    if not path.exists():
        await _make(folder, spec.model.id)
    return path.resolve()


def program(spec: WorkloadSpec, model: Path, runs: Runs, models: Path) -> list[str]:
    """Return the engine's command line; its key is not in it. Raises ``NotServed``."""
    if spec.engine.kind == "vllm":
        return _vllm(spec, runs, models)
    embedding = spec.engine.embedding or spec.model.id in EMBEDDING_MODELS
    return [
        *(sys.executable, "-P", "-m", "node_agent.engines.llama_server"),
        *("--model", str(model), "--alias", spec.name),
        *(("--embedding",) if embedding else ()),
    ]


def _vllm(spec: WorkloadSpec, runs: Runs, models: Path) -> list[str]:
    words = runs.vllm
    if not words or (not runs.vllm_image and shutil.which(words[0]) is None):
        missing = f"there is no program {words[0]!r}" if words else "it was not told how to"
        raise NotServed(
            f"this node does not serve with vLLM: {missing}; start its agent with AGENT_VLLM='vllm serve'"
        )
    loras = [
        word for name, source in spec.engine.loras.items() for word in ("--lora", f"{name}={source}")
    ]
    return [
        *(sys.executable, "-P", "-m", "node_agent.engines.vllm_server", "--model", spec.model.id),
        *("--gpus", str(max(1, len(spec.devices)))),
        *(*loras, "--", *(_contained(spec, runs, models) if runs.vllm_image else words)),
    ]


def _contained(spec: WorkloadSpec, runs: Runs, models: Path) -> list[str]:
    """Return vLLM's command in a container: of the server it sees the models' folder, and what it is to load."""
    loads = {one for one in (spec.model.id, *spec.engine.loras.values()) if Path(one).is_absolute()}
    odd = next((one for one in sorted(loads) if ":" in one), None)
    if odd is not None:
        raise NotServed(f"{odd!r} cannot be mounted into a container: name a path without a colon")
    more = [
        # Its workers share memory, as much as they need: the bound on all that it takes holds for that, too.
        "--shm-size=0",
        *(f"--env={name}={home}" for name, home in _homes(models).items()),
        f"--volume={models.resolve()}:{models.resolve()}",
        *(f"--volume={one}:{one}:ro" for one in sorted(loads)),
    ]
    run = containers.run(
        spec.workload_id,
        resources=spec.resources,
        devices=spec.devices,
        known=(VLLM_KEY_VARIABLE, *visible(spec.devices)),
        more=(*more, *runs.more),
    )
    return [*run, f"--entrypoint={json.dumps(runs.vllm)}", "--", runs.vllm_image]


def environment(
    spec: WorkloadSpec, ours: Mapping[str, str], models: Path, runs: Runs
) -> dict[str, str]:
    """Return the engine's environment: clean, with its own key; what vLLM fetches is kept among the models."""
    known = {**clean(ours), **visible(spec.devices), KEY_VARIABLE: spec.api_key}
    if spec.engine.kind == "vllm":
        # In a container it is podman whose home this would be.
        return known if runs.vllm_image else {**known, **_homes(models)}
    return {**known, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _homes(models: Path) -> dict[str, str]:
    home = models.resolve()
    return {"HOME": str(home), "HF_HOME": str(home / "huggingface")}


async def _make(folder: Path, model: str) -> None:
    making = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "node_agent.engines.make", str(folder), model),
        env={**clean(os.environ), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(MAKE_WITHIN_S):
            _, said = await making.communicate()
    except TimeoutError as fault:
        raise NotServed(f"model {model} was not made within {MAKE_WITHIN_S:g} s") from fault
    finally:
        if making.returncode is None:
            making.kill()
            await making.wait()
    if making.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()
        raise NotServed(
            f"model {model} could not be made: {lines[-1][:500] if lines else 'no reason given'}"
        )
