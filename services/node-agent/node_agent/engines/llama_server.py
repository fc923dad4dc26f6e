"""``python -m node_agent.engines.llama_server``: one engine on loopback, for one endpoint.

It prints ``ENGINE_ADDRESS=host:port`` once it listens (the model may still be loading: ask
``/health``), or one line ``ENGINE_ERROR=…`` that says what to do, and exits 3. Its key comes in
``ENGINE_API_KEY``, never in its arguments. It ends on SIGTERM, having let running answers finish
for a moment, and when the process that started it is gone.
"""

import argparse
import http.client
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY_VARIABLE = "ENGINE_API_KEY"
EXIT_UNUSABLE = 3
SLOTS = 4
"""Answers computed at once; more wait their turn."""

CONTEXT_CHAT = 2_048
CONTEXT_EMBEDDING = 512
BATCH_EMBEDDING = 640
"""A little above what one text may have: a longer one is then refused as the caller's mistake."""
CACHE_MIB_MAX = 16
DRAIN_WITHIN_S = 2.0
LOOK_EVERY_S = 0.25
VERBOSITY_WARNINGS = 2
GGUF_MAGIC = b"GGUF"
BUSY_METRIC = "llamacpp:requests_processing"


class EngineUnusable(Exception):
    """The engine cannot start; the message says what to do."""


def announce(line: str) -> None:
    """Print ``line`` for the shim, at the beginning of a line whatever the engine is just printing.

    The engine's own threads write a log line in pieces: without a line's end before it ours would stand
    in the middle of one, and nobody would learn the address.
    """
    os.write(sys.stdout.fileno(), f"\n{line}\n".encode())


def preflight(model: Path, environ: Mapping[str, str]) -> str:
    """Return the engine's key. Raises ``EngineUnusable`` for what the engine itself would not explain."""
    key = environ.get(KEY_VARIABLE, "")
    if not key:
        raise EngineUnusable(f"{KEY_VARIABLE} is not set; an engine without a key is not started")
    try:
        with model.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as fault:
        raise EngineUnusable(f"the model {model.name} cannot be read: {fault.strerror}") from fault
    if magic != GGUF_MAGIC:
        raise EngineUnusable(f"{model.name} is not a GGUF model; delete it, it is made again")
    return key


def library() -> Any:
    """Return the engine's library. Raises ``EngineUnusable``."""
    try:
        import xllamacpp  # noqa: PLC0415 - after the preflight, and it may lack a system library
    except ImportError as fault:
        if "libgomp" in str(fault):
            raise EngineUnusable(
                "the system library libgomp1 is missing; install the package libgomp1"
            ) from fault
        raise EngineUnusable(f"xllamacpp cannot be loaded: {fault}") from fault
    return xllamacpp


def parameters(xllamacpp: Any, model: Path, alias: str, key: str, *, embedding: bool) -> Any:
    """Return how the engine runs: one thread, loopback, a free port."""
    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(model)
    chosen.model_alias = {alias}
    chosen.hostnames = ["127.0.0.1"]
    chosen.port = 0
    chosen.api_keys = [key]
    chosen.n_parallel = SLOTS
    chosen.n_ctx = (CONTEXT_EMBEDDING if embedding else CONTEXT_CHAT) * SLOTS
    chosen.n_gpu_layers = 0
    # More threads than one wait for each other in a spin: on a busy machine that costs everything.
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = 1
    chosen.cache_ram_mib = CACHE_MIB_MAX
    chosen.endpoint_metrics = True
    # Slots would show prompts; pages of other origins have no business here.
    chosen.endpoint_slots = False
    chosen.cors_origins = ""
    chosen.verbosity = VERBOSITY_WARNINGS
    chosen.ui = False
    chosen.warmup = False
    chosen.offline = True
    if embedding:
        chosen.embedding = True
        chosen.n_batch = chosen.n_ubatch = BATCH_EMBEDDING
        chosen.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return chosen


def busy(address: str, key: str) -> bool:
    """Tell whether the engine still computes an answer; one that does not say is not busy."""
    connection = http.client.HTTPConnection(address, timeout=LOOK_EVERY_S)
    try:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {key}"})
        text = connection.getresponse().read().decode()
    except OSError:
        return False
    finally:
        connection.close()
    lines = [line for line in text.splitlines() if line.startswith(BUSY_METRIC)]
    return any(float(line.rpartition(" ")[2]) > 0 for line in lines)


def serve(model: Path, alias: str, *, embedding: bool) -> None:
    """Serve until told to stop. Raises ``EngineUnusable``."""
    key = preflight(model, os.environ)
    xllamacpp = library()
    chosen = parameters(xllamacpp, model, alias, key, embedding=embedding)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    parent = os.getppid()
    try:
        server = xllamacpp.Server(chosen)
    except RuntimeError as fault:
        raise EngineUnusable(f"the engine refused {model.name}; its log above says why") from fault
    address = server.listening_address.removeprefix("http://")
    announce(f"ENGINE_ADDRESS={address}")
    while not stopping.wait(LOOK_EVERY_S):
        if os.getppid() != parent:
            return
    waited = 0.0
    while waited < DRAIN_WITHIN_S and os.getppid() == parent and busy(address, key):
        threading.Event().wait(LOOK_EVERY_S)
        waited += LOOK_EVERY_S


def main(arguments: list[str] | None = None) -> None:
    """Run the engine; the process ends here."""
    parser = argparse.ArgumentParser(
        prog="python -m node_agent.engines.llama_server", description=__doc__
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--embedding", action="store_true")
    options = parser.parse_args(arguments)
    try:
        serve(options.model, options.alias, embedding=options.embedding)
    except EngineUnusable as fault:
        announce(f"ENGINE_ERROR={fault}")
        os._exit(EXIT_UNUSABLE)
    sys.stdout.flush()
    # The engine's own way out waits a second for its threads; nothing of it needs saving.
    os._exit(0)


if __name__ == "__main__":
    main()
