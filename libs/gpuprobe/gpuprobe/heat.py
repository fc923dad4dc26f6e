"""Products of nearly normal numbers: most bits toggle, and so a card draws all that it may.

What they come to is not known beforehand. Each must come to the same as the first, and the first
agree with NumPy's float64 within what rounding explains, at some elements. By turns it is A·Bᵀ and
B·Aᵀ: the same operands and the same work, but whatever a product leaves unwritten then holds another's.
"""

from typing import Any

import numpy as np

from gpuprobe import operands, product
from gpuprobe.backend import Backend
from gpuprobe.exact import Shape
from gpuprobe.operands import mix32
from gpuprobe.product import Kind, Shaped

PLACES = 8
"""So many rows and columns are compared with float64 where they cross."""

ROUNDING = 2.0**-16
"""How far a sum may be off, as a part of the sum of its terms' sizes."""


class Heat:
    """Operands of random numbers and their product; ``digest`` tells one product from another."""

    def __init__(self, backend: Backend, kind: Kind, shape: Shaped, seed: int) -> None:
        self.backend = backend
        self.kind = kind
        self.shape = shape
        self._salt = int(mix32(np.array([seed & 0xFFFFFFFF], np.uint32))[0])
        self.left = backend.empty(shape.rows * shape.inner, kind.operand)
        self.right = backend.empty(shape.cols * shape.inner, kind.operand)
        self.out = backend.empty(shape.rows * shape.cols, kind.result)
        self._sum = backend.empty(1, np.uint64)
        self._xor = backend.empty(1, np.uint32)
        for number, (array, lines) in enumerate(((self.left, shape.rows), (self.right, shape.cols))):
            backend.launch("gemm_fill_noise", array, kind.code, lines, shape.inner, self._salt + number)

    @property
    def operations(self) -> int:
        """How many multiplications and additions one product takes."""
        return 2 * self.shape.rows * self.shape.inner * self.shape.cols

    def multiply(self, *, turned: bool = False) -> None:
        """Begin the product, or (``turned``) that of the operands the other way round."""
        shape, left, right = self._sides(turned=turned)
        product.multiply(self.backend, self.kind, shape, left=left, right=right, out=self.out)

    def _sides(self, *, turned: bool) -> tuple[Shaped, Any, Any]:
        if not turned:
            return self.shape, self.left, self.right
        shape = Shape(self.shape.cols, self.shape.inner, self.shape.rows)
        return shape, self.right, self.left

    def forget(self) -> None:
        """Begin to digest anew."""
        self._sum.fill(0)
        self._xor.fill(0)

    def add(self) -> None:
        """Begin the pass over the product: what it comes to is added to what was digested before."""
        words = self.out.view(np.uint32)
        self.backend.launch("gemm_digest", words, len(words), self._salt, self._sum, self._xor)

    def digest(self) -> tuple[int, int]:
        """Return what the passes came to: sum, exclusive or."""
        return int(self.backend.fetch(self._sum)[0]), int(self.backend.fetch(self._xor)[0])

    def strays(self, *, turned: bool = False) -> int:
        """Return how many of some elements are further from NumPy's float64 than rounding explains."""
        fetch = self.backend.fetch
        shape, one, other = self._sides(turned=turned)
        rows = [(number * shape.rows) // PLACES for number in range(PLACES)]
        cols = [(number * shape.cols) // PLACES for number in range(PLACES)]
        left = self._lines(one, rows)
        right = self._lines(other, cols)
        room = (np.abs(left) @ np.abs(right).T) * ROUNDING
        found = np.stack(
            [fetch(self.out[row * shape.cols : (row + 1) * shape.cols])[cols] for row in rows]
        )
        # Not "further than": what is no number is a stray.
        return int(np.count_nonzero(~(np.abs(found - left @ right.T) <= room)))

    def _lines(self, array: Any, lines: list[int]) -> Any:
        inner, fetch = self.shape.inner, self.backend.fetch
        patterns = np.stack([fetch(array[line * inner : (line + 1) * inner]) for line in lines])
        return operands.decoded(self.kind.name, patterns).astype(np.float64)
