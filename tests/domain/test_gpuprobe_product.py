"""The product on a GPU: cuBLAS is asked for exactly what NumPy computes."""

import ctypes
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gpuprobe import operands, product
from gpuprobe.exact import Exact, Shape
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.operands import RANGES
from gpuprobe.product import KINDS

SHAPE = Shape(128, 40, 64)
BITS = {0: np.uint32, 1: np.uint64, 2: np.uint16, 3: np.uint8, 10: np.int32, 14: np.uint16}
NAMES = {(0, 77): "tf32", (1, 70): "fp64", (2, 68): "fp16", (3, 72): "int8", (14, 68): "bf16"}


def matrix(pointer: int, rows: int, cols: int, kind: Any) -> Any:
    """Return the memory at ``pointer`` as cuBLAS sees it: column after column."""
    held = (ctypes.c_char * (rows * cols * np.dtype(kind).itemsize)).from_address(pointer)
    return np.frombuffer(held, kind).reshape(cols, rows).T


def gemm_ex(
    _: int,
    turn_a: int,
    turn_b: int,
    m: int,
    n: int,
    k: int,
    alpha: int,
    a: int,
    a_type: int,
    lda: int,
    b: int,
    b_type: int,
    ldb: int,
    beta: int,
    c: int,
    c_type: int,
    ldc: int,
    compute: int,
    algorithm: int,
) -> None:
    """Do what cuBLAS's documentation says of gemmEx, for whole matrices."""
    assert (turn_a, turn_b, lda, ldb, ldc, algorithm) == (1, 0, k, k, m, -1)
    name = NAMES[a_type, compute]
    assert b_type == a_type
    scalar = {72: np.int32, 70: np.float64}.get(compute, np.float32)
    assert matrix(alpha, 1, 1, scalar)[0, 0] == 1
    assert matrix(beta, 1, 1, scalar)[0, 0] == 0
    left = operands.decoded(name, np.ascontiguousarray(matrix(a, k, m, BITS[a_type]).T)).T
    right = operands.decoded(name, np.ascontiguousarray(matrix(b, k, n, BITS[a_type]).T)).T
    result = {0: np.float32, 1: np.float64, 10: np.int32}[c_type]
    out = (ctypes.c_char * (m * n * np.dtype(result).itemsize)).from_address(c)
    np.frombuffer(out, result).reshape(n, m)[:] = (left.T @ right).T.astype(result)


class Array(np.ndarray):
    """An array that says where it lies, as CuPy's do."""

    @property
    def data(self) -> Any:
        """The pointer's holder."""
        return SimpleNamespace(ptr=self.ctypes.data)


class Gpu(NumpyBackend):
    """A host that is taken for a GPU, as far as products go."""

    name: Any = "cupy"
    arrays = SimpleNamespace(cuda=SimpleNamespace(get_cublas_handle=lambda: 0))

    def empty(self, count: int, dtype: Any) -> Any:
        """Return an array with a pointer."""
        return np.empty(count, dtype).view(Array)


@pytest.fixture
def cublas(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    library = ModuleType("cupy_backends.cuda.libs.cublas")
    library.gemmEx = gemm_ex  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.cublas", library)
    sys.modules["cupy_backends.cuda.libs"].cublas = library  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", KINDS)
def test_cublas_is_asked_for_the_product_that_numpy_makes(cublas: None, name: str) -> None:
    by_cublas = Exact(Gpu(), KINDS[name], SHAPE, seed=5)
    by_numpy = Exact(NumpyBackend(), KINDS[name], SHAPE, seed=5)
    by_cublas.multiply()
    by_numpy.multiply()
    assert np.array_equal(by_cublas.products[0], by_numpy.products[0])
    by_cublas.begin_verifying()
    by_cublas.verify()
    assert by_cublas.looks()[0].rows == ()


@pytest.mark.parametrize("name", KINDS)
def test_an_operand_is_read_back_as_it_was_written(name: str) -> None:
    size = RANGES[KINDS[name].family]
    lines = np.arange(16, dtype=np.uint32)
    values = operands.integers(77, lines, 64, size.magnitude)
    exponents = operands.scales(78, lines, size.span)
    patterns = operands.encoded(name, values, exponents)
    assert patterns.dtype == KINDS[name].operand
    exact = np.ldexp(values.astype(np.float64), exponents[:, None])
    assert np.array_equal(operands.decoded(name, patterns).astype(np.float64), exact)
    assert values.all()
    assert np.abs(values).max() <= size.magnitude


def test_the_numbers_given_to_cublas_are_one_for_each_kind() -> None:
    assert len({kind.types for kind in product.KINDS.values()}) == len(product.KINDS)
