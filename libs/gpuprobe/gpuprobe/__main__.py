"""``python -m gpuprobe``: check devices, print the verdicts, exit by the worst of them."""

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuprobe.levels import Wish
    from gpuprobe.verdict import Check, Verdict

EXIT = {"pass": 0, "warn": 0, "fail": 1, "inconclusive": 3}
"""Exit status by the worst verdict; 2 is a command line that is not understood."""

SEED_BITS = 31
MIB = 2**20


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status of the worst verdict."""
    # Small products gain nothing from threads, and a shared host loses: set before NumPy loads.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    began = time.perf_counter()
    from gpuprobe import levels, worker  # noqa: PLC0415 - after the line above
    from gpuprobe.verdict import worst  # noqa: PLC0415 - after the line above

    parser = _parser()
    options = parser.parse_args(arguments)
    devices = options.device or [0]
    wish = _wish(parser, options, devices)
    seed = secrets.randbits(SEED_BITS) if options.seed is None else options.seed
    stop = _stopping(options, heeds_signals=arguments is None)
    if options.deadline is None:
        checks = levels.run(devices, seed=seed, wish=wish, stop=stop)
        if options.history:
            try:
                wish.history.write(options.history)
            except OSError as fault:
                # What was found stands, whether or not it can be remembered.
                print(f"--history: {options.history} was not written: {fault}", file=sys.stderr)
    else:
        own = list(sys.argv[1:] if arguments is None else arguments)
        checks = worker.run(worker.undeadlined(own), devices, options.deadline, stop)
    verdict = worst(checks)
    _tell(options, checks, verdict, began)
    return EXIT[verdict]


def _stopping(options: argparse.Namespace, *, heeds_signals: bool) -> Callable[[], bool]:
    """Return what tells whether the check is to end: it was told to, or whoever began it is gone."""
    from gpuprobe.worker import end_with  # noqa: PLC0415 - after the variables are set

    told: list[int] = []
    if heeds_signals:
        # The child of a deadline stands in a session of its own: no terminal's interrupt reaches it.
        for asked in (signal.SIGTERM, *([] if options.deadline is None else [signal.SIGINT])):
            signal.signal(asked, lambda number, _: told.append(number))
    if options.with_parent:
        end_with(options.with_parent)
    parent = os.getppid()
    return lambda: bool(told) or (options.with_parent is not None and os.getppid() != parent)


def _tell(options: argparse.Namespace, checks: "list[Check]", verdict: "Verdict", began: float) -> None:
    """Print the checks, for a program or for people."""
    if options.json:
        took_ms = round((time.perf_counter() - began) * 1_000)
        told = {"level": options.level, "verdict": verdict, "took_ms": took_ms}
        print(json.dumps(told | {"checks": [c.as_json() for c in checks]}))
        return
    for check in checks:
        print(
            f"device {check.device}  {check.name}  {check.verdict}  {check.backend}  {check.took_ms} ms"
        )
        print(f"  {check.detail}")
        if check.action:
            print(f"  to do: {check.action}")


def _parser() -> argparse.ArgumentParser:
    from gpuprobe.levels import LEVELS  # noqa: PLC0415 - after the variables are set
    from gpuprobe.probes import BY_NAME  # noqa: PLC0415 - same

    parser = argparse.ArgumentParser(
        prog="python -m gpuprobe",
        description=__doc__,
        # The child of a deadline is given the other arguments as they are: each by its whole name.
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--level", choices=LEVELS, default="quick")
    add("--device", type=int, action="append", metavar="INDEX", help="default: 0")
    add("--backend", choices=("auto", "numpy", "host", "cupy"), default="auto")
    add("--only", action="append", default=[], choices=tuple(BY_NAME), metavar="PROBE")
    add("--part", default="1/1", metavar="I/N", help="one of N parts of the level")
    add("--budget", type=float, metavar="SECONDS", help="begin no check after so long")
    add("--deadline", type=float, metavar="SECONDS", help="in a child, which is ended after so long")
    add(
        "--with-parent",
        type=int,
        nargs="?",
        const=0,
        metavar="PID",
        help="end once the process that started it is gone; killed at once where that is PID",
    )
    add("--memory", type=int, metavar="MIB", help="take no more of the device's memory")
    add("--history", type=Path, metavar="FILE", help="the cards' own baselines; read and added to")
    add("--seed", type=int, help="choose operands and patterns; default: drawn")
    add(
        "--inject",
        action="append",
        default=[],
        metavar="FAULT",
        help="[PROBE:KIND,]row=17,col=3,bit=5[,device=0][,persistent]",
    )
    add("--json", action="store_true", help="one JSON object for programs")
    return parser


def _wish(parser: argparse.ArgumentParser, options: argparse.Namespace, devices: list[int]) -> "Wish":
    from gpuprobe.fault import FaultUnusable, parse_fault  # noqa: PLC0415 - same
    from gpuprobe.history import History  # noqa: PLC0415 - same
    from gpuprobe.levels import Wish  # noqa: PLC0415 - same
    from gpuprobe.probes import BY_NAME  # noqa: PLC0415 - same

    try:
        faults = [parse_fault(text) for text in options.inject]
    except FaultUnusable as fault:
        parser.error(f"--inject: {fault}")
    unknown = sorted({fault.probe for fault in faults} - set(BY_NAME))
    if unknown:
        parser.error(f"--inject: there is no probe {unknown[0]}; there are {', '.join(BY_NAME)}")
    unchecked = sorted({fault.device for fault in faults} - set(devices))
    if unchecked:
        parser.error(f"--inject: device {unchecked[0]} is not checked; add --device {unchecked[0]}")
    if options.seed is not None and options.seed < 0:
        parser.error(f"--seed: {options.seed} is below 0")
    part, _, parts = options.part.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        parser.error(f"--part: {options.part} is not like 1/3")
    try:
        history = History.read(options.history) if options.history else History()
    except (OSError, ValueError) as fault:
        parser.error(f"--history: {fault}")
    return Wish(
        level=options.level,
        backend=options.backend,
        only=options.only,
        part=(int(part), int(parts)),
        budget_s=options.budget,
        memory_bytes_max=options.memory and options.memory * MIB,
        faults=faults,
        history=history,
    )


if __name__ == "__main__":
    sys.exit(main())
