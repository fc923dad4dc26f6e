"""What is likely to be asked for next, and so how much of a node's idle GPUs is of use to somebody.

Fragmentation after Weng et al., "Beware of Fragmentation" (USENIX ATC 2023): for a typical size m, a
node's idle GPU-milli that m cannot use count as fragments: all of them where m does not fit there
(or needs no GPU), else those on cards with less left than m takes of each. Over all sizes, weighted
by how often each is asked for, that is F; ``useful`` is the rest, U = idle - F. Everything is an
integer, so that a score does not depend on how many others it was computed with.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from placement.domain.engine.size import MILLI_PER_GPU, Size

ONE = 1 << 20
"""The weight of all sizes together."""
CARDS_MAX = 16
"""GPUs of one node."""

Ints = npt.NDArray[np.int64]

USUAL = (
    (Size(gpus=1), 8),
    (Size(gpus=8), 4),
    (Size(gpus=4), 2),
    (Size(gpus=2), 1),
    (Size(gpu_milli=500), 1),
    (Size(gpu_milli=250), 1),
)
"""What is expected before anything was asked for."""


class Mix:
    """How often each size is asked for, as a table that answers for any node at once."""

    def __init__(self, sizes: Iterable[tuple[Size, int]], models: Mapping[str, int]) -> None:
        asked = [(size, count) for size, count in sizes if count > 0]
        asked = asked or list(USUAL)
        total = sum(count for _, count in asked)
        eaches = sorted({size.milli_each for size, _ in asked if size.milli})
        cpus = sorted({size.cpu_milli for size, _ in asked})
        self._cpus: Ints = np.array(cpus, dtype=np.int64)
        self._each = len(eaches)
        self._steps = len(cpus) + 1
        # weights[model, how many of the CPU sizes fit, milli of each card, cards that have so much]
        weights = np.zeros((max(1, len(models)), self._steps, self._each, CARDS_MAX + 1), np.int64)
        for size, count in asked:
            if not size.milli:
                continue
            fits = cpus.index(size.cpu_milli) + 1
            share = round(count * ONE / total)
            rows: Sequence[int] | slice = slice(None)
            if size.models:
                rows = [models[name] for name in size.models if name in models]
            weights[rows, fits:, eaches.index(size.milli_each), size.cards :] += share
        self._weights = weights.reshape(-1)
        self._offsets = np.arange(self._each) * (CARDS_MAX + 1)
        left = np.arange(MILLI_PER_GPU + 1)[:, None]
        # What one card adds, by what is left of it: its milli above five bits that count it.
        self._adds = np.where(left >= np.array(eaches, np.int64), (left << 5) | 1, 0).astype(np.int32)

    def useful(self, free: Ints, cpu: Ints, model: Ints) -> Ints:
        """Return U of nodes in such states: milli of idle GPU, times ``ONE``.

        ``free`` int[node, card]: milli left; ``cpu`` int[node]: milli left; ``model`` int[node]: code.
        """
        added = self._adds.take(free, 0).sum(1)
        steps = self._cpus.searchsorted(cpu, side="right")
        steps += model * self._steps
        steps *= self._each * (CARDS_MAX + 1)
        at = added & 31
        at += self._offsets
        at += steps[:, None]
        found: Ints = (self._weights.take(at) * (added >> 5)).sum(1)
        return found


def whole_cards(gpus: int, lost: tuple[int, ...] = ()) -> Ints:
    """Return the milli of each card of a node with nothing on it: int[card], 0 where none is or it is lost."""
    there: Ints = np.where(np.arange(CARDS_MAX) < gpus, MILLI_PER_GPU, 0)
    there[list(lost)] = 0
    return there
