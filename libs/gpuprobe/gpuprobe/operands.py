"""The operands of the exact product, element by element from their index, as NumPy sees them.

An element is an integer of ±1..±``magnitude`` (never zero: a multiplication left out always shows)
times a power of two that belongs to its line: the row of A, the column of B. All products of one
sum share their power of two, so that a sum is exact wherever the sum of the integers is; the powers
bring exponents into play that small integers alone would leave idle.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Family = Literal["float", "int8", "fp64"]
"""Kinds of number with the same operands have the same product, and the same golden digest."""

SIDES = ("left", "right")


@dataclass(frozen=True)
class Range:
    """What integers and powers of two a family's operands are made of."""

    magnitude: int
    span: int


RANGES: dict[Family, Range] = {
    "float": Range(magnitude=45, span=8),
    "int8": Range(magnitude=127, span=0),
    "fp64": Range(magnitude=2**20 - 1, span=100),
}


@dataclass(frozen=True)
class Salts:
    """What tells one problem's numbers from another's."""

    left: int
    right: int
    left_scale: int
    right_scale: int
    weights: int
    digest: int


def salts(seed: int) -> Salts:
    """Return the salts that follow from a seed."""
    at = np.arange(6, dtype=np.uint32) + np.uint32((seed * 6) & 0xFFFFFFFF)
    return Salts(*(int(salt) for salt in mix32(mix32(at) ^ np.uint32(seed >> 32 & 0xFFFFFFFF))))


def mix32(words: Any) -> Any:
    """Return the bijective mixture of ``words`` (uint32) that the kernels use."""
    words = words ^ (words >> np.uint32(16))
    words = words * np.uint32(0x7FEB352D)
    words = words ^ (words >> np.uint32(15))
    words = words * np.uint32(0x846CA68B)
    return words ^ (words >> np.uint32(16))


def integers(salt: int, lines: Any, inner: int, magnitude: int) -> Any:
    """Return the integers of ``lines`` (uint32[n]) of an operand: int32[n, inner]."""
    index = lines.astype(np.uint32)[:, None] * np.uint32(inner) + np.arange(inner, dtype=np.uint32)
    words = mix32(index ^ np.uint32(salt))
    size = 1 + ((words >> np.uint32(1)).astype(np.uint64) * np.uint64(magnitude) >> np.uint64(31))
    return np.where(words & np.uint32(1), -size.astype(np.int32), size.astype(np.int32))


def scales(salt: int, lines: Any, span: int) -> Any:
    """Return the exponents of ``lines``: int32[n], within ±``span``."""
    if span == 0:
        return np.zeros(len(lines), np.int32)
    words = mix32(lines.astype(np.uint32) ^ np.uint32(salt))
    return (words % np.uint32(2 * span + 1)).astype(np.int32) - np.int32(span)


def weights(salt: int, count: int) -> Any:
    """Return Freivalds' multipliers: uint32[count], odd and below 2^31."""
    words = mix32(np.arange(count, dtype=np.uint32) ^ np.uint32(salt))
    return (words >> np.uint32(1)) | np.uint32(1)


def encoded(kind: str, values: Any, exponents: Any) -> Any:
    """Return the patterns in memory of ``values`` (int32[line, inner]) times 2^``exponents`` (int32[line])."""
    if kind == "int8":
        return values.astype(np.int8).view(np.uint8)
    if kind == "fp64":
        return np.ldexp(values.astype(np.float64), exponents[:, None]).view(np.uint64)
    numbers = np.ldexp(values.astype(np.float32), exponents[:, None])
    if kind == "fp16":
        return numbers.astype(np.float16).view(np.uint16)
    if kind == "bf16":
        return (numbers.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    assert kind == "tf32"
    return numbers.view(np.uint32)


def decoded(kind: str, patterns: Any) -> Any:
    """Return the numbers of an operand's patterns: float32, or float64 for ``fp64`` and ``int8``."""
    if kind == "bf16":
        return (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if kind == "fp16":
        return patterns.view(np.float16).astype(np.float32)
    if kind == "tf32":
        return patterns.view(np.float32)
    if kind == "int8":
        return patterns.view(np.int8).astype(np.float64)
    return patterns.view(np.float64)
