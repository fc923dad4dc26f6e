"""How long a sum of integers a device's multipliers keep exact, by kind of number.

Two kinds of sum: of one product again and again (every partial sum is odd or even in turn, up to
the largest there can be), and of random products that all have one sign. Beyond what float32 holds
the fraction that is still exact shows where it ends.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe import operands, product
from gpuprobe.bench import Bench
from gpuprobe.exact import EXACT_MAX
from gpuprobe.operands import RANGES
from gpuprobe.product import KINDS, Kind

ROWS, COLS = 256, 256
INNERS = (1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
SMALL = (256, 512)


@dataclass(frozen=True)
class _Shape:
    rows: int
    inner: int
    cols: int


def exactness(bench: Bench) -> Any:
    """Return, by kind and length, the largest sum and what part of the sums is exact."""
    inners = INNERS if bench.backend.name == "cupy" else SMALL
    told: dict[str, Any] = {}
    for name, kind in KINDS.items():
        told[name] = {}
        for inner in inners[: 2 if bench.smoke else len(inners)]:
            try:
                told[name][inner] = _one(bench, kind, inner)
            except Exception as fault:  # noqa: BLE001 - one kind's trouble is not another's
                told[name][inner] = {"error": f"{type(fault).__name__}: {fault}"}
        bench.tell(told)
    return told


def _one(bench: Bench, kind: Kind, inner: int) -> dict[str, Any]:
    magnitude = RANGES[kind.family].magnitude
    chance = np.random.default_rng(inner)
    same = np.full((ROWS, inner), magnitude, np.int32)
    left = chance.integers(1, magnitude + 1, (ROWS, inner)).astype(np.int32)
    right = chance.integers(1, magnitude + 1, (COLS, inner)).astype(np.int32)
    largest = inner * magnitude**2
    return {
        "largest": largest,
        "fits": largest < EXACT_MAX[kind.family],
        "same_exact": _exact_part(bench, kind, same, same),
        "random_exact": _exact_part(bench, kind, left, right),
    }


def _exact_part(bench: Bench, kind: Kind, left: Any, right: Any) -> float:
    backend = bench.backend
    zeros = np.zeros(len(left), np.int32)
    a = backend.put(operands.encoded(kind.name, left, zeros).reshape(-1))
    b = backend.put(operands.encoded(kind.name, right, zeros).reshape(-1))
    out = backend.empty(ROWS * COLS, kind.result)
    product.multiply(backend, kind, _Shape(ROWS, left.shape[1], COLS), left=a, right=b, out=out)
    found = backend.fetch(out).reshape(ROWS, COLS).astype(np.float64)
    true = left.astype(np.float64) @ right.astype(np.float64).T
    return float(np.mean(found == true))
