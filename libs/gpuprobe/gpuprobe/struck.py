"""Faults put into products and their operands, behind the check's back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuprobe.backend import Backend
from gpuprobe.exact import Exact
from gpuprobe.fault import Fault, FaultUnusable
from gpuprobe.product import Shaped

WORD_BITS = 32
TILE = 64
"""Rows and columns of what is not written at once: a part of what a block of a product makes."""

RIGHT = 1
"""The ``level`` of a fault in an operand that lies in B, column by column; 0 is A, row by row."""


class Struck:
    """The faults of a run, put into each round they strike in."""

    def __init__(self, exact: Exact, faults: Sequence[Fault]) -> None:
        self.exact = exact
        self.faults = faults
        self._held: set[int] = set()
        self._stale: list[Stale] = []
        for fault in faults:
            _refuse_outside(exact, fault)

    def before(self, round_number: int, slot: int = 0) -> None:
        """Change operands before a round's product, once each; a passing fault is taken back after it.

        What will not be written of the product is remembered as it stands.
        """
        out, shape = self.exact.products[slot], self.exact.shape
        stale = [one for one in self.faults if one.kind == "stale" and one.strikes(round_number)]
        self._stale = [Stale(out, shape, fault) for fault in stale]
        for number, fault in enumerate(self.faults):
            strikes = fault.kind == "operand" and fault.strikes(round_number)
            if strikes != (number in self._held):
                _hit_operand(self.exact, fault)
                self._held ^= {number}

    @property
    def held(self) -> bool:
        """Tell whether an operand is changed now."""
        return bool(self._held)

    def after(self, round_number: int, slot: int) -> None:
        """Change a round's product."""
        for tile in self._stale:
            tile.put_back()
        for fault in self.faults:
            if fault.strikes(round_number) and fault.kind in {"flip", "drop"}:
                _hit_product(self.exact, fault, slot)


class Stale:
    """A tile of a product that is not written: what stood in it before."""

    def __init__(self, out: Any, shape: Shaped, fault: Fault) -> None:
        row, col = fault.row // TILE * TILE, fault.col // TILE * TILE
        words = out.view(np.uint64 if out.dtype.itemsize == 8 else np.uint32)
        self._tile = words.reshape(shape.rows, shape.cols)[row : row + TILE, col : col + TILE]
        self._stood = self._tile.copy()

    def put_back(self) -> None:
        """Leave the tile as it was before the product was made."""
        self._tile[:] = self._stood


def flip(
    backend: Backend, array: Any, place: int, mask: int, *, stride: int = 1, count: int = 1
) -> None:
    """Flip the bits of ``mask`` in ``count`` elements of ``array``, from ``place`` on, ``stride`` apart."""
    size = array.dtype.itemsize
    words = array.view(np.uint32)
    for number in range(count) if size < 4 else range(1):
        at = (place + number * stride) * size
        shifted = mask << (at % 4 * 8)
        for high in range(2):
            part = shifted >> (high * WORD_BITS) & 0xFFFFFFFF
            if part:
                times = count if size >= 4 else 1
                arguments = (at // 4 + high, max(stride * size // 4, 1), times, part)
                backend.launch("strike_flip", words, *arguments)


def _hit_product(exact: Exact, fault: Fault, slot: int) -> None:
    backend, product = exact.backend, exact.products[slot]
    place = fault.row * exact.shape.cols + fault.col
    if fault.kind == "flip":
        flip(backend, product, place, fault.mask, stride=fault.stride, count=fault.count)
        return
    found = backend.fetch(product[place : place + 1])
    less = (found - exact.kind.result(exact.term(fault.row, fault.col, fault.inner))).astype(
        found.dtype
    )
    pattern = np.uint64 if found.dtype == np.float64 else np.uint32
    mask = int(found.view(pattern)[0] ^ less.view(pattern)[0])
    if mask:
        flip(backend, product, place, mask)


def _hit_operand(exact: Exact, fault: Fault) -> None:
    array = exact.right if fault.level == RIGHT else exact.left
    line = fault.col if fault.level == RIGHT else fault.row
    flip(exact.backend, array, line * exact.shape.inner + fault.inner, fault.mask)


def _refuse_outside(exact: Exact, fault: Fault) -> None:
    shape = exact.shape
    bits = 8 * (exact.kind.operand if fault.kind == "operand" else exact.kind.result)(0).itemsize
    last = fault.col + (fault.count - 1) * fault.stride
    inside = fault.row < shape.rows and last < shape.cols and fault.inner < shape.inner
    if fault.kind not in {"flip", "drop", "operand", "stale"}:
        raise FaultUnusable(
            f"a product cannot have the fault {fault.kind!r}; flip, drop, operand, stale can be"
        )
    if not (inside and fault.count > 0 and fault.stride > 0 and 0 < fault.mask < 1 << bits):
        raise FaultUnusable(
            f"the product is {shape.rows} by {shape.cols}, of {shape.inner} terms and {bits} bits each;"
            f" row={fault.row}, col={fault.col}, inner={fault.inner}, mask={fault.mask:#x},"
            f" count={fault.count}, stride={fault.stride} is outside of it"
        )
