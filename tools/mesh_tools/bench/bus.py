"""``mesh bench bus``: the road of a fact, beside FastStream's typed handler in the same run.

The rates are taken in turn (ours, yardstick, ours, yardstick …) over the same stored facts on one
nats-server; medians are shown. The latencies are at ``RATE_PER_S``. The disk's own fdatasync is
measured beside them, because a durable commit cannot be faster than it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mesh_tools.bench import environment
from mesh_tools.embedded.nats import Nats
from mesh_tools.embedded.postgres import Postgres
from mesh_tools.up.layout import keep_ports

ROUNDS = 3
FACTS = 30_000
STEP_WITHIN_S = 180
FSYNC_TIMES = 200


def main(argv: list[str], *, as_json: bool) -> int:
    """Print the comparison; with ``as_json`` the last line is one object."""
    parser = argparse.ArgumentParser(prog="mesh bench bus")
    parser.add_argument("--facts", type=int, default=FACTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    wanted = parser.parse_args(argv)
    yardstick = environment.python("faststream")
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        # Postgres, as nobody, must be able to pass through.
        Path(folder).chmod(0o755)
        figures = asyncio.run(_measure(Path(folder), yardstick, wanted.facts, wanted.rounds))
    _show(figures)
    if as_json:
        print(json.dumps(figures))
    return 0


async def _measure(folder: Path, yardstick: Path, facts: int, rounds: int) -> dict[str, Any]:
    ports = keep_ports(folder / "ports.json", ["nats", "postgres"])
    with _servers(folder, ports) as (nats, postgres):
        await nats.wait_ready()
        await postgres.wait_ready()
        dsn = await postgres.ensure_database("bench")

        def road(step: str, *more: str) -> dict[str, Any]:
            command = [sys.executable, "-m", "mesh_tools.bench.road", step, nats.url, *more]
            return _run(command, {"BENCH_POSTGRES_DSN": dsn})

        road("publish", str(facts))
        ours, theirs, inbox = [], [], []
        script = str(Path(__file__).with_name("faststream_yardstick.py"))
        for number in range(rounds):
            ours.append(road("handle", str(facts), str(number)))
            theirs.append(
                _run(
                    [
                        str(yardstick),
                        script,
                        nats.url,
                        "METERING",
                        "metering.>",
                        str(facts // 3),
                        str(number),
                    ],
                    {},
                )
            )
            inbox.append(road("inbox", str(facts), str(number)))
        published = road("published")
        committed = road("committed")
        sync = fdatasync_ms(folder)
    return {
        "facts": facts,
        "rounds": rounds,
        "ours_per_s": _median(ours, "per_s"),
        "ours_cpu_us": _median(ours, "cpu_us"),
        "faststream_per_s": _median(theirs, "per_s"),
        "faststream_cpu_us": _median(theirs, "cpu_us"),
        "ratio": round(_median(ours, "per_s") / _median(theirs, "per_s"), 2),
        "with_inbox_per_s": _median(inbox, "per_s"),
        "with_inbox_commits": _median(inbox, "commits"),
        "rate_per_s": published["rate_per_s"],
        "published_to_handled_p50_ms": published["p50_ms"],
        "published_to_handled_p99_ms": published["p99_ms"],
        "committed_to_handled_p50_ms": committed["p50_ms"],
        "committed_to_handled_p99_ms": committed["p99_ms"],
        "fdatasync_p50_ms": sync["p50_ms"],
        "fdatasync_p99_ms": sync["p99_ms"],
        "cores": os.cpu_count(),
    }


@contextlib.contextmanager
def _servers(folder: Path, ports: dict[str, int]) -> Iterator[tuple[Nats, Postgres]]:
    nats = Nats(folder / "nats", ports["nats"])
    nats.prepare(f'listen: "127.0.0.1:{nats.port}"\njetstream {{ store_dir: "{nats.store}" }}\n')
    postgres = Postgres(folder / "postgres", ports["postgres"])
    postgres.prepare()
    try:
        nats.spawn(folder / "nats.log")
        postgres.spawn(folder / "postgres.log")
        yield nats, postgres
    finally:
        nats.stop()
        postgres.stop()


def _run(command: list[str], more: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        command,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=STEP_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        print(done.stderr[-4_000:], file=sys.stderr)
        message = f"{' '.join(command[:4])} ended with {done.returncode}"
        raise SystemExit(message)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def fdatasync_ms(folder: Path) -> dict[str, float]:
    """Return what one fdatasync of 8 KiB takes on this disk, in milliseconds."""
    took = []
    with (folder / "fdatasync").open("wb", buffering=0) as file:
        for _ in range(FSYNC_TIMES):
            file.write(b"\0" * 8_192)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return {
        "p50_ms": round(statistics.median(took), 3),
        "p99_ms": round(statistics.quantiles(took, n=100)[98], 3),
    }


def _median(runs: list[dict[str, Any]], key: str) -> float:
    return round(float(statistics.median(run[key] for run in runs)), 1)


def _show(figures: dict[str, Any]) -> None:
    rows = [
        ("handler road, no database", f"{figures['ours_per_s']:,.0f} facts/s"),
        ("  CPU a fact", f"{figures['ours_cpu_us']:.1f} µs"),
        ("FastStream typed handler", f"{figures['faststream_per_s']:,.0f} messages/s"),
        ("  CPU a message", f"{figures['faststream_cpu_us']:.1f} µs"),
        ("ratio", f"{figures['ratio']:.1f}"),
        ("with inbox and an effect in Postgres", f"{figures['with_inbox_per_s']:,.0f} facts/s"),
        ("  in transactions", f"{figures['with_inbox_commits']:,.0f}"),
        (
            f"published to handled at {figures['rate_per_s']:.0f}/s",
            _latency(figures, "published_to_handled"),
        ),
        (
            f"committed to handled at {figures['rate_per_s']:.0f}/s",
            _latency(figures, "committed_to_handled"),
        ),
        ("this disk's fdatasync", _latency(figures, "fdatasync")),
    ]
    print(
        f"{figures['facts']} facts of the size of metering.usage.recorded, {figures['rounds']} rounds in"
        f" turn, medians; {figures['cores']} cores shared by client, nats-server and Postgres"
    )
    for name, value in rows:
        print(f"  {name:42} {value}")


def _latency(figures: dict[str, Any], name: str) -> str:
    return f"p50 {figures[f'{name}_p50_ms']:.2f} ms, p99 {figures[f'{name}_p99_ms']:.2f} ms"
