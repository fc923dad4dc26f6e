"""``mesh bench start``: how long ``mesh up`` takes, to the first token, with what memory and CPU time.

Two starts of one fresh folder. CPU time stands beside each, because a shared machine stretches the
clock and not the work. Memory is proportional (PSS): shared pages are divided among those who share.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mesh_tools.bench.tree import Tree
from mesh_tools.demo.client import Client, events

READY_WITHIN_S = 120.0
STOP_WITHIN_S = 30.0
TOKEN_WITHIN_S = 30.0
SETTLE_S = 3.0
"""How long the mesh has been quiet when its memory is read."""
CLI_TIMES = 3
CLI_WITHIN_S = 20.0
COMMANDS = (
    ("--help",),
    ("node", "list"),
    ("endpoint", "list"),
    ("usage",),
    ("carbon",),
    ("key", "list"),
)
BOUNDS = {
    "ready_first_s": 8.0,
    "ready_second_s": 5.0,
    "first_token_s": 12.0,
    "pss_mb": 1_000.0,
    "cli_slowest_s": 0.3,
}
"""What is promised for two cores of their own."""


def main(argv: list[str], *, as_json: bool) -> int:
    """Print the figures beside their bounds; with ``as_json`` the last line is one object."""
    argparse.ArgumentParser(prog="mesh bench start").parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name:
        folder = Path(name)
        # Postgres, as nobody, must be able to pass through.
        folder.chmod(0o755)
        figures = measure(folder)
    show(figures)
    if as_json:
        print(json.dumps(figures))
    return 0


def measure(folder: Path) -> dict[str, Any]:
    """Start twice in ``folder``; return the figures, in seconds and MB."""
    with up(folder) as (ready, began, tree):
        first_s, first_cpu_s = time.monotonic() - began, tree.cpu_s()
        token_s = first_token(ready) - began
        time.sleep(SETTLE_S)
        pss = tree.pss_mb()
        cli = {" ".join(command): round(cli_s(folder, command), 3) for command in COMMANDS}
    with up(folder) as (_, began, tree):
        second_s, second_cpu_s = time.monotonic() - began, tree.cpu_s()
    return {
        "ready_first_s": round(first_s, 2),
        "ready_first_cpu_s": round(first_cpu_s, 2),
        "ready_second_s": round(second_s, 2),
        "ready_second_cpu_s": round(second_cpu_s, 2),
        "first_token_s": round(token_s, 2),
        "pss_mb": round(sum(pss.values()), 1),
        "pss_mb_by_program": {name: round(mb, 1) for name, mb in pss.items()},
        "cli_s": cli,
        "cli_slowest_s": max(cli.values()),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


@contextmanager
def up(folder: Path, *options: str) -> Iterator[tuple[dict[str, Any], float, Tree]]:
    """Run ``mesh up`` for the block; give its ready file, when it was begun, and its processes."""
    ready_file, data = folder / "ready.json", folder / "data"
    ready_file.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "mesh_tools", "up", "--data", str(data), "--port", "0"]
    with (folder / "up.log").open("ab") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready_file), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        while not ready_file.exists():
            if process.poll() is not None or time.monotonic() - began > READY_WITHIN_S:
                said = (folder / "up.log").read_text(errors="replace")[-2_000:]
                message = f"the mesh did not get ready:\n{said}"
                raise SystemExit(message)
            time.sleep(0.01)
        yield json.loads(ready_file.read_text()), began, Tree(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def first_token(ready: dict[str, Any]) -> float:
    """Return the monotonic time at which a streamed completion's first token came."""
    body = {
        "model": "tiny",
        "stream": True,
        "max_tokens": 4,
        "messages": [{"role": "user", "content": "Begin."}],
    }
    caller = Client(ready["gateway"], ready["project_key"])
    connection, response = caller.open("POST", "/v1/chat/completions", body)
    try:
        for event in events(response, seconds=TOKEN_WITHIN_S):
            if event.data != "[DONE]" and _says_something(json.loads(event.data)):
                return time.monotonic()
    finally:
        connection.close()
    raise SystemExit("the completion ended without a token")


def _says_something(chunk: dict[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in chunk.get("choices", ()))


def cli_s(folder: Path, command: tuple[str, ...]) -> float:
    """Return how long a command of ``mesh`` takes against the mesh in ``folder``: the median of a few."""
    took = []
    for _ in range(CLI_TIMES):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mesh_tools", *command],
            env={"PATH": os.environ.get("PATH", ""), "MESH_DATA": str(folder / "data")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CLI_WITHIN_S,
            check=False,
        )
        took.append(time.monotonic() - began)
        if done.returncode != 0:
            message = f"mesh {' '.join(command)}: {done.stderr.decode(errors='replace').strip()[-500:]}"
            raise SystemExit(message)
    return statistics.median(took)


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(
        f"{figures['cores']} cores, load {figures['load']} at the end; bounds are for cores of one's own"
    )
    rows = [
        ("ready, fresh folder", "ready_first_s", "s", f"CPU {figures['ready_first_cpu_s']:.1f} s"),
        ("first streamed token", "first_token_s", "s", "from the start"),
        (
            "ready, same folder again",
            "ready_second_s",
            "s",
            f"CPU {figures['ready_second_cpu_s']:.1f} s",
        ),
        ("memory of all processes", "pss_mb", "MB", "PSS"),
        ("slowest command", "cli_slowest_s", "s", "median of a few, whole"),
    ]
    for name, key, unit, more in rows:
        value, bound = figures[key], BOUNDS[key]
        verdict = "within" if value <= bound else "ABOVE"
        print(f"  {name:26} {value:8.2f} {unit:2}   {verdict} {bound:g} {unit}   {more}")
    for name, mb in figures["pss_mb_by_program"].items():
        print(f"    {name:24} {mb:8.1f} MB")
    for name, seconds in figures["cli_s"].items():
        print(f"    mesh {name:19} {seconds:8.2f} s")
