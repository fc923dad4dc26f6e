"""The digest of a product, in NumPy: each element's share depends on its place; the order does not count.

A share is a bijection of the element's pattern, so that one wrong element always changes the sum.
"""

from typing import Any

import numpy as np

KEY = np.uint32(0x9E3779B9)
STIR = np.uint32(0x85EBCA6B)
STIR64 = np.uint64(0xD6E8FEB86659FD93)


def keys(salt: int, first: int, count: int) -> Any:
    """Return what salts the elements from place ``first`` on: uint32[count]."""
    return np.arange(first, first + count, dtype=np.uint32) * KEY + np.uint32(salt)


def shares(words: Any, by: Any) -> tuple[Any, Any]:
    """Return each word's share of the sum (uint64) and of the exclusive or (uint32)."""
    if words.dtype == np.uint64:
        wide = by.astype(np.uint64)
        x = (words ^ (wide << np.uint64(32) | wide)) * STIR64
        x ^= x >> np.uint64(32)
        return x * STIR64, x.astype(np.uint32)
    x = (words ^ by) * STIR
    x ^= x >> np.uint32(15)
    return x.astype(np.uint64) * (by | np.uint32(1)), x


def total(words: Any, first: int, salt: int) -> tuple[int, int]:
    """Return the digest of ``words`` (uint32 or uint64) from place ``first`` on: sum, exclusive or."""
    flat = words.reshape(-1)
    share, mixed = shares(flat, keys(salt, first, len(flat)))
    return int(share.sum(dtype=np.uint64)), int(np.bitwise_xor.reduce(mixed))
