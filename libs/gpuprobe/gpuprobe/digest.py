"""The digests of a product, in NumPy: the order of its elements does not count, their places do.

One wrong element always changes a digest. A digest of rows multiplies each pattern by its column's key
and each row's sum by the row's, modulo 2^64; the keys are odd and drawn from a salt, so that several
wrong elements cancel each other with a chance of about 2^-31, whatever the sums of the rows say. One of
words, for what is compared with itself, adds up a bijection of each that depends on its place.
"""

from typing import Any

import numpy as np

from gpuprobe import operands
from gpuprobe.operands import mix32

KEY = np.uint32(0x9E3779B9)
STIR = np.uint32(0x85EBCA6B)


def column_keys(salt: int, cols: int) -> Any:
    """Return what the patterns of each column are multiplied by: uint32[cols], odd."""
    return operands.weights(salt, cols)


def row_keys(salt: int, rows: Any) -> Any:
    """Return what the sum of each row (uint32[n]) is multiplied by: uint64[n], odd."""
    high, low = mix32(rows ^ np.uint32(salt)), mix32(rows + np.uint32(salt))
    return high.astype(np.uint64) << np.uint64(32) | low | np.uint64(1)


def of_rows(patterns: Any, column_keys: Any, row_keys: Any) -> tuple[int, int]:
    """Return the digest of rows (uint32 or uint64[row, col]): sum, exclusive or."""
    # By sums of products: ``@`` on integers would copy.
    sums = np.einsum("ij,j->i", patterns.astype(np.uint64), column_keys.astype(np.uint64))
    mixed = int(np.bitwise_xor.reduce(patterns, axis=None))
    return int((sums * row_keys).sum(dtype=np.uint64)), mixed & 0xFFFFFFFF ^ mixed >> 32


def of_words(words: Any, salt: int) -> tuple[int, int]:
    """Return the digest of ``words`` (uint32[n]): sum, exclusive or."""
    key = np.arange(len(words), dtype=np.uint32) * KEY + np.uint32(salt)
    x = (words ^ key) * STIR
    x ^= x >> np.uint32(15)
    shares = x.astype(np.uint64) * (key | np.uint32(1))
    return int(shares.sum(dtype=np.uint64)), int(np.bitwise_xor.reduce(x))
