"""How many members of one size the nodes take, each looked at alone."""

import numpy as np

from placement.domain.engine.fit import BIT, fit
from placement.domain.engine.site import Ints, Site
from placement.domain.engine.size import Size, Terms

ROOM = BIT["gpus"] | BIT["cpu"] | BIT["memory"] | BIT["slots"]
"""What a node may lack for one member and still be of the right kind."""


def members(site: Site, size: Size, terms: Terms) -> Ints:
    """Return how many members of a size each node takes: int[row].

    Caps and neighbours are not weighed: they are the site's, not a node's.
    """
    rows = site.every
    found = counts(size, site.free[rows], site.cpu[rows], site.memory[rows], site.slots[rows])
    return np.where(fit(site, size, terms, rows) & ~ROOM == 0, found, 0)


def counts(size: Size, free: Ints, cpu: Ints, memory: Ints, slots: Ints) -> Ints:
    """Return how many members fit into so much: int[row]; ``free`` int[row, card]."""
    found = np.maximum(slots, 0)
    if size.cards:
        np.minimum(found, (free // size.milli_each).sum(1) // size.cards, out=found)
    for left, each in ((cpu, size.cpu_milli), (memory, size.memory_mib)):
        if each:
            np.minimum(found, left // each, out=found)
    return found
