"""``mesh bench gateway``: our gateway beside the ones that registries carry, in one run on one machine.

All targets are started once and stay idle while another is asked. The mock upstream and the callers
are ours (:mod:`mesh_tools.bench.gateway.mock`, ``load``); ``direct`` is the one asked by the other,
and so the bound of what this machine can show.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from mesh_tools.bench.gateway import figures, phases, table
from mesh_tools.bench.gateway.cores import Cores, choose
from mesh_tools.bench.gateway.machine import machine
from mesh_tools.bench.gateway.ours import in_ledger, ours
from mesh_tools.bench.gateway.peers import PEERS
from mesh_tools.bench.gateway.targets import NotThere, Target, free_port, running, wait_answering

ROUNDS = 3
CLIENTS_FLAT = 32
TENTHS = 10
KNOWN = ("direct", "ours", *PEERS)


def main(argv: list[str], *, as_json: bool) -> int:
    """Print the comparison; with ``as_json`` the last line is one object."""
    parser = argparse.ArgumentParser(prog="mesh bench gateway")
    parser.add_argument("--only", type=_names, default=KNOWN, help=f"of {','.join(KNOWN)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--quick", action="store_true", help="one round of short windows, for trying out"
    )
    parser.add_argument(
        "--flat", type=int, default=0, metavar="N", help="then N requests to ours alone"
    )
    wanted = parser.parse_args(argv)
    # Added time is what goes beyond asking the mock directly, so that is always measured.
    names = [name for name in KNOWN if name in wanted.only or name == figures.DIRECT]
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name, ExitStack() as stack:
        # Told to end, it stops what it started, as it does when interrupted.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGTERM, before)
        folder = Path(name)
        folder.chmod(0o755)
        found = Bench(folder, choose(os.sched_getaffinity(0)), stack).run(
            names, 1 if wanted.quick else wanted.rounds, quick=wanted.quick, flat=wanted.flat
        )
    table.show(found)
    if found["flat"]:
        table.show_flat(found["flat"])
    if as_json:
        print(json.dumps(found))
    return 0


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if strange := [name for name in names if name not in KNOWN]:
        raise argparse.ArgumentTypeError(f"{', '.join(strange)}: choose of {', '.join(KNOWN)}")
    return names


class Bench:
    """One run: what is started in ``folder`` ends with ``stack``."""

    def __init__(self, folder: Path, cores: Cores, stack: ExitStack) -> None:
        self._folder = folder
        self._cores = cores
        self._stack = stack
        self._targets: list[Target] = []
        self._shown: dict[str, dict[str, Any]] = {}
        self._mock = ""

    def run(self, names: list[str], rounds: int, *, quick: bool, flat: int) -> dict[str, Any]:
        """Start what can be started, measure it in turn, return all that there is to say."""
        began = time.monotonic()
        for name in names:
            self._start(name)
        measured = []
        paces = []
        for number in range(rounds):
            share = phases.QUICK if quick else 1.0
            paces.append(phases.machine_pace_us(self._targets[0], self._cores))
            measured += phases.one_round(number, self._targets, self._mock, self._cores, share)
        shown = figures.figures(measured)
        for target in self._targets:
            self._shown[target.name] |= shown[target.name]
            if phases.gone(target):
                self._shown[target.name] = {"version": target.version, "reason": "it died on the way"}
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {**machine(self._cores), "json_us": median(paces)},
            "rounds": rounds,
            "quick": quick,
            "took_s": round(time.monotonic() - began, 1),
            "targets": self._shown,
            "ratios": figures.ratios(shown),
            "flat": self._flat(flat) if flat else [],
        }

    def _start(self, name: str) -> None:
        print(f"starting {name} ...", file=sys.stderr)
        more: dict[str, Any] = {}
        try:
            if name == figures.DIRECT:
                target = self._start_mock()
            elif name == "ours":
                target, more["limits"] = self._stack.enter_context(
                    ours(self._folder / name, self._mock, self._cores)
                )
            else:
                peer = PEERS[name](self._folder, self._mock, self._cores.gateway)
                target = self._stack.enter_context(peer)
        except (NotThere, SystemExit) as fault:
            # What cannot be had is shown with its reason: a table that leaves it out would hide it.
            self._shown[name] = {"reason": str(fault)}
        else:
            self._targets.append(target)
            self._shown[name] = {"version": target.version, **more}

    def _start_mock(self) -> Target:
        port, log = free_port(), self._folder / "mock.log"
        process = self._stack.enter_context(running(phases.mock_command(port), log, self._cores.mock))
        self._mock = f"http://127.0.0.1:{port}"
        target = Target(name=figures.DIRECT, version="", url=self._mock)
        wait_answering(target, process, log)
        return target

    def _flat(self, requests: int) -> list[dict[str, float]]:
        """Return what ours holds before and after each tenth of so many requests."""
        target = next((one for one in self._targets if one.name == "ours"), None)
        if target is None:
            return []
        phases.pace(self._mock, 0)
        tenths = [{"requests": 0.0, "rss_mb": phases.rss_mb(target.pid), "rps": 0.0}]
        before = in_ledger(target)
        for _ in range(TENTHS):
            wish = target.wish(clients=CLIENTS_FLAT, answers=max(1, requests // TENTHS), warm_s=0.0)
            seen = phases.measure(wish, self._cores)
            if seen.errors:
                print(f"flat: {seen.errors} errors, the first: {seen.error}", file=sys.stderr)
            ended = time.monotonic()
            # On two cores the gateway is faster than the ledger: what is not there yet stands in its journal.
            held = in_ledger(target)
            tenths.append(
                {
                    "requests": tenths[-1]["requests"] + seen.answers,
                    "rss_mb": round(phases.rss_mb(target.pid), 1),
                    "rps": round(seen.answers / seen.window_s, 1),
                    "errors": float(seen.errors),
                    "in_ledger": float(held - before),
                    "ledger_s": round(time.monotonic() - ended, 1),
                }
            )
        return tenths
