"""C = A·Bᵀ on whichever device: cuBLAS on a GPU, NumPy on the host."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gpuprobe import operands
from gpuprobe.backend import Backend
from gpuprobe.operands import Family

# CUDA's own numbers: CuPy does not know all of them.
_R_32F, _R_64F, _R_16F, _R_8I, _R_32I, _R_16BF = 0, 1, 2, 3, 10, 14
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_32I, _COMPUTE_TF32 = 68, 70, 72, 77
_AS_IT_LIES, _TURNED = 0, 1
_DEFAULT_ALGORITHM = -1


@dataclass(frozen=True)
class Kind:
    """A kind of number that a device multiplies, and what its operands and products are made of.

    ``operand``, ``result`` and ``unscale`` are NumPy's types; ``operand`` is that of the pattern.
    """

    name: str
    code: int
    family: Family
    operand: Any
    result: Any
    unscale: Any
    verify: str
    offset: int
    """What verifying weighs more than the integer of an element of a row without a power of two."""
    types: tuple[int, int, int]
    """For cuBLAS: operands, product, arithmetic."""

    def offsets(self, exponents: Any) -> Any:
        """Return what verifying weighs more than an element's integer, by its row's exponent: uint64[row].

        A row is read by adding 1.5 times the power of two that makes an integer the low bits of the
        sum, and the sum's pattern is weighed: this is what is in the pattern beside the integer.
        """
        if self.offset == 0:
            return np.zeros(len(exponents), np.uint64)
        bits = np.finfo(self.result).nmant
        return (exponents.astype(np.int64) * (1 << bits) + self.offset).astype(np.uint64)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            *("bf16", 0, "float", np.uint16, np.float32, np.float32, "gemm_verify_f32", 0x4B400000),
            types=(_R_16BF, _R_32F, _COMPUTE_32F),
        ),
        Kind(
            *("fp16", 1, "float", np.uint16, np.float32, np.float32, "gemm_verify_f32", 0x4B400000),
            types=(_R_16F, _R_32F, _COMPUTE_32F),
        ),
        Kind(
            *("tf32", 2, "float", np.uint32, np.float32, np.float32, "gemm_verify_f32", 0x4B400000),
            types=(_R_32F, _R_32F, _COMPUTE_TF32),
        ),
        Kind(
            *("int8", 3, "int8", np.uint8, np.int32, np.float32, "gemm_verify_i32", 0),
            types=(_R_8I, _R_32I, _COMPUTE_32I),
        ),
        Kind(
            *("fp64", 4, "fp64", np.uint64, np.float64, np.float64, "gemm_verify_f64", 0x4338 << 48),
            types=(_R_64F, _R_64F, _COMPUTE_64F),
        ),
    )
}


SPOILT = 0xFFFFFFFF
"""What a spoilt product is full of: no number where numbers are, and -1 where integers are."""


class Shaped(Protocol):
    """Rows and columns of a product, and how many terms each of its elements sums."""

    @property
    def rows(self) -> int:
        """Lines of A."""

    @property
    def inner(self) -> int:
        """Elements of each line."""

    @property
    def cols(self) -> int:
        """Lines of B."""


def bytes_needed(kind: Kind, shape: Shaped) -> tuple[int, int]:
    """Return how much memory both operands take, and one product."""
    operand, result = np.dtype(kind.operand).itemsize, np.dtype(kind.result).itemsize
    return (shape.rows + shape.cols) * shape.inner * operand, shape.rows * shape.cols * result


def multiply(backend: Backend, kind: Kind, shape: Shaped, *, left: Any, right: Any, out: Any) -> None:
    """Begin ``out[row, col]`` = sum over k of ``left[row, k] * right[col, k]``."""
    if backend.name == "cupy":
        _by_cublas(backend, kind, shape, left=left, right=right, out=out)
    else:
        a = operands.decoded(kind.name, left).reshape(shape.rows, shape.inner)
        b = operands.decoded(kind.name, right).reshape(shape.cols, shape.inner)
        with np.errstate(all="ignore"):  # an operand that was corrupted may be anything
            out.reshape(shape.rows, shape.cols)[:] = a @ b.T


def spoil(backend: Backend, out: Any) -> None:
    """Begin to overwrite a product: what the next one leaves out is wrong then, not what was right before."""
    words = out.view(np.uint32)
    backend.launch("write_words", words, len(words) // 4, SPOILT)


def _by_cublas(backend: Backend, kind: Kind, shape: Shaped, *, left: Any, right: Any, out: Any) -> None:
    from cupy_backends.cuda.libs import cublas  # noqa: PLC0415 - only where there is a GPU

    operand, result, arithmetic = kind.types
    scalar = {_COMPUTE_32I: np.int32, _COMPUTE_64F: np.float64}.get(arithmetic, np.float32)
    one, zero = np.ones(1, scalar), np.zeros(1, scalar)
    # cuBLAS counts by columns: its (cols by rows) lies in memory as our (rows by cols).
    cublas.gemmEx(
        backend.arrays.cuda.get_cublas_handle(),
        *(_TURNED, _AS_IT_LIES, shape.cols, shape.rows, shape.inner),
        one.ctypes.data,
        *(right.data.ptr, operand, shape.inner),
        *(left.data.ptr, operand, shape.inner),
        zero.ctypes.data,
        *(out.data.ptr, result, shape.cols),
        arithmetic,
        _DEFAULT_ALGORITHM,
    )
