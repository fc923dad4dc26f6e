"""How many members of one size the nodes take, each looked at alone."""

from typing import NamedTuple

import numpy as np

from placement.domain.engine.fit import BIT, fit
from placement.domain.engine.mig import table
from placement.domain.engine.site import Ints, Site
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.slices import at

ROOM = BIT["gpus"] | BIT["cpu"] | BIT["memory"] | BIT["slots"]
"""What a node may lack for one member and still be of the right kind."""


class Left(NamedTuple):
    """What is left of each row: ``cards`` int[row, card] in milli, for an instance its free slices; the others int[row]."""

    cards: Ints
    cpu: Ints
    memory: Ints
    slots: Ints


def members(site: Site, size: Size, terms: Terms) -> Ints:
    """Return how many members of a size each node takes: int[row].

    Caps and neighbours are not weighed: they are the site's, not a node's.
    """
    rows = site.every
    cards = site.slices if size.mig else site.free
    left = Left(cards[rows], site.cpu[rows], site.memory[rows], site.slots[rows])
    found = counts(site, size, left)
    return np.where(fit(site, size, terms, rows) & ~ROOM == 0, found, 0)


def counts(site: Site, size: Size, left: Left) -> Ints:
    """Return how many members fit into so much: int[row]."""
    found = np.maximum(left.slots, 0)
    if size.mig:
        each = table(size.mig).fits.take(at(site, site.every, left.cards))
        np.minimum(found, each.sum(1), out=found)
    elif size.cards:
        np.minimum(found, (left.cards // size.milli_each).sum(1) // size.cards, out=found)
    for have, need in ((left.cpu, size.cpu_milli), (left.memory, size.memory_mib)):
        if need:
            np.minimum(found, have // need, out=found)
    return found
