"""The digests of a product, in NumPy: the order of its elements does not count, their places do.

One wrong element of 32 bits always changes a digest; one of 64, or several, cancel with a chance of about
2^-31, whatever the sums of the rows say. A digest of rows multiplies each pattern by its column's key (each
half of one of 64 bits by one of its own) and each row's sum by the row's, modulo 2^64; the keys are drawn
from a salt, a row's are odd, and no half's product is cut off. One of words, for what is compared with itself, adds up a bijection of each that depends on its place.
"""

from typing import Any

import numpy as np

from gpuprobe import operands
from gpuprobe.operands import mix32

KEY = np.uint32(0x9E3779B9)
STIR = np.uint32(0x85EBCA6B)
KEY_HIGH = np.uint32(0x2545F490)
"""What a column's key differs by for the high half of a pattern of 64 bits."""

LOW = np.uint64(0xFFFFFFFF)


def column_keys(salt: int, cols: int) -> Any:
    """Return what the patterns of each column are multiplied by: uint32[cols], odd."""
    return operands.weights(salt, cols)


def row_keys(salt: int, rows: Any) -> Any:
    """Return what the sum of each row (uint32[n]) is multiplied by: uint64[n], odd."""
    high, low = mix32(rows ^ np.uint32(salt)), mix32(rows + np.uint32(salt))
    return high.astype(np.uint64) << np.uint64(32) | low | np.uint64(1)


def of_rows(patterns: Any, column_keys: Any, row_keys: Any) -> tuple[int, int]:
    """Return the digest of rows (uint32 or uint64[row, col]): sum, exclusive or."""
    low, high = patterns.astype(np.uint64) & LOW, patterns.astype(np.uint64) >> np.uint64(32)
    # By sums of products: ``@`` on integers would copy.
    sums = np.einsum("ij,j->i", low, column_keys.astype(np.uint64))
    if patterns.dtype == np.uint64:
        sums += np.einsum("ij,j->i", high, (column_keys ^ KEY_HIGH).astype(np.uint64))
    mixed = int(np.bitwise_xor.reduce(low ^ high, axis=None))
    return int((sums * row_keys).sum(dtype=np.uint64)), mixed


def of_words(words: Any, salt: int) -> tuple[int, int]:
    """Return the digest of ``words`` (uint32[n]): sum, exclusive or."""
    key = np.arange(len(words), dtype=np.uint32) * KEY + np.uint32(salt)
    x = (words ^ key) * STIR
    x ^= x >> np.uint32(15)
    shares = x.astype(np.uint64) * (key | np.uint32(1))
    return int(shares.sum(dtype=np.uint64)), int(np.bitwise_xor.reduce(x))
