"""What an engine is started with: its program, its environment, its model made beforehand."""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh_contracts.placement import WorkloadSpec

from node_agent.engines.llama_server import KEY_VARIABLE
from node_agent.engines.make import FILES
from node_agent.runtimes.surroundings import NotServed, clean, visible

EMBEDDING_MODELS = ("all-minilm-l6-v2",)
MAKE_WITHIN_S = 60.0


async def model_file(spec: WorkloadSpec, folder: Path) -> Path:
    """Return the file of a workload's model, made now if it is not there; of vLLM its own business. Raises ``NotServed``."""
    if spec.engine.kind == "vllm":
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


def program(spec: WorkloadSpec, model: Path, vllm: Sequence[str] = ()) -> list[str]:
    """Return the engine's command line; its key is not in it. Raises ``NotServed``."""
    if spec.engine.kind == "vllm":
        return _vllm(spec, vllm)
    embedding = spec.engine.embedding or spec.model.id in EMBEDDING_MODELS
    return [
        *(sys.executable, "-P", "-m", "node_agent.engines.llama_server"),
        *("--model", str(model), "--alias", spec.name),
        *(("--embedding",) if embedding else ()),
    ]


def _vllm(spec: WorkloadSpec, vllm: Sequence[str]) -> list[str]:
    if not vllm or shutil.which(vllm[0]) is None:
        missing = f"there is no program {vllm[0]!r}" if vllm else "it was not told how to"
        raise NotServed(
            f"this node does not serve with vLLM: {missing}; start its agent with AGENT_VLLM='vllm serve'"
        )
    loras = [
        word for name, source in spec.engine.loras.items() for word in ("--lora", f"{name}={source}")
    ]
    return [
        *(sys.executable, "-P", "-m", "node_agent.engines.vllm_server", "--model", spec.model.id),
        *("--gpus", str(max(1, len(spec.devices)))),
        *(*loras, "--", *vllm),
    ]


def environment(
    spec: WorkloadSpec, ours: Mapping[str, str], models: Path | None = None
) -> dict[str, str]:
    """Return the engine's environment: clean, with its own key; what vLLM fetches is kept among the models."""
    if spec.engine.kind == "vllm" and models is not None:
        homes = {"HOME": str(models.resolve()), "HF_HOME": str(models.resolve() / "huggingface")}
        return {**clean(ours), **homes, **visible(spec.devices), KEY_VARIABLE: spec.api_key}
    return {
        **clean(ours),
        **visible(spec.devices),
        KEY_VARIABLE: spec.api_key,
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


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
