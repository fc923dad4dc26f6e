"""Instances on a site's GPUs in MIG mode: where one fits, which start it takes, whether it wakes its GPU.

What is free of each is a set of memory slices, as bits: ``site.slices`` int[row, card], 0 where a GPU is not in MIG mode.
Arrays of a site without such GPUs have no width, and nothing here costs anything there.
"""

from typing import NamedTuple

import numpy as np

from placement.domain.engine.mig import GEOMETRIES, MASKS, UNFIT, table
from placement.domain.engine.mix import Ints
from placement.domain.engine.site import Bools, Part, Site
from placement.domain.engine.size import MILLI_PER_GPU, Size

BITS = np.array([mask.bit_count() for mask in range(MASKS)], np.int64)
EACH = np.array([MILLI_PER_GPU // one.slices if one.slices else 0 for one in GEOMETRIES], np.int64)
"""Thousandths of a GPU that one of its slices is, by geometry."""


class Best(NamedTuple):
    """Of each row: the GPU that an instance should take, how much fragmentation that takes away, whether it wakes it."""

    card: Ints
    gain: Ints
    wakes: Bools


def fits(site: Site, profile: str, rows: Ints) -> Bools:
    """Return whether an instance fits on each of ``rows``: bool[row]."""
    found: Bools = np.asarray((_of(site, table(profile).fits, rows) > 0).any(-1))
    return found


def seats(site: Site, profile: str, rows: Ints) -> tuple[Ints, Ints]:
    """Return how many instances fit on each of ``rows``, and how many of them on GPUs that are awake."""
    count = _of(site, table(profile).fits, rows)
    asleep = site.slices[rows] == site.mig[rows]
    return count.sum(1), np.where(asleep, 0, count).sum(1)


def best(site: Site, profile: str, rows: Ints, *, awake: bool = False) -> Best:
    """Return where an instance goes on each of ``rows``: of GPUs equally good the fullest, then the first.

    ``awake``: only where somebody has an instance already; the gain is ``UNFIT`` where it fits on none.
    """
    gains = _of(site, table(profile).gain, rows)
    slices = site.slices.take(rows, 0)
    asleep = slices == site.mig.take(rows, 0)
    if awake:
        gains = np.where(asleep, UNFIT, gains)
    gain = gains.max(1)
    card = np.where(gains == gain[:, None], BITS[slices], MASKS).argmin(1)
    return Best(card, gain, asleep[np.arange(len(rows)), card])


def needs_waking(site: Site, profile: str, rows: Ints) -> Bools:
    """Return whether an instance fits on no GPU of each of ``rows`` that is awake: bool[row]."""
    found: Bools = seats(site, profile, rows)[1] == 0
    return found


def idle_milli(site: Site, rows: Ints) -> Ints:
    """Return what is free of GPUs in MIG mode, in thousandths: int[row]."""
    found: Ints = BITS[site.slices.take(rows, 0)].sum(1) * EACH[site.geometry.take(rows)]
    return found


def part_of(site: Site, size: Size, row: int, card: int) -> Part:
    """Return the instance that comes next on a GPU."""
    at = int(site.geometry[row]) * MASKS + int(site.slices[row, card])
    return Part(row, (card,), size.milli_each, int(table(size.mig).taken[at]))


def allows(site: Site, size: Size, part: Part) -> bool:
    """Tell whether a part is such as a size takes: of an instance, whether it may be just there, and is free."""
    if not size.mig:
        return not part.slices
    profile = GEOMETRIES[int(site.geometry[part.row])].profiles.get(size.mig)
    if profile is None or not site.any_mig or len(part.cards) != 1:
        return False
    placed = part.slices in [profile.mask(start) for start in profile.starts]
    return placed and part.slices & ~int(site.slices[part.row, part.cards[0]]) == 0


def wakes(site: Site, part: Part) -> int:
    """Return how many GPUs of a member are nobody's, and would be woken by it."""
    cards = list(part.cards)
    if part.slices:
        return int(site.slices[part.row, cards[0]] == site.mig[part.row, cards[0]])
    return int((site.free[part.row, cards] == MILLI_PER_GPU).sum())


def at(site: Site, rows: Ints, slices: Ints) -> Ints:
    """Return where such free slices stand in the table of a profile: int[of rows, card] for ``slices`` of that shape."""
    found: Ints = site.geometry.take(rows)[..., None] * MASKS + slices
    return found


def _of(site: Site, values: Ints, rows: Ints) -> Ints:
    return values.take(at(site, rows, site.slices.take(rows, 0)))
