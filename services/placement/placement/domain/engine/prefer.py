"""What a wish would rather have: its replicas apart, no node it dislikes, the weights where they are, few watts."""

from collections.abc import Mapping

import numpy as np

from placement.domain.engine.mix import ONE
from placement.domain.engine.site import NOWHERE, Ints, Site
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.slices import idle_milli
from placement.domain.engine.wish import Wish

CROWDED = 1_000_000 * ONE
"""What a seat beside another of its group costs: more than anything but not fitting at all."""
HOME = 200 * ONE
"""What a node that holds the weights already is worth: 200 milli of fragments."""

THRIFTY_FROM, THRIFTY_TO, THRIFTY_END = 10, 60, 61
"""Percent of GPUs in use: between the first two watts count in full, from the last on only fragmentation does."""
EARLY_PERCENT = 6
"""Percent of the weight that counts before the first of them. Where all is free every kind of work would take the GPUs
of fewest watts, and what can use no others comes later: on openb a full site then held 0.8 points less, not 0.2.
"""


def bias(site: Site, wish: Wish, crowd: Mapping[int, int] | None) -> Ints | None:
    """Return what each row costs more than its score says: crowded, disliked, far from the weights.

    ``crowd`` counts the members of the wish's group by row.
    """
    if not wish.apart:
        crowd = None
    if not crowd and not wish.dislike and not wish.home:
        return None
    costs = np.zeros(site.rows, np.int64)
    if crowd:
        rows = np.fromiter(crowd, np.int64, len(crowd))
        counts = np.fromiter(crowd.values(), np.int64, len(crowd))
        if wish.apart == "node":
            costs[rows] += counts * CROWDED
        else:
            at = site.at(wish.apart)
            there = np.zeros(len(site.domains[wish.apart]) + 1, np.int64)
            np.add.at(there, at[rows], counts)
            there[NOWHERE] = 0
            costs += there[at] * CROWDED
    for node in wish.dislike:
        if node in site.row_of:
            costs[site.row_of[node]] += CROWDED
    for node in wish.home:
        if node in site.row_of:
            costs[site.row_of[node]] -= HOME
    return costs


def watt_costs(site: Site, weight: int) -> int:
    """Return what a watt more costs in a score now; ``weight`` is what it costs at most, in thousandths of a milli."""
    if not weight:
        return 0
    total = int(site.cards[: site.rows].sum()) * MILLI_PER_GPU
    used = total - int(site.free[: site.rows].sum())
    if site.any_mig:
        used -= int(idle_milli(site, site.every).sum())
    if 100 * used < THRIFTY_FROM * total:
        return weight * ONE * EARLY_PERCENT // (100 * 1_000)
    fade = (THRIFTY_END - THRIFTY_TO) * total
    left = min(max(THRIFTY_END * total - 100 * used, 0), fade)
    return weight * ONE * left // (max(fade, 1) * 1_000)
