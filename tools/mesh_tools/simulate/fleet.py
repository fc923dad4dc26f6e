"""``mesh simulate fleet``: a hall of light agents on a real bus, and jobs, gangs, endpoints and leases on it.

Placement, Postgres and nats-server are the real ones, each a process, in a folder of their own; thousands of
agents are objects in this process. Exit code 1 where anything was that must not be.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import msgspec
import uvloop
from meshkit.errors import MeshError

from mesh_tools.simulate.figures import Figures, words
from mesh_tools.simulate.running import Wanted, simulate

GPUS, GPUS_MIN, GPUS_MAX = 18_000, 8, 45_000
HOURS, SPEED, LOAD, GANGS = 1.0, 60.0, 1.0, 0.6
INTERRUPTED = 130
STOPS = (signal.SIGINT, signal.SIGTERM)


def main(argv: list[str]) -> int:
    """Run it; return 0, or 1 after a breach, 2 for a wrong call, 130 where it was interrupted."""
    parser = argparse.ArgumentParser(prog="mesh simulate fleet", description=__doc__)
    parser.add_argument("--gpus", type=int, default=GPUS, help="eight a server")
    parser.add_argument("--hours", type=float, default=HOURS, help="simulated hours")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, default=SPEED, help="simulated seconds in a real one")
    parser.add_argument("--load", type=float, default=LOAD, help="GPUs asked for, of all")
    parser.add_argument("--gangs", type=float, default=GANGS, help="part of them that gangs ask for")
    parser.add_argument("--faults", type=float, default=1.0, help="times the published rates")
    parser.add_argument(
        "--trace", type=Path, help="a list of pods, in openb's columns, to draw sizes from"
    )
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    given = parser.parse_args(argv)
    if not GPUS_MIN <= given.gpus <= GPUS_MAX:
        parser.error(f"--gpus: from {GPUS_MIN} to {GPUS_MAX}")
    if min(given.hours, given.speed, given.load) <= 0 or given.faults < 0:
        parser.error("--hours, --speed and --load are above 0, --faults is not below")
    if not 0 <= given.gangs < 1:
        parser.error("--gangs: a part, from 0 to below 1")
    wanted = Wanted(
        gpus=given.gpus // GPUS_MIN * GPUS_MIN,
        hours=given.hours,
        seed=given.seed,
        speed=given.speed,
        load=given.load,
        gang_share=given.gangs,
        fault_times=given.faults,
        trace=given.trace,
    )
    try:
        found = uvloop.run(_run(wanted))
    except (OSError, ValueError, OverflowError, TimeoutError, MeshError) as fault:
        print(f"mesh simulate fleet: {fault or type(fault).__name__}", file=sys.stderr)
        return 2
    print(words(found))
    if given.json:
        print(msgspec.json.encode(found).decode())
    if found.interrupted:
        return INTERRUPTED
    return 0 if found.sound else 1


async def _run(wanted: Wanted) -> Figures:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def interrupted() -> None:
        # The second one ends it at once.
        for number in STOPS:
            loop.remove_signal_handler(number)
        stop.set()

    for number in STOPS:
        loop.add_signal_handler(number, interrupted)
    return await simulate(wanted, stop, lambda words: print(words, file=sys.stderr, flush=True))
