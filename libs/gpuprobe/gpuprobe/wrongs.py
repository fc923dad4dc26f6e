"""The log into which kernels write what they found wrong; as ``common.h`` lays it out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe.backend import Backend

LOG_MAX = 256
LOG_HEAD = 4
LOG_WIDE = 3
LOG_EACH = 4
NOWHERE = 2**64 - 1


@dataclass(frozen=True, order=True)
class Wrong:
    """One wrong word: where it is, what it should hold and holds, and who saw it when (``tag``)."""

    where: int
    expected: int
    found: int
    tag: int
    sm: int

    @property
    def mask(self) -> int:
        """The bits that differ."""
        return self.expected ^ self.found


@dataclass(frozen=True)
class Wrongs:
    """All that was found: how many, the lowest place, the bits that differ anywhere, and examples."""

    count: int
    first: int
    bits: int
    examples: tuple[Wrong, ...]


class Log:
    """A log on a device."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.array: Any = backend.put(clean())

    def read(self) -> Wrongs:
        """Return what was found since the start; waits for what is still computed."""
        return wrongs(self._backend.fetch(self.array))


def clean() -> Any:
    """Return a log without an entry: uint64[head and entries]."""
    log = np.zeros(LOG_HEAD + LOG_MAX * LOG_WIDE, np.uint64)
    log[1] = NOWHERE
    return log


def wrongs(log: Any) -> Wrongs:
    """Return what a log says, its examples in order of place."""
    logged = min(int(log[3]), LOG_MAX)
    entries = log[LOG_HEAD : LOG_HEAD + logged * LOG_WIDE].reshape(logged, LOG_WIDE)
    examples = sorted(
        Wrong(
            int(where), int(pair) >> 32, int(pair) & 0xFFFFFFFF, int(who) >> 32, int(who) & 0xFFFFFFFF
        )
        for where, pair, who in entries
    )
    return Wrongs(int(log[0]), int(log[1]), int(log[2]), tuple(examples))


def set_bits(mask: int) -> list[int]:
    """Return the numbers of the bits that are set, from the lowest."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
