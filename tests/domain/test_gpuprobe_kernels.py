"""The source of the product's and the sweep's kernels does on every device what its references do."""

from typing import Any

import numpy as np
import pytest
from gpuprobe import chains, digest, operands
from gpuprobe.backend import Backend
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.operands import RANGES
from gpuprobe.product import KINDS, Kind
from gpuprobe.sweep_check import ANY_BLOCK, NO_SLOT

from tests.domain.probing import BACKENDS, opened

ROWS, INNER, COLS, STRIPE = 64, 24, 160, 32
SALTS = operands.salts(77)
LOG_WORDS = 4 + 256 * 3


@pytest.fixture(params=[name for name in BACKENDS if name != "numpy"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return opened(request.param)


def both(backend: Backend, kernel: str, *arguments: Any, **shape: Any) -> list[Any]:
    """Return the arrays after the kernel; fails where its reference leaves others."""
    results = []
    for device in (backend, NumpyBackend()):
        with device.here():
            passed = [device.put(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments]
            device.launch(kernel, *passed, **shape)
            results.append(
                [
                    device.fetch(p)
                    for p, a in zip(passed, arguments, strict=True)
                    if isinstance(a, np.ndarray)
                ]
            )
    for ours, references in zip(*results, strict=True):
        assert np.array_equal(ours.view(np.uint8), references.view(np.uint8)), kernel
    return results[0]


def log() -> Any:
    words = np.zeros(LOG_WORDS, np.uint64)
    words[1] = 2**64 - 1
    return words


def operand(backend: Backend, kind: Kind, lines: int, salt: int, scale_salt: int) -> Any:
    size = RANGES[kind.family]
    out = np.zeros(lines * INNER, kind.operand)
    made_of = (kind.code, lines, INNER, size.magnitude, size.span, salt, scale_salt)
    return both(backend, "gemm_fill", out, *made_of)[0]


@pytest.mark.parametrize("name", KINDS)
def test_operands_are_written_and_compared_alike(backend: Backend, name: str) -> None:
    kind = KINDS[name]
    size = RANGES[kind.family]
    out = operand(backend, kind, ROWS, SALTS.left, SALTS.left_scale)
    made_of = (kind.code, ROWS, INNER, size.magnitude, size.span, SALTS.left, SALTS.left_scale, 1)
    assert both(backend, "gemm_compare", out, *made_of, log())[1][0] == 0
    out[17] ^= kind.operand(2)
    said = both(backend, "gemm_compare", out, *made_of, log())[1]
    assert said[:4].tolist() == [1, 17, 2, 1]


@pytest.mark.parametrize("name", ["bf16", "tf32"])
def test_noise_is_written_alike_and_lies_around_zero(backend: Backend, name: str) -> None:
    kind = KINDS[name]
    out = both(backend, "gemm_fill_noise", np.zeros(64 * INNER, kind.operand), kind.code, 64, INNER, 9)[
        0
    ]
    numbers = operands.decoded(name, out)
    assert abs(float(numbers.mean())) < 0.1
    assert 1.0 < float(numbers.std()) < 1.3


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [{}, {"blocks": 3, "threads": 64}, {"blocks": 1, "threads": 32}])
def test_a_product_is_verified_alike_whatever_the_launch(
    backend: Backend, name: str, shape: dict[str, int]
) -> None:
    kind = KINDS[name]
    size = RANGES[kind.family]
    left = operand(backend, kind, ROWS, SALTS.left, SALTS.left_scale)
    right = operand(backend, kind, COLS, SALTS.right, SALTS.right_scale)
    whole = operands.decoded(name, left).reshape(ROWS, INNER) @ (
        operands.decoded(name, right).reshape(COLS, INNER).T
    )
    product = np.ascontiguousarray(whole.astype(kind.result)).reshape(-1)
    across = operands.scales(SALTS.right_scale, np.arange(COLS, dtype=np.uint32), size.span)
    weights = operands.weights(SALTS.weights, COLS)
    arguments = (
        *(ROWS, COLS, size.span, SALTS.left_scale, np.ldexp(kind.unscale(1), -across), weights),
        digest.column_keys(SALTS.digest, COLS),
        *(SALTS.digest, STRIPE, np.zeros(ROWS, np.uint64), np.zeros(ROWS, np.uint32)),
        *(np.zeros(ROWS // STRIPE, np.uint64), np.zeros(ROWS // STRIPE, np.uint32)),
    )
    *_, sums, odd, shares, _ = both(backend, kind.verify, product, *arguments, **shape)
    weighed = both(
        *(backend, "gemm_weigh", np.zeros(INNER, np.uint64), weights),
        *(COLS, INNER, size.magnitude, SALTS.right, 8),
    )[0]
    expected = both(
        *(backend, "gemm_expect", np.zeros(ROWS, np.uint64), weighed),
        *(ROWS, INNER, size.magnitude, SALTS.left, 8),
    )[0]
    down = operands.scales(SALTS.left_scale, np.arange(ROWS), size.span)
    offsets = kind.offsets(down) * weights.sum(keepdims=True, dtype=np.uint64)
    assert np.array_equal(sums, expected + offsets)
    assert not odd.any()
    assert shares.all()


def test_the_rows_that_a_product_should_have_are_summed_alike(backend: Backend) -> None:
    rows = np.array([3, 40], np.uint32)
    salts = (SALTS.left, SALTS.right)
    arguments = (rows, 2, COLS, INNER, 45, *salts)
    true = both(backend, "gemm_true_rows", np.zeros(2 * COLS, np.int64), *arguments)[0]
    left = operands.integers(SALTS.left, rows, INNER, 45).astype(np.int64)
    right = operands.integers(SALTS.right, np.arange(COLS, dtype=np.uint32), INNER, 45).astype(np.int64)
    assert np.array_equal(true.reshape(2, COLS), left @ right.T)


def test_words_have_one_digest_whatever_the_launch(backend: Backend) -> None:
    words = np.random.default_rng(4).integers(0, 2**32, 1_000, dtype=np.uint32)
    empty = (np.zeros(1, np.uint64), np.zeros(1, np.uint32))
    for shape in ({}, {"blocks": 2, "threads": 96}):
        both(backend, "gemm_digest", words, 1_000, 5, *empty, **shape)


@pytest.mark.parametrize(
    "fault", [(0, NO_SLOT, 0, 0, ANY_BLOCK), (2, 5, 0x10, 0x81, ANY_BLOCK), (3, 6, 0xFFFF0000, 1, 1)]
)
def test_the_sweep_computes_on_the_host_what_numpy_does(fault: tuple[int, ...]) -> None:
    table = chains.results(9, 16).reshape(-1)
    slots, units = 16, len(chains.UNITS)
    arrays = (
        *(table, np.zeros(slots * units, np.uint64), np.zeros(slots, np.uint32)),
        np.zeros(slots * units * 3, np.uint32),
    )
    shape = {"blocks": 4, "threads": 256}
    _, found, threads, wrong = both(opened("host"), "sm_sweep", 9, 16, slots, *arrays, *fault, **shape)
    assert threads.tolist() == [64] * slots
    assert bool(wrong.any()) == (fault[1] != NO_SLOT)
    assert len(np.unique(found)) == units + (fault[1] != NO_SLOT)
