"""Tell the story: start the mesh, take each step, print what was seen and how long it took."""

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesh_tools.demo import afterwards, first_token, trouble
from mesh_tools.demo.client import Client
from mesh_tools.demo.scene import Scene
from mesh_tools.embedded import tied

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0

STEPS: tuple[tuple[str, Callable[[Scene], str]], ...] = (
    ("a node joins and is checked", first_token.node_is_checked),
    ("a model is deployed", first_token.model_is_deployed),
    ("a completion streams", first_token.completion_streams),
    ("a text is embedded", first_token.text_is_embedded),
    ("usage and cost of that request", afterwards.usage_and_cost),
    ("energy and carbon, in a signed receipt", afterwards.receipt),
    ("a tampered receipt is refused", afterwards.tampered_receipt),
    ("the trace of that request", afterwards.trace),
    ("events: dropped, resumed, no gap", afterwards.events_resume),
    ("a bit is flipped in a health kernel", trouble.row_is_named),
    ("the node is cordoned, its replica moved", trouble.replica_is_moved),
    ("requests go on", trouble.requests_go_on),
)


def main(argv: list[str]) -> int:
    """Run the demo; return 0 only if every step was true."""
    parser = argparse.ArgumentParser(prog="mesh demo", description="The whole mesh, and its story.")
    parser.add_argument(
        "--port", type=int, default=0, help="the gateway's port (a free one by default)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder afterwards")
    wanted = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="mesh-demo-"))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    kept: bool = wanted.keep
    began = time.monotonic()
    up = _start(folder, wanted.port or _free_port())
    try:
        told = _tell(folder, up, began)
        kept = kept or not told
    finally:
        _stop(up)
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    print(
        f"\n{'all of it is true' if told else 'NOT TRUE'} · {time.monotonic() - began:.1f} s",
        flush=True,
    )
    if kept:
        print(f"its folder stays: {folder}")
    return 0 if told else 1


def _tell(folder: Path, up: subprocess.Popen[str], began: float) -> bool:
    ready = _wait_ready(folder / "ready.json", up)
    if ready is None:
        print(f"the mesh did not start; its words are above and in {folder / 'run'}")
        return False
    _say(
        "the mesh is ready",
        time.monotonic() - began,
        f"{_count(ready)} processes at {ready['gateway']}",
    )
    scene = Scene(
        folder=folder,
        began=began,
        ready=ready,
        operator=Client(ready["gateway"], ready["admin_key"]),
        tenant=Client(ready["gateway"], ready["project_key"]),
    )
    for name, step in STEPS:
        started = time.monotonic()
        try:
            seen = step(scene)
        except (AssertionError, OSError, KeyError, ValueError) as fault:
            _say(name, time.monotonic() - started, f"NOT TRUE: {type(fault).__name__}: {fault}")
            return False
        _say(name, time.monotonic() - started, seen)
    return True


def _say(name: str, seconds: float, seen: str) -> None:
    first, *more = seen.split("\n")
    print(f"{seconds:6.2f} s  {name}: {first}", flush=True)
    for line in more:
        print(f"          {line}", flush=True)


def _start(folder: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mesh_tools", "up", "--port", str(port), "--data", str(folder)]
    return subprocess.Popen(
        # However we end, the mesh is told to stop.
        tied.command(signal.SIGTERM, *command, "--ready-file", str(folder / "ready.json")),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )


def _wait_ready(path: Path, up: subprocess.Popen[str]) -> dict[str, Any] | None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and up.poll() is None:
        if path.exists():
            ready: dict[str, Any] = json.loads(path.read_text())
            return ready
        time.sleep(0.02)
    return None


def _stop(up: subprocess.Popen[str]) -> None:
    if up.poll() is None:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()


def _count(ready: dict[str, Any]) -> int:
    return sum(len(pids) for pids in ready["pids"].values())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
