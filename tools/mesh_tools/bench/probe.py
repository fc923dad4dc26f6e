"""``mesh bench probe``: how many injected faults the health kernels find and place, and how often they err.

On a GPU where there is one, else on the kernels' own source compiled for the host, which the first
line says. What comparing a device with itself would have found, as burn-in tools do, stands beside
ours: it is counted on the same products in the same run.
"""

import argparse
import json
import time

from gpuprobe import matrix
from gpuprobe.backend import NoDevice, NoGpu, pick

FAULTS = 200
SOUND = 1_000


def main(argv: list[str], *, as_json: bool) -> int:
    """Print the matrix; with ``as_json`` the last line is one object. Return 1 where it does not hold."""
    parser = argparse.ArgumentParser(prog="mesh bench probe")
    parser.add_argument("--faults", type=int, default=FAULTS, help="of each model")
    parser.add_argument("--sound", type=int, default=SOUND, help="products; a tenth of other runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=("cupy", "host", "numpy"))
    parser.add_argument("--within", type=float, metavar="SECONDS", help="begin nothing after so long")
    wanted = parser.parse_args(argv)
    try:
        backend = pick(0, wanted.backend or "cupy")
    except NoGpu:
        if wanted.backend:
            raise
        try:
            backend = pick(0, "host")
        except NoDevice:
            backend = pick(0, "numpy")
    until = None if wanted.within is None else time.monotonic() + wanted.within
    report = matrix.run(backend, wanted.faults, wanted.sound, wanted.seed, until=until)
    print(matrix.table(report))
    if as_json:
        print(json.dumps(report.as_json()))
    return 0 if report.holds else 1
