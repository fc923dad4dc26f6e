"""The phases of a round: in each, every target in turn, so that what the machine does meanwhile meets all."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mesh_tools.bench.gateway import load, words
from mesh_tools.bench.gateway.asked import Seen, Wish
from mesh_tools.bench.gateway.cores import Cores, started_on
from mesh_tools.bench.gateway.machine import json_us
from mesh_tools.bench.gateway.targets import Target
from mesh_tools.bench.tree import PROC, Tree
from mesh_tools.embedded import tied

PACE_MS = 2
RATE_PER_S = 50
LOAD_OVER_S = 90.0
"""What a measurement may take beyond its own time before it is given up: slow ones wait longer for answers."""
QUICK = 0.25
PACE_S = 1.0
"""How long the pace of the machine is looked at in each round."""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """What each target is asked for; with ``pace_ms`` the mock's streams bring a chunk so often."""

    name: str
    clients: int = 1
    window_s: float
    warm_s: float = 0.4
    size: int = words.SMALL_BYTES
    per_s: float = 0.0
    stream: bool = False
    pace_ms: int = 0

    def of(self, target: Target, share: float) -> Wish:
        """Return the wish; ``share`` shortens its windows."""
        return target.wish(
            clients=self.clients,
            window_s=self.window_s * share,
            warm_s=self.warm_s * max(share, 0.5),
            size=self.size,
            per_s=self.per_s,
            stream=self.stream,
        )


PHASES = (
    Phase(name="c1", clients=1, window_s=1.5),
    Phase(name="c32", clients=32, window_s=2.0),
    Phase(name="c128", clients=128, window_s=2.0),
    Phase(name="large", clients=32, window_s=1.5, size=words.LARGE_BYTES),
    Phase(name="rate", per_s=RATE_PER_S, window_s=3.0),
    Phase(name="first", clients=1, window_s=3.0, stream=True, pace_ms=PACE_MS),
    Phase(name="paced", clients=128, window_s=3.0, warm_s=1.0, stream=True, pace_ms=PACE_MS),
    Phase(name="burst", clients=32, window_s=1.5, stream=True),
)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One target in one phase of one round."""

    target: str
    phase: str
    round: int
    seen: Seen
    rss_mb: float


def one_round(
    number: int, targets: Sequence[Target], mock: str, cores: Cores, share: float
) -> list[Measured]:
    """Return what each phase saw of each target; every other round visits them backwards."""
    order = list(targets)[:: -1 if number % 2 else 1]
    made = []
    for phase in PHASES:
        pace(mock, phase.pace_ms)
        for target in order:
            _say(f"round {number + 1}: {phase.name} {target.name}")
            seen = measure(phase.of(target, share), cores)
            made.append(
                Measured(
                    target=target.name,
                    phase=phase.name,
                    round=number,
                    seen=seen,
                    rss_mb=rss_mb(target.pid),
                )
            )
    _say("")
    return made


def _say(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{line:40}", end="\r", file=sys.stderr, flush=True)


def measure(wish: Wish, cores: Cores) -> Seen:
    """Return what the callers saw, in a process of their own on their core."""
    return _ended(_begun(wish, cores), wish)


def machine_pace_us(direct: Target, cores: Cores) -> float:
    """Return what reading a chat takes on the gateway's core while the callers keep the other busy (``json_us``)."""
    wish = direct.wish(clients=32, window_s=PACE_S, warm_s=0.2)
    process = _begun(wish, cores)
    with started_on(cores.gateway):
        took = json_us(lambda: process.poll() is not None)
    _ended(process, wish)
    return took


def _begun(wish: Wish, cores: Cores) -> subprocess.Popen[bytes]:
    asking = msgspec.json.encode(wish).decode()
    command = [sys.executable, "-P", "-m", "mesh_tools.bench.gateway.load", asking]
    with started_on(cores.load):
        return subprocess.Popen(
            tied.command(signal.SIGTERM, *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def _ended(process: subprocess.Popen[bytes], wish: Wish) -> Seen:
    try:
        over = LOAD_OVER_S + wish.answers / load.SLOWEST_PER_S
        said, wrong = process.communicate(timeout=wish.window_s + wish.warm_s + over)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Seen(
            window_s=wish.window_s, answers=0, errors=1, error="the callers did not end in time"
        )
    if process.returncode != 0:
        why = wrong.decode(errors="replace").strip().splitlines()[-1:]
        return Seen(window_s=wish.window_s, answers=0, errors=1, error="".join(why))
    return msgspec.json.decode(said, type=Seen)


def pace(mock: str, gap_ms: int) -> None:
    """Tell the mock how often its streams bring a chunk; 0 is all at once."""
    connection = HTTPConnection(urlsplit(mock).netloc, timeout=5)
    connection.request("GET", f"/pace/{gap_ms}")
    status = connection.getresponse().status
    connection.close()
    assert status == 200, status


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process and all below it in MB (10^6 bytes)."""
    kib = 0
    for one in Tree(pid).pids() if pid else ():
        lines = (PROC / str(one) / "status").read_text().splitlines()
        kib += next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
    return kib * 1_024 / 1e6


def mock_command(port: int) -> list[str]:
    """Return how the mock is started."""
    return [sys.executable, "-P", "-m", "mesh_tools.bench.gateway.mock", str(port)]


def gone(target: Target) -> bool:
    """Tell whether the process that was measured is no more (a restarted one runs on any core)."""
    return bool(target.pid) and not Path(f"/proc/{target.pid}").exists()
