"""Digests of products that NumPy made: what a device must come to, known before it is asked.

``python -m gpuprobe.golden`` makes them all anew (minutes) and writes ``golden.json`` beside this
file. A digest covers a stripe of rows, so that a slow device can be asked for fewer rows.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from gpuprobe import digest, operands
from gpuprobe.operands import RANGES, Family

STRIPE = 128
"""Rows of one digest."""

SEEDS = (1, 2)
FILE = "golden.json"
EXACT_INNER = 1024
"""Terms summed at once in float32: 127² times this is below 2^24."""


@dataclass(frozen=True)
class Made:
    """A product to make golden digests of."""

    family: Family
    rows: int
    inner: int
    cols: int


MADE = (
    Made("float", 256, 1024, 256),
    Made("int8", 256, 1024, 256),
    Made("fp64", 256, 1024, 256),
    Made("float", 128, 256, 128),
    Made("float", 512, 2048, 512),
    Made("float", 8192, 8192, 8192),
    Made("int8", 8192, 8192, 8192),
    Made("fp64", 4096, 4096, 4096),
)


@dataclass(frozen=True)
class Golden:
    """The digests of a product's stripes, from the first row on."""

    sums: Any
    """uint64[stripe]"""
    xors: Any
    """uint32[stripe]"""

    def agrees(self, sums: Any, xors: Any, times: int = 1) -> bool:
        """Tell whether all digests are these, added up ``times``."""
        same = np.array_equal(sums, self.sums * np.uint64(times))
        return bool(same and np.array_equal(xors, self.xors * np.uint32(times % 2)))


def find(family: Family, seed: int, inner: int, cols: int, stripes: int) -> Golden | None:
    """Return the golden digests of the first ``stripes`` stripes, where NumPy made so many."""
    said = _table().get(_key(family, seed, inner, cols), [])
    if len(said) < stripes:
        return None
    pairs = [entry.split(":") for entry in said[:stripes]]
    return Golden(
        np.array([int(one, 16) for one, _ in pairs], np.uint64),
        np.array([int(other, 16) for _, other in pairs], np.uint32),
    )


def make(made: Made, seed: int) -> Iterator[str]:
    """Yield the digest of each stripe, made with NumPy alone."""
    salts, size = operands.salts(seed), RANGES[made.family]
    columns = np.arange(made.cols, dtype=np.uint32)
    right = operands.integers(salts.right, columns, made.inner, size.magnitude)
    right = right.astype(np.float64 if made.family == "fp64" else np.float32)
    across = operands.scales(salts.right_scale, columns, size.span)
    column_keys = digest.column_keys(salts.digest, made.cols)
    for first in range(0, made.rows, STRIPE):
        at = np.arange(first, first + STRIPE, dtype=np.uint32)
        left = operands.integers(salts.left, at, made.inner, size.magnitude).astype(right.dtype)
        if made.family == "int8":
            whole = np.zeros((STRIPE, made.cols), np.int32)
            for k in range(0, made.inner, EXACT_INNER):
                part = slice(k, k + EXACT_INNER)
                whole += (left[:, part] @ right[:, part].T).astype(np.int32)
            words = whole.view(np.uint32)
        else:
            down = operands.scales(salts.left_scale, at, size.span)
            numbers = np.ldexp(left @ right.T, down[:, None] + across)
            words = numbers.view(np.uint64 if made.family == "fp64" else np.uint32)
        total, mixed = digest.of_rows(words, column_keys, digest.row_keys(salts.digest, at))
        yield f"{total:016x}:{mixed:08x}"


def _key(family: str, seed: int, inner: int, cols: int) -> str:
    return f"{family} seed={seed} inner={inner} cols={cols}"


@cache
def _table() -> dict[str, list[str]]:
    text = (files("gpuprobe") / FILE).read_text()
    table: dict[str, list[str]] = json.loads(text)
    return table


def main() -> None:
    """Make every digest and write the file."""
    table = {}
    for made in MADE:
        for seed in SEEDS:
            key = _key(made.family, seed, made.inner, made.cols)
            table[key] = list(make(made, seed))
            print(key, len(table[key]))
    Path(__file__).with_name(FILE).write_text(json.dumps(table, indent=0) + "\n")


if __name__ == "__main__":
    main()
