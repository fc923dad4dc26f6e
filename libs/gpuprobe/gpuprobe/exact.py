"""An exact matrix product on a device, verified in one pass without a second product.

Freivalds' check compares C·r with A·(B·r) modulo 2^64, for odd multipliers ``r`` below 2^31: one
wrong element in a row is always found, and several cancel each other with a chance of about 2^-30,
whatever their size; the row is named. The same pass takes a digest of C that does not depend on the
order of its elements; for seeds that were multiplied before by NumPy it is compared with theirs, so
that nothing the device says is needed to know that it is right.

What a row's sum should be is computed from the elements' index with integers, never from the
operands in memory nor by the units that multiply: a device that computes wrongly cannot agree with
itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe import digest, golden, operands, product
from gpuprobe.backend import Backend
from gpuprobe.operands import RANGES
from gpuprobe.product import Kind

PARTS = 64
"""Threads that share one sum while the expected sums are made."""

STRIPE = golden.STRIPE
"""Rows of one digest; rows come in multiples of it."""

COLUMNS = 64
"""Columns come in multiples of it: warps load several at once."""

TRUE_ROWS_MAX = 8
"""At most so many wrong rows are computed again, element by element."""

LOG_WORDS = 4 + 256 * 3
LOG_NONE = np.uint64(0xFFFFFFFFFFFFFFFF)

EXACT_MAX = {"float": 2**24, "int8": 2**31, "fp64": 2**53}
"""Integers up to here are exact, by family."""


@dataclass(frozen=True)
class Shape:
    """C is ``rows`` by ``cols``; each element sums ``inner`` products."""

    rows: int
    inner: int
    cols: int

    def __post_init__(self) -> None:
        assert self.rows > 0 == self.rows % STRIPE, f"rows come in multiples of {STRIPE}"
        assert self.cols > 0 == self.cols % COLUMNS, f"columns come in multiples of {COLUMNS}"
        assert self.inner > 0 == self.inner % 8, "a sum has a multiple of eight terms"


def sums_exactly(kind: Kind, inner: int) -> bool:
    """Tell whether no sum of ``inner`` products can leave the range of exact integers."""
    return inner * RANGES[kind.family].magnitude ** 2 < EXACT_MAX[kind.family]


@dataclass(frozen=True)
class Look:
    """What verifying one product said: the rows that are wrong, and whether its digest is golden."""

    rows: tuple[int, ...]
    golden: bool | None
    """``None`` where there is no golden digest for this seed and shape."""

    @property
    def right(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.rows and self.golden is not False


class Exact:
    """Operands of one kind on a device, their products, and what these are verified against.

    ``at_once`` products are kept side by side, so that a slice can be judged after its end.
    """

    def __init__(self, backend: Backend, kind: Kind, shape: Shape, seed: int, at_once: int = 1) -> None:
        assert sums_exactly(kind, shape.inner), f"a sum of {shape.inner} products would not be exact"
        self.backend = backend
        self.kind = kind
        self.shape = shape
        self.seed = seed
        self.at_once = at_once
        self._range = RANGES[kind.family]
        self._salts = operands.salts(seed)
        self.left = backend.empty(shape.rows * shape.inner, kind.operand)
        self.right = backend.empty(shape.cols * shape.inner, kind.operand)
        self.products = [backend.empty(shape.rows * shape.cols, kind.result) for _ in range(at_once)]
        stripes = shape.rows // STRIPE
        self._sums = backend.empty(at_once * shape.rows, np.uint64)
        self._odd = backend.empty(at_once * shape.rows, np.uint32)
        self._digest = backend.empty(at_once * stripes, np.uint64)
        self._digest_xor = backend.empty(at_once * stripes, np.uint32)
        self._golden = golden.find(kind.family, seed, shape.inner, shape.cols, stripes)
        columns = np.arange(shape.cols, dtype=np.uint32)
        across = operands.scales(self._salts.right_scale, columns, self._range.span)
        weights = operands.weights(self._salts.weights, shape.cols)
        self._weights = backend.put(weights)
        self._keys = backend.put(digest.column_keys(self._salts.digest, shape.cols))
        down = operands.scales(self._salts.left_scale, np.arange(shape.rows), self._range.span)
        self._offsets = kind.offsets(down) * weights.sum(keepdims=True, dtype=np.uint64)
        self._unscale = backend.put(np.ldexp(kind.unscale(1), -across))
        self.fill()
        self.expected: Any = None
        self.expect()

    @property
    def operations(self) -> int:
        """How many multiplications and additions one product takes."""
        return 2 * self.shape.rows * self.shape.inner * self.shape.cols

    @property
    def has_golden(self) -> bool:
        """Tell whether NumPy multiplied these operands before."""
        return self._golden is not None

    def fill(self) -> None:
        """Write the operands."""
        for array, lines, salt, scale in self._sides():
            self.backend.launch("gemm_fill", array, self.kind.code, lines, *self._made_of(salt, scale))

    def expect(self) -> None:
        """Compute what each row's weighted sum should be."""
        shape, size = self.shape, self._range
        weighed = self.backend.empty(shape.inner, np.uint64)
        expected = self.backend.empty(shape.rows, np.uint64)
        weighed.fill(0)
        expected.fill(0)
        self.backend.launch(
            "gemm_weigh",
            weighed,
            self._weights,
            shape.cols,
            shape.inner,
            size.magnitude,
            self._salts.right,
            PARTS,
        )
        self.backend.launch(
            "gemm_expect",
            expected,
            weighed,
            shape.rows,
            shape.inner,
            size.magnitude,
            self._salts.left,
            PARTS,
        )
        self.expected = self.backend.fetch(expected) + self._offsets

    def multiply(self, slot: int = 0) -> None:
        """Begin C = A·B."""
        out = self.products[slot]
        product.multiply(self.backend, self.kind, self.shape, left=self.left, right=self.right, out=out)

    def spoil(self, slot: int = 0) -> None:
        """Begin to overwrite the product in a slot, so that one that is not made again is wrong."""
        product.spoil(self.backend, self.products[slot])

    def begin_verifying(self) -> None:
        """Forget what was verified before, in all slots."""
        for array in (self._sums, self._odd, self._digest, self._digest_xor):
            array.fill(0)

    def verify(self, slot: int = 0) -> None:
        """Begin the pass over C."""
        self.backend.launch(self.kind.verify, *self.verify_arguments(slot))

    def verify_arguments(self, slot: int = 0) -> tuple[Any, ...]:
        """Return what the pass over C takes."""
        rows, stripes = self.shape.rows, self.shape.rows // STRIPE
        return (
            self.products[slot],
            rows,
            self.shape.cols,
            self._range.span,
            self._salts.left_scale,
            self._unscale,
            self._weights,
            self._keys,
            self._salts.digest,
            STRIPE,
            self._sums[slot * rows : (slot + 1) * rows],
            self._odd[slot * rows : (slot + 1) * rows],
            self._digest[slot * stripes : (slot + 1) * stripes],
            self._digest_xor[slot * stripes : (slot + 1) * stripes],
        )

    def looks(self, count: int = 1, times: int = 1) -> list[Look]:
        """Return what the passes over the first ``count`` slots said, each after ``times`` passes.

        Passes add up: one wrong product among ``times`` shows. An odd number keeps all of the digest.
        """
        shape, stripes = self.shape, self.shape.rows // STRIPE
        fetch = self.backend.fetch
        sums = fetch(self._sums).reshape(self.at_once, shape.rows)
        odd = fetch(self._odd).reshape(self.at_once, shape.rows)
        digest = fetch(self._digest).reshape(self.at_once, stripes)
        digest_xor = fetch(self._digest_xor).reshape(self.at_once, stripes)
        said = []
        for slot in range(count):
            rows = np.flatnonzero((sums[slot] != self.expected * np.uint64(times)) | (odd[slot] != 0))
            right = None
            if self._golden is not None:
                right = self._golden.agrees(digest[slot], digest_xor[slot], times)
            said.append(Look(tuple(int(row) for row in rows), right))
        return said

    def digests(self) -> tuple[Any, Any]:
        """Return the digest of each stripe of the product in the first slot: sums, exclusive ors."""
        stripes = self.shape.rows // STRIPE
        sums, xors = (self.backend.fetch(kept)[:stripes] for kept in (self._digest, self._digest_xor))
        return sums, xors

    def wrong_elements(self, rows: tuple[int, ...], slot: int = 0) -> list[tuple[int, int, int]]:
        """Return (row, column, flipped bits) of what is wrong in ``rows``, in order.

        The rows are computed again from the elements' index, by integers.
        """
        rows = rows[:TRUE_ROWS_MAX]
        true = self._true_patterns(rows)
        word = true.dtype
        cols, found = self.shape.cols, []
        for number, row in enumerate(rows):
            here = self.backend.fetch(self.products[slot][row * cols : (row + 1) * cols]).view(word)
            flipped = here ^ true[number]
            found += [(row, int(col), int(flipped[col])) for col in np.flatnonzero(flipped)]
        return found

    def operand_errors(self) -> list[tuple[str, int, int, int, int]]:
        """Return what differs in memory, by operand: (side, how many, line, place in it, flipped bits)."""
        found = []
        for side, (array, lines, salt, scale) in zip(operands.SIDES, self._sides(), strict=True):
            log = np.zeros(LOG_WORDS, np.uint64)
            log[1] = LOG_NONE
            log = self.backend.put(log)
            made_of = self._made_of(salt, scale)
            self.backend.launch("gemm_compare", array, self.kind.code, lines, *made_of, 0, log)
            count, first, bits = (int(word) for word in self.backend.fetch(log)[:3])
            if count:
                found.append((side, count, *divmod(first, self.shape.inner), bits))
        return found

    def term(self, row: int, col: int, inner: int) -> float:
        """Return the term of an element's sum that ``inner`` names."""
        salts, size = self._salts, self._range
        left = operands.integers(salts.left, np.array([row]), self.shape.inner, size.magnitude)[
            0, inner
        ]
        right = operands.integers(salts.right, np.array([col]), self.shape.inner, size.magnitude)[
            0, inner
        ]
        return float(np.ldexp(float(left) * float(right), int(self._scale(row, col))))

    def _true_patterns(self, rows: tuple[int, ...]) -> Any:
        shape, salts = self.shape, self._salts
        true = self.backend.empty(len(rows) * shape.cols, np.int64)
        wanted = self.backend.put(np.array(rows, np.uint32))
        self.backend.launch(
            "gemm_true_rows",
            true,
            wanted,
            len(rows),
            shape.cols,
            shape.inner,
            self._range.magnitude,
            salts.left,
            salts.right,
        )
        whole = self.backend.fetch(true).reshape(len(rows), shape.cols)
        if self.kind.result == np.int32:
            return whole.astype(np.int32).view(np.uint32)
        columns = np.arange(shape.cols, dtype=np.uint32)
        exponents = operands.scales(salts.left_scale, np.array(rows, np.uint32), self._range.span)[
            :, None
        ]
        exponents = exponents + operands.scales(salts.right_scale, columns, self._range.span)
        numbers = np.ldexp(whole.astype(self.kind.result), exponents)
        return numbers.view(np.uint64 if self.kind.result == np.float64 else np.uint32)

    def _scale(self, row: int, col: int) -> int:
        left = operands.scales(self._salts.left_scale, np.array([row]), self._range.span)
        right = operands.scales(self._salts.right_scale, np.array([col]), self._range.span)
        return int(left[0] + right[0])

    def _sides(self) -> tuple[tuple[Any, int, int, int], ...]:
        salts = self._salts
        return (
            (self.left, self.shape.rows, salts.left, salts.left_scale),
            (self.right, self.shape.cols, salts.right, salts.right_scale),
        )

    def _made_of(self, salt: int, scale_salt: int) -> tuple[int, ...]:
        return (self.shape.inner, self._range.magnitude, self._range.span, salt, scale_salt)
