"""The exact product's kernels: operands, verification in one pass, and what a row should be."""

from typing import Any

import numpy as np

from gpuprobe import digest as digests
from gpuprobe import operands
from gpuprobe.operands import mix32
from gpuprobe.reference.log import note

KINDS = ("bf16", "fp16", "tf32", "int8", "fp64")
"""By the number that stands for them in ``gemm.cu``."""

LINES_AT_ONCE = 256


def gemm_fill(
    _: Any,
    out: Any,
    kind: int,
    lines: int,
    inner: int,
    amax: int,
    span: int,
    salt: int,
    scale_salt: int,
) -> None:
    """Write an operand."""
    flat = out.reshape(lines, inner)
    for first in range(0, lines, LINES_AT_ONCE):
        at = np.arange(first, min(first + LINES_AT_ONCE, lines))
        flat[at] = _operand(kind, at, inner, amax, span, salt, scale_salt)


def gemm_compare(
    _: Any,
    found: Any,
    kind: int,
    lines: int,
    inner: int,
    amax: int,
    span: int,
    salt: int,
    scale_salt: int,
    tag: int,
    log: Any,
) -> None:
    """Compare an operand with what it should be."""
    right = _operand(kind, np.arange(lines), inner, amax, span, salt, scale_salt).reshape(-1)
    found = found.reshape(-1)
    wrong = np.flatnonzero(right != found)
    one, other = (words[wrong].astype(np.uint64) for words in (right, found))
    # Of a word of 64 bits the half that differs is told, the lower one where both do.
    half = np.where((one ^ other) & np.uint64(0xFFFFFFFF), 0, 32).astype(np.uint64)
    one, other = (words >> half & np.uint64(0xFFFFFFFF) for words in (one, other))
    note(log, wrong.astype(np.uint64), one, other, tag)


def gemm_fill_noise(_: Any, out: Any, kind: int, lines: int, inner: int, salt: int) -> None:
    """Write an operand of nearly normal numbers."""
    a = mix32(np.arange(lines * inner, dtype=np.uint32) ^ np.uint32(salt))
    b = mix32(a ^ digests.STIR)
    low = np.uint32(0xFFFF)
    total = (a & low) + (a >> np.uint32(16)) + (b & low) + (b >> np.uint32(16))
    numbers = ((total.astype(np.int32) - 131070).astype(np.float32) * np.float32(2.0**-15)).view(
        np.uint32
    )
    if KINDS[kind] == "bf16":
        rounded = numbers + np.uint32(0x7FFF) + (numbers >> np.uint32(16) & np.uint32(1))
        numbers = (rounded >> np.uint32(16)).astype(np.uint16)
    out.reshape(-1)[:] = numbers.view(out.dtype)


def gemm_weigh(
    _: Any, weighed: Any, weights: Any, lines: int, inner: int, amax: int, salt: int, _parts: int
) -> None:
    """Add to ``weighed`` the sum of each column of the operand, weighted by line."""
    for first in range(0, lines, LINES_AT_ONCE):
        at = np.arange(first, min(first + LINES_AT_ONCE, lines))
        values = operands.integers(salt, at, inner, amax).astype(np.int64)
        weighed += (weights[at].astype(np.int64) @ values).view(np.uint64)


def gemm_expect(
    _: Any, expected: Any, weighed: Any, lines: int, inner: int, amax: int, salt: int, _parts: int
) -> None:
    """Add to ``expected`` each line's sum of elements times ``weighed``."""
    for first in range(0, lines, LINES_AT_ONCE):
        at = np.arange(first, min(first + LINES_AT_ONCE, lines))
        values = operands.integers(salt, at, inner, amax).astype(np.int64)
        expected[at] += (values @ weighed.view(np.int64)).view(np.uint64)


def gemm_true_rows(
    _: Any,
    true_rows: Any,
    rows: Any,
    count: int,
    cols: int,
    inner: int,
    amax: int,
    salt_a: int,
    salt_b: int,
) -> None:
    """Write the integers of some rows of the product."""
    left = operands.integers(salt_a, rows[:count], inner, amax).astype(np.float64)
    right = operands.integers(salt_b, np.arange(cols), inner, amax).astype(np.float64)
    # Below 2^53 each partial sum: exact, and many times faster than a product of integers.
    true_rows.reshape(count, cols)[:] = (left @ right.T).astype(np.int64)


def gemm_verify_f32(_: Any, c: Any, *rest: Any) -> None:
    """Verify a product of float32."""
    _verify(c, np.uint32, np.float32, *rest)


def gemm_verify_i32(_: Any, c: Any, *rest: Any) -> None:
    """Verify a product of int32."""
    _verify(c, np.uint32, None, *rest)


def gemm_verify_f64(_: Any, c: Any, *rest: Any) -> None:
    """Verify a product of float64."""
    _verify(c, np.uint64, np.float64, *rest)


def gemm_digest(_: Any, words: Any, count: int, salt: int, digest: Any, digest_xor: Any) -> None:
    """Add the words' digest."""
    words = words.reshape(-1).view(np.uint32)[:count]
    share, mixed = digests.of_words(words, salt)
    digest[:1] += np.uint64(share)
    digest_xor[:1] ^= np.uint32(mixed)


def _operand(
    kind: int, lines: Any, inner: int, amax: int, span: int, salt: int, scale_salt: int
) -> Any:
    values = operands.integers(salt, lines, inner, amax)
    return operands.encoded(KINDS[kind], values, operands.scales(scale_salt, lines, span))


def _verify(
    c: Any,
    word: Any,
    number: Any,
    rows: int,
    cols: int,
    span: int,
    scale_salt: int,
    unscale: Any,
    weights: Any,
    keys: Any,
    salt: int,
    stripe: int,
    sums: Any,
    odd: Any,
    digest: Any,
    digest_xor: Any,
) -> None:
    patterns = c.reshape(rows, cols).view(word)
    for first in range(0, rows, stripe):
        at = np.arange(first, min(first + stripe, rows))
        here = patterns[first : first + stripe]
        if number is None:
            values, strays = here.view(np.int32).astype(np.int64).view(np.uint64), np.zeros_like(here)
        else:
            exponents = operands.scales(scale_salt, at, span)[:, None]
            with np.errstate(invalid="ignore", over="ignore"):  # what is wrong may be anything
                values, strays = _read(here.view(number) * unscale[:cols], exponents)
        odd[at] |= np.bitwise_or.reduce(strays, axis=1).astype(np.uint32)
        # By sums of products: ``@`` on integers would copy.
        sums[at] += np.einsum("ij,j->i", values, weights[:cols].astype(np.uint64))
        share, mixed = digests.of_rows(here, keys[:cols], digests.row_keys(salt, at.astype(np.uint32)))
        digest[first // stripe : first // stripe + 1] += np.uint64(share)
        digest_xor[first // stripe] ^= np.uint32(mixed)


def _read(numbers: Any, exponents: Any) -> tuple[Any, Any]:
    """Return what is weighed of ``numbers``, and bits where one is no integer times 2^``exponents``.

    A fraction is none, nor is minus zero; a NaN is weighed as what no integer is.
    """
    single = numbers.dtype == np.float32
    half: Any = np.float32(12582912.0) if single else 6755399441055744.0
    pattern: Any = np.uint32 if single else np.uint64
    rounding = np.ldexp(half, exponents)
    up = numbers + rounding
    strays = (up - rounding).view(pattern) ^ numbers.view(pattern)
    if not single:
        strays = (strays >> np.uint64(32)) | (strays & np.uint64(0xFFFFFFFF))
    return up.view(pattern).astype(np.uint64), strays
