"""``python -m node_agent.engines.vllm_server … -- vllm serve``: one vLLM on loopback, for one endpoint.

It chooses a port, starts vLLM as the words after ``--`` say, and prints ``ENGINE_ADDRESS=host:port`` at once: whether the
model is loaded says ``/health``. The model is split over all the GPUs that it is given (tensor parallel). The key comes in
``ENGINE_API_KEY`` and goes on in ``VLLM_API_KEY``, never in arguments. It ends on SIGTERM, having let running answers
finish for a moment, when the process that started it is gone, and with vLLM, as that ended.
"""

import argparse
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from node_agent.engines.llama_server import (
    DRAIN_WITHIN_S,
    EXIT_UNUSABLE,
    KEY_VARIABLE,
    LOOK_EVERY_S,
    announce,
)

HOST = "127.0.0.1"
DIES_WITH_PARENT = 1
"""``PR_SET_PDEATHSIG`` of prctl(2)."""
STOP_WITHIN_S = 2.0
"""Then vLLM is killed: the shim kills us a little later."""
RUNNING = "vllm:num_requests_running"
VLLM_KEY_VARIABLE = "VLLM_API_KEY"


def command(options: argparse.Namespace, port: int) -> list[str]:
    """Return vLLM's command line."""
    words = [*options.vllm, options.model, "--host", HOST, "--port", str(port)]
    words += ["--served-model-name", options.model, "--tensor-parallel-size", str(options.gpus)]
    if options.lora:
        words += ["--enable-lora", "--lora-modules", *options.lora]
    return words


def running(port: int) -> bool:
    """Tell whether vLLM computes an answer; one that does not say does not."""
    connection = http.client.HTTPConnection(HOST, port, timeout=LOOK_EVERY_S)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    lines = [line for line in text.splitlines() if line.startswith((f"{RUNNING}{{", f"{RUNNING} "))]
    return any(float(line.rpartition(" ")[2]) > 0 for line in lines)


def dies_with_us() -> None:
    """Have the kernel kill this process once the one that started it is gone, however that ended."""
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)


def serve(options: argparse.Namespace, key: str) -> int:
    """Serve until told to stop; return the exit code."""
    stopping, parent = threading.Event(), os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    environ = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    vllm = subprocess.Popen(  # noqa: S603 - the operator's own words
        command(options, port),
        env={**environ, VLLM_KEY_VARIABLE: key},
        process_group=0,
        preexec_fn=dies_with_us,  # noqa: PLW1509 - no thread was begun yet
    )
    announce(f"ENGINE_ADDRESS={HOST}:{port}")
    try:
        while not stopping.wait(LOOK_EVERY_S):
            code = vllm.poll()
            if code is not None:
                return code if code >= 0 else 128 - code
            if os.getppid() != parent:
                return 0
        waited = 0.0
        while waited < DRAIN_WITHIN_S and os.getppid() == parent and running(port):
            threading.Event().wait(LOOK_EVERY_S)
            waited += LOOK_EVERY_S
        return 0
    finally:
        _end(vllm)


def _end(vllm: "subprocess.Popen[bytes]") -> None:
    """End vLLM and the workers that it started: they are a group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(vllm.pid, number)
            vllm.wait(STOP_WITHIN_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def main(arguments: Sequence[str] | None = None) -> int:
    """Run vLLM; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m node_agent.engines.vllm_server", description=__doc__
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--lora", action="append", default=[])
    parser.add_argument("vllm", nargs="+")
    options = parser.parse_args(arguments)
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        announce(f"ENGINE_ERROR={KEY_VARIABLE} is not set; an engine without a key is not started")
        return EXIT_UNUSABLE
    try:
        return serve(options, key)
    except OSError as fault:
        announce(f"ENGINE_ERROR={options.vllm[0]} cannot be started: {fault}")
        return EXIT_UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
