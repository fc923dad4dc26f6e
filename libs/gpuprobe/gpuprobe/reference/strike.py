"""What the faults of ``strike.cu`` do to memory."""

from typing import Any

import numpy as np

from gpuprobe.reference.grid import Grid


def strike_flip(_: Grid, words: Any, first: int, stride: int, count: int, mask: int) -> None:
    """Flip ``mask`` in ``count`` words from ``first`` on, ``stride`` apart."""
    words[_places(first, stride, count)] ^= np.uint32(mask)


def strike_stick(
    _: Grid, words: Any, first: int, stride: int, count: int, mask: int, level: int
) -> None:
    """Hold the bits of ``mask`` at those of ``level``."""
    at = _places(first, stride, count)
    words[at] = (words[at] & np.uint32(~mask & 0xFFFFFFFF)) | np.uint32(level & mask)


def strike_alias(_: Grid, words: Any, count: int, bit: int) -> None:
    """Let each address with ``bit`` set fall upon the one without it."""
    index = np.arange(count)
    high = index[(index & bit) != 0]
    words[high & ~bit] = words[high]


def _places(first: int, stride: int, count: int) -> slice:
    return slice(first, first + (count - 1) * stride + 1, stride)
