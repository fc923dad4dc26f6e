"""The gateways that registries carry: how each is installed, told of the mock, and started.

Each as its makers start it for one core, with what it checks by default: LiteLLM its master key,
the others no key at all; no limits, no meter, no traces.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mesh_tools import lock
from mesh_tools.bench import environment
from mesh_tools.bench.gateway import words
from mesh_tools.bench.gateway.targets import (
    CHAT,
    READY_WITHIN_S,
    NotThere,
    Target,
    free_port,
    last_words,
    running,
    wait_answering,
)

KEY = "sk-bench"
BEARER = {"Authorization": f"Bearer {KEY}"}
LITELLM = """
model_list:
  - model_name: {model}
    litellm_params: {{model: "openai/{model}", api_base: "{mock}/v1", api_key: none}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false}}
"""
TENSORZERO = """
[gateway]
observability.enabled = false

[models.{model}]
routing = ["mock"]

[models.{model}.providers.mock]
type = "openai"
model_name = "{model}"
api_base = "{mock}/v1/"
api_key_location = "none"
"""
TENSORZERO_START = """
import sys, time
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print(gateway.base_url, flush=True)
while True:
    time.sleep(60)
"""
"""The wheel brings the server as a library, which draws its own port."""


@contextmanager
def litellm(folder: Path, mock: str, core: int) -> Iterator[Target]:
    """Run LiteLLM's proxy, one worker, with a master key and no database."""
    python = environment.python("litellm")
    config, port, log = folder / "litellm.yaml", free_port(), folder / "litellm.log"
    config.write_text(LITELLM.format(model=words.MODEL, mock=mock, key=KEY))
    command = [
        *(str(python.with_name("litellm")), "--config", str(config), "--num_workers", "1"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    # Else it asks the internet for prices at its start.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with running(command, log, core, {**quiet, "LITELLM_MODE": "PRODUCTION"}) as process:
        target = Target(
            name="litellm",
            version=pinned("litellm"),
            url=f"http://127.0.0.1:{port}",
            pid=process.pid,
            headers=BEARER,
        )
        wait_answering(target, process, log)
        yield target


@contextmanager
def portkey(folder: Path, mock: str, core: int) -> Iterator[Target]:
    """Run Portkey's open gateway on Node; its lock holds back the package that breaks its streams."""
    modules, port, log = environment.node_modules("portkey"), free_port(), folder / "portkey.log"
    package = modules / "@portkey-ai" / "gateway"
    script = package / "build" / "start-server.js"
    command = [str(environment.node()), str(script), f"--port={port}", "--headless"]
    with running(command, log, core, {"NODE_ENV": "production"}) as process:
        target = Target(
            name="portkey",
            version=str(json.loads((package / "package.json").read_text())["version"]),
            url=f"http://127.0.0.1:{port}",
            pid=process.pid,
            headers={
                **BEARER,
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": f"{mock}/v1",
            },
        )
        wait_answering(target, process, log)
        yield target


@contextmanager
def tensorzero(folder: Path, mock: str, core: int) -> Iterator[Target]:
    """Run TensorZero's gateway as its wheel brings it, without observability."""
    python = environment.python("tensorzero")
    config, log = folder / "tensorzero.toml", folder / "tensorzero.log"
    config.write_text(TENSORZERO.format(model=words.MODEL, mock=mock))
    with running([str(python), "-c", TENSORZERO_START, str(config)], log, core) as process:
        until = time.monotonic() + READY_WITHIN_S
        while (url := _address(log)) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise NotThere(f"it did not say its address: {last_words(log)}")
            time.sleep(0.1)
        address = urlsplit(url)
        target = Target(
            name="tensorzero",
            version=pinned("tensorzero"),
            url=f"http://{address.netloc}",
            pid=process.pid,
            path=f"{address.path.removesuffix('/v1')}{CHAT}",
            model=f"tensorzero::model_name::{words.MODEL}",
            headers=BEARER,
        )
        wait_answering(target, process, log)
        yield target


def _address(log: Path) -> str | None:
    lines = log.read_text(errors="replace").splitlines()
    return next((line.strip() for line in lines if line.startswith("http://")), None)


@contextmanager
def vllm_router(folder: Path, mock: str, core: int) -> Iterator[Target]:
    """Run vLLM's router with one worker behind it."""
    python = environment.python("vllm-router")
    port, log = free_port(), folder / "vllm-router.log"
    command = [
        *(str(python.with_name("vllm-router")), "--host", "127.0.0.1", "--port", str(port)),
        *("--worker-urls", mock, "--policy", "round_robin", "--log-level", "error"),
        *("--prometheus-port", str(free_port())),
    ]
    with running(command, log, core) as process:
        target = Target(
            name="vllm-router",
            version=pinned("vllm-router"),
            url=f"http://127.0.0.1:{port}",
            pid=process.pid,
            headers=BEARER,
        )
        wait_answering(target, process, log)
        yield target


def pinned(name: str) -> str:
    """Return the version that a peer's lock pins."""
    return lock.pins((environment.HERE / f"{name}.lock").read_text())[name][0]


PEERS = {
    "litellm": litellm,
    "portkey": portkey,
    "tensorzero": tensorzero,
    "vllm-router": vllm_router,
}
