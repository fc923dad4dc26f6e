"""The moves of ``stream.cu``."""

from typing import Any

import numpy as np

from gpuprobe.reference.grid import Grid


def copy_words(_: Grid, to: Any, source: Any, count: int) -> None:
    """Copy ``count`` vectors."""
    to[: count * 4] = source[: count * 4]


def read_words(_: Grid, source: Any, count: int, digest: Any) -> None:
    """Add the exclusive or of ``count`` vectors to the digest."""
    digest[0] ^= np.bitwise_xor.reduce(source[: count * 4])


def write_words(_: Grid, to: Any, count: int, value: int) -> None:
    """Write one value into ``count`` vectors."""
    to[: count * 4] = np.uint32(value)
