"""How good a node is for a member: what its idle GPUs are still worth afterwards, and how full it is.

score = Δ - BEST_FIT: Δ = F(before) - F(after) is how much fragmentation the placement takes away
(``mix``); BEST_FIT grows with what stays free on the node, so that of nodes equally good the fuller
is taken, whatever the nodes are called. Equal scores go to the first row. For a MIG instance Δ counts on GPUs in MIG
mode what their free slices are still worth (``mig``).
"""

from typing import NamedTuple

import numpy as np

from placement.domain.engine.mig import UNFIT, table
from placement.domain.engine.mix import CARDS_MAX, ONE, Mix
from placement.domain.engine.site import Ints, Site
from placement.domain.engine.size import MILLI_PER_GPU, Size
from placement.domain.engine.slices import best, idle_milli, needs_waking

NONE = -(1 << 62)
"""The score of a node that does not do."""
LEFT_GPU = 3 * ONE // 2_000
"""What one milli of GPU that stays free costs: a whole GPU as much as 1.5 milli of fragments."""
LEFT_CPU = 5 * ONE // 16_000
"""And one milli of a CPU: 16 CPUs as much as 5 milli. Of 22 pairs tried on five lists of openb these
leave the fewest GPUs idle; half or twice as much costs 0.1 to 0.3 points.
"""

_EARLIER = np.tril(np.ones((CARDS_MAX, CARDS_MAX), bool), -1)


class Scored(NamedTuple):
    """Of each row: its score, the Δ in it, the card that a share or an instance of one should take, the watts it adds.

    ``awake`` is the same for a share, or an instance, that may take only a card that somebody has a share of, and so adds
    no watts; its score is ``NONE`` where there is none that fits.
    """

    score: Ints
    gain: Ints
    card: Ints
    watts: Ints
    awake: "Scored | None" = None


def score(site: Site, mix: Mix, size: Size, rows: Ints) -> Scored:
    """Return how good each of ``rows`` is for one member; each must fit (``fit``)."""
    free, cpu, model = site.free.take(rows, 0), site.cpu[rows], site.model.take(rows)
    after = cpu - size.cpu_milli
    stays = (site.idle.take(rows) - size.milli) * LEFT_GPU + after * LEFT_CPU
    gpu_w = site.gpu_w.take(rows)
    if size.mig:
        return _instance(site, size, rows, after)
    if size.gpu_milli:
        before, each = _shared(mix, size.gpu_milli, free, (after, cpu), model)
        idle = free == MILLI_PER_GPU
        worth, card = _best(each, free)
        gain = worth - before + size.milli * ONE
        watts = np.where(idle[np.arange(len(rows)), card], gpu_w, 0)
        worth, awake = _best(np.where(idle, NONE, each), free)
        there = worth > NONE
        gain_awake = np.where(there, worth - before + size.milli * ONE, 0)
        score_awake = np.where(there, gain_awake - stays, NONE)
        other = Scored(score_awake, gain_awake, awake, np.zeros_like(watts))
        return Scored(gain - stays, gain, card, watts, other)
    left = free
    if size.gpus:
        whole = free >= MILLI_PER_GPU
        left = np.where(whole & (whole.cumsum(1) <= size.gpus), 0, free)
    both = mix.useful(
        np.concatenate((left, free)), np.concatenate((after, cpu)), np.concatenate((model, model))
    )
    gain = both[: len(rows)] - both[len(rows) :] + size.milli * ONE
    return Scored(gain - stays, gain, np.zeros(len(rows), np.int64), size.gpus * gpu_w)


def needed_w(site: Site, size: Size, rows: Ints) -> Ints:
    """Return the fewest watts that one member adds to each of ``rows``, whether it fits there or not.

    A share adds none where a card that somebody has a share of already has room for it.
    """
    gpu_w = site.gpu_w.take(rows)
    if size.mig:
        return np.where(needs_waking(site, size.mig, rows), gpu_w, 0)
    if not size.gpu_milli:
        return size.gpus * gpu_w
    free = site.free.take(rows, 0)
    awake = ((free >= size.gpu_milli) & (free < MILLI_PER_GPU)).any(1)
    return np.where(awake, 0, gpu_w)


def _instance(site: Site, size: Size, rows: Ints, cpu_after: Ints) -> Scored:
    """Return how good each of ``rows`` is for one MIG instance."""
    milli = table(size.mig).milli[site.geometry.take(rows)]
    stays = (site.idle.take(rows) + idle_milli(site, rows) - milli) * LEFT_GPU + cpu_after * LEFT_CPU
    usual, awake = best(site, size.mig, rows), best(site, size.mig, rows, awake=True)
    watts = np.where(usual.wakes, site.gpu_w.take(rows), 0)
    there = awake.gain > UNFIT
    gain = np.where(there, awake.gain, 0)
    score_awake = np.where(there, gain - stays, NONE)
    other = Scored(score_awake, gain, awake.card, np.zeros_like(watts))
    return Scored(usual.gain - stays, usual.gain, usual.card, watts, other)


def _shared(mix: Mix, milli: int, free: Ints, cpu: tuple[Ints, Ints], model: Ints) -> tuple[Ints, Ints]:
    """Return what each node is worth before, and after a share was taken of each of its cards.

    int[row] and int[row, card]: ``NONE`` for a card that does not fit, or has an equal before it.
    """
    can = free >= milli
    # Of cards with as much left, one will do.
    width = free.shape[1]
    can &= ~((free[:, :, None] == free[:, None, :]) & _EARLIER[:width, :width]).any(2)
    row, card = np.nonzero(can)
    left = free.take(row, 0)
    left[np.arange(len(row)), card] -= milli
    after, before = cpu
    both = mix.useful(
        np.concatenate((left, free)),
        np.concatenate((after.take(row), before)),
        np.concatenate((model.take(row), model)),
    )
    worth = np.full(free.shape, NONE, np.int64)
    worth[row, card] = both[: len(row)]
    return both[len(row) :], worth


def _best(worth: Ints, free: Ints) -> tuple[Ints, Ints]:
    """Return what the best card makes of each node, and which it is: of equals the fullest, the first."""
    best = worth.max(1)
    return best, np.where(worth == best[:, None], free, MILLI_PER_GPU + 1).argmin(1)
