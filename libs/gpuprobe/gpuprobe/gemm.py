"""An exact matrix product, checked without a second one: the wrong rows are named.

The operands are small integers, so every partial sum fits a float32 exactly and the product does
not depend on the order of summation, the library or the chip. Freivalds' check compares C·r with
A·(B·r) modulo 2^64, for odd multipliers ``r`` below 2^32: one wrong element in a row is always
found, and several cancel each other with a chance of at most 2^-31, whatever their size. (Modulo
2^32 two that are wrong by the same high bit would cancel far more often.)

It finds what a device that is compared with itself never shows: a fault that is there every time.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gpuprobe.backend import Backend

OPERAND_MAX = 45
"""Operands lie in ±1..±45 (never zero: a multiplication left out always shows)."""

EXACT_MAX = 2**24
"""Integers up to here are exact in float32."""

INNER_MAX = (EXACT_MAX - 1) // OPERAND_MAX**2
"""The longest sum of products that stays exact: 8284 terms."""

MULTIPLIERS_MAX = 2**32

_OPERANDS = np.array([n for n in range(-OPERAND_MAX, OPERAND_MAX + 1) if n], np.int8)


@dataclass(frozen=True)
class Shape:
    """C is ``rows`` by ``cols``; each element sums ``inner`` products."""

    rows: int
    inner: int
    cols: int

    def __post_init__(self) -> None:
        assert 0 < self.inner <= INNER_MAX, f"a sum of {self.inner} products would not be exact"


@dataclass(frozen=True)
class Problem:
    """Operands on the device, and what their product is checked against."""

    shape: Shape
    left: Any
    """float32[row, inner]"""
    right: Any
    """float32[inner, col]"""
    multipliers: Any
    """int64[col], odd and below 2^32"""
    expected: Any
    """int64[row]: A·(B·r), wrapped at 2^64"""


def pose(backend: Backend, shape: Shape, seed: int) -> Problem:
    """Return the operands that follow from ``seed``, with the expected sums of each row.

    The sums are computed on the host, by integers: a device that computes wrongly cannot
    agree with itself.
    """
    left, right, multipliers, expected = _drawn(shape, seed)
    return Problem(
        shape,
        backend.put(left.astype(np.float32)),
        backend.put(right.astype(np.float32)),
        backend.put(multipliers),
        backend.put(expected),
    )


def multiply(backend: Backend, problem: Problem) -> Any:
    """Return C = A·B, float32[row, col], on the device."""
    return backend.arrays.matmul(problem.left, problem.right)


def wrong_rows(backend: Backend, problem: Problem, product: Any) -> list[int]:
    """Return the rows of ``product`` that are not what they should be, in order.

    A row is wrong when its weighted sum differs, or when an element is not the float32 of an
    integer in range at all (a fraction, NaN, infinity, minus zero).
    """
    arrays = backend.arrays
    bounded = arrays.clip(arrays.nan_to_num(product), -EXACT_MAX, EXACT_MAX)
    whole = arrays.rint(bounded).astype(np.int32)
    is_whole = whole.astype(np.float32).view(np.uint32) == product.view(np.uint32)
    # Wraps at 2^64, which is what is wanted; CuPy's own product of integers would be slower.
    sums = (whole * problem.multipliers).sum(axis=1, dtype=np.int64)
    wrong = (sums != problem.expected) | ~is_whole.all(axis=1)
    return [int(row) for row in backend.fetch(arrays.flatnonzero(wrong))]


def wrong_elements(backend: Backend, problem: Problem, product: Any, row: int) -> list[tuple[int, int]]:
    """Return (column, flipped bits of the float32) of each wrong element of a row, in order.

    The row is computed again on the host, by integers.
    """
    left = backend.fetch(problem.left[row]).astype(np.int64)
    right = backend.fetch(problem.right).astype(np.int64)
    true = (left @ right).astype(np.float32).view(np.uint32)
    flipped = true ^ backend.fetch(product[row]).view(np.uint32)
    return [(int(col), int(flipped[col])) for col in np.flatnonzero(flipped)]


@lru_cache(maxsize=1)
def _drawn(shape: Shape, seed: int) -> tuple[Any, Any, Any, Any]:
    # Kept for the next device: of a server's eight each would wait for its own otherwise.
    chance = np.random.default_rng(seed)
    left = _operand(chance, shape.rows, shape.inner)
    right = _operand(chance, shape.inner, shape.cols)
    multipliers = chance.integers(0, MULTIPLIERS_MAX, shape.cols, dtype=np.int64) | 1
    return left, right, multipliers, _weighted(left, _weighted(right, multipliers))


def _operand(chance: np.random.Generator, rows: int, cols: int) -> Any:
    # Drawn as bytes, then looked up: large operands are most of a check's time on the host.
    return _OPERANDS[chance.integers(0, len(_OPERANDS), (rows, cols), dtype=np.uint8)]


def _weighted(integers: Any, weights: Any) -> Any:
    # Not ``@``, which would first make a copy of the whole operand, eight times its size.
    return np.einsum("ij,j->i", integers, weights, dtype=np.int64)
