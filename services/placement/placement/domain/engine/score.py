"""How good a node is for a member: what its idle GPUs are still worth afterwards, and how full it is.

score = Δ - BEST_FIT: Δ = F(before) - F(after) is how much fragmentation the placement takes away
(``mix``); BEST_FIT grows with what stays free on the node, so that of nodes equally good the fuller
is taken, whatever the nodes are called. Equal scores go to the first row.
"""

from typing import NamedTuple

import numpy as np

from placement.domain.engine.mix import CARDS_MAX, ONE, Mix
from placement.domain.engine.site import Ints, Site
from placement.domain.engine.size import MILLI_PER_GPU, Size

NONE = -(1 << 62)
"""The score of a node that does not do."""
LEFT_GPU = 15 * ONE // 1_000
"""What one milli of GPU that stays free costs: a whole GPU as much as 15 milli of fragments."""
LEFT_CPU = 15 * ONE // 16_000
"""And one milli of a CPU: 16 CPUs as much as a GPU."""


_EARLIER = np.tril(np.ones((CARDS_MAX, CARDS_MAX), bool), -1)


class Scored(NamedTuple):
    """Of each row: its score, the Δ in it, the card that a share of one should take, the watts it adds."""

    score: Ints
    gain: Ints
    card: Ints
    watts: Ints


def score(site: Site, mix: Mix, size: Size, rows: Ints) -> Scored:
    """Return how good each of ``rows`` is for one member; each must fit (``fit``)."""
    free, cpu, model = site.free[rows], site.cpu[rows], site.model[rows]
    after = cpu - size.cpu_milli
    if size.gpu_milli:
        worth, card = _shared(mix, size.gpu_milli, free, (after, cpu), model)
        woken = (free[np.arange(len(rows)), card] == MILLI_PER_GPU).astype(np.int64)
    else:
        left = free
        if size.gpus:
            whole = free >= MILLI_PER_GPU
            left = np.where(whole & (whole.cumsum(1) <= size.gpus), 0, free)
        both = mix.useful(
            np.concatenate((left, free)), np.concatenate((after, cpu)), np.concatenate((model, model))
        )
        worth = both[: len(rows)] - both[len(rows) :]
        card = np.zeros(len(rows), np.int64)
        woken = np.full(len(rows), size.gpus)
    gain = worth + size.milli * ONE
    stays = (free.sum(1) - size.milli) * LEFT_GPU + after * LEFT_CPU
    return Scored(gain - stays, gain, card, woken * site.gpu_w[rows])


def _shared(mix: Mix, milli: int, free: Ints, cpu: tuple[Ints, Ints], model: Ints) -> tuple[Ints, Ints]:
    """Return what the best card makes of each node, and which it is: of equals the fullest, the first."""
    can = free >= milli
    # Of cards with as much left, one will do.
    width = free.shape[1]
    can &= ~((free[:, :, None] == free[:, None, :]) & _EARLIER[:width, :width]).any(2)
    row, card = np.nonzero(can)
    left = free[row]
    left[np.arange(len(row)), card] -= milli
    after, before = cpu
    both = mix.useful(
        np.concatenate((left, free)),
        np.concatenate((after[row], before)),
        np.concatenate((model[row], model)),
    )
    worth = np.full(free.shape, NONE, np.int64)
    worth[row, card] = both[: len(row)]
    best = worth.max(1)
    chosen = np.where(worth == best[:, None], free, MILLI_PER_GPU + 1).argmin(1)
    return best - both[len(row) :], chosen
