"""``python -m gpuprobe``: check devices, print the verdicts, exit by the worst of them."""

import argparse
import json
import os
import secrets
import sys

EXIT = {"pass": 0, "warn": 0, "fail": 1, "inconclusive": 3}
"""Exit status by the worst verdict; 2 is a command line that is not understood."""

SEED_BITS = 31


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status of the worst verdict."""
    # Small products gain nothing from threads, and a shared host loses: set before NumPy loads.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from gpuprobe.fault import FaultUnusable, parse_fault  # noqa: PLC0415 - after the line above
    from gpuprobe.levels import LEVELS, run  # noqa: PLC0415 - after the line above
    from gpuprobe.verdict import worst  # noqa: PLC0415 - after the line above

    parser = argparse.ArgumentParser(prog="python -m gpuprobe", description=__doc__)
    parser.add_argument("--level", choices=LEVELS, default="quick")
    parser.add_argument("--device", type=int, action="append", metavar="INDEX", help="default: 0")
    parser.add_argument("--backend", choices=("auto", "numpy", "cupy"), default="auto")
    parser.add_argument("--seed", type=int, help="choose the operands; default: drawn")
    parser.add_argument(
        "--inject",
        action="append",
        default=[],
        metavar="FAULT",
        help="row=17,col=3,bit=5[,device=0][,persistent]",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for programs")
    options = parser.parse_args(arguments)
    try:
        faults = [parse_fault(text) for text in options.inject]
    except FaultUnusable as fault:
        parser.error(f"--inject: {fault}")
    if options.seed is not None and options.seed < 0:
        parser.error(f"--seed: {options.seed} is below 0")
    devices = options.device or [0]
    unchecked = sorted({fault.device for fault in faults} - set(devices))
    if unchecked:
        parser.error(f"--inject: device {unchecked[0]} is not checked; add --device {unchecked[0]}")
    seed = secrets.randbits(SEED_BITS) if options.seed is None else options.seed
    checks = run(options.level, devices, seed=seed, faults=faults, wish=options.backend)
    verdict = worst(checks)
    if options.json:
        told = {"level": options.level, "verdict": verdict, "checks": [c.as_json() for c in checks]}
        print(json.dumps(told))
    else:
        for check in checks:
            print(
                f"device {check.device}  {check.name}  {check.verdict}  {check.backend}  {check.took_ms} ms"
            )
            print(f"  {check.detail}")
            if check.action:
                print(f"  to do: {check.action}")
    return EXIT[verdict]


if __name__ == "__main__":
    sys.exit(main())
