"""For how many members each node has room, of one size on its terms: what gangs are seated by."""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from placement.domain.engine.fit import FITS, LOWEST, fit
from placement.domain.engine.site import Ints, Site
from placement.domain.engine.size import MILLI_PER_GPU, Size, Terms
from placement.domain.engine.slices import seats as instances

CAPACITIES_MAX = 64
"""Capacities kept; of more, those longest not asked for are counted anew when they are."""
MEMBERS_MAX = 4_096
"""Members of one workload, and so what a node without bound has room for."""


class Capacity:
    """How many members each row has room for, kept up as rows change.

    ``fails`` int[row]: the constraints that one member fails, of those that look at one node alone.
    ``seats`` int[row]: members that fit, 0 where one fails. ``light`` int[row]: how many of them, at
    most, wake no GPU and so draw nothing more. ``counts`` int[constraint]: rows that fail it first.
    """

    def __init__(self, site: Site, size: Size, terms: Terms) -> None:
        self._size, self._terms = size, terms
        self.seen = -1
        self._empty(site.rows)

    def _empty(self, rows: int) -> None:
        self.fails: Ints = np.zeros(rows, np.int64)
        self.seats: Ints = np.zeros(rows, np.int64)
        self.light: Ints = np.zeros(rows, np.int64)
        self.counts: Ints = np.zeros(FITS + 1, np.int64)
        self.counts[FITS] = rows

    def refresh(self, site: Site) -> "Capacity":
        """Count the rows that have changed since; return the capacity."""
        if self.seen == site.seen:
            return self
        rows = None if len(self.fails) != site.rows or self.seen < 0 else site.since(self.seen)
        if rows is None:
            self._empty(site.rows)
            rows = np.arange(site.rows)
        fails = fit(site, self._size, self._terms, rows)
        self.counts -= np.bincount(LOWEST[self.fails[rows]], minlength=FITS + 1)
        self.counts += np.bincount(LOWEST[fails], minlength=FITS + 1)
        self.fails[rows] = fails
        seats, light = room(site, self._size, rows)
        self.seats[rows] = np.where(fails == 0, seats, 0)
        self.light[rows] = np.where(fails == 0, light, 0)
        self.seen = site.seen
        return self

    def copy(self) -> "Capacity":
        """Return the same, to be kept up with a copy of the site."""
        found = object.__new__(Capacity)
        found._size, found._terms, found.seen = self._size, self._terms, self.seen
        found.fails, found.seats = self.fails.copy(), self.seats.copy()
        found.light, found.counts = self.light.copy(), self.counts.copy()
        return found


def room(site: Site, size: Size, rows: Ints) -> tuple[Ints, Ints]:
    """Return how many members there is room for on each of ``rows``, and how many of them wake no GPU.

    One more than that fails ``fit``, where one does not.
    """
    seats = np.minimum(site.slots[rows], MEMBERS_MAX)
    if size.cpu_milli:
        seats = np.minimum(seats, site.cpu[rows] // size.cpu_milli)
    if size.memory_mib:
        seats = np.minimum(seats, site.memory[rows] // size.memory_mib)
    if size.gpus:
        seats = np.minimum(seats, site.whole[rows] // size.gpus)
    if size.gpu_milli:
        free = site.free[rows]
        shares = free // size.gpu_milli
        awake = np.where(free < MILLI_PER_GPU, shares, 0).sum(1)
        seats = np.minimum(seats, shares.sum(1))
        return seats, np.minimum(awake, seats)
    if size.mig:
        count, awake = instances(site, size.mig, rows)
        seats = np.minimum(seats, count)
        return seats, np.minimum(awake, seats)
    return seats, seats if not size.cards else np.zeros_like(seats)


class Capacities:
    """The capacities of a site, by size and terms."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._held: OrderedDict[tuple[Size, Terms], Capacity] = OrderedDict()
        # Those of the site that this one's is a copy of, and how many changes that had seen by then.
        self._others: tuple[Mapping[tuple[Size, Terms], Capacity], int] = ({}, 0)

    def of(self, size: Size, terms: Terms) -> Capacity:
        """Return the capacity for a size on its terms, as the site is now.

        Who asks and how far apart from others is no part of it (see ``fit``): all tenants share it.
        """
        if terms.tenant or terms.isolation:
            terms = Terms(jurisdictions=terms.jurisdictions, assurances=terms.assurances)
        key = (size, terms)
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = self._known(key) or Capacity(self._site, size, terms)
            if len(self._held) > CAPACITIES_MAX:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return held.refresh(self._site)

    def copy(self, site: Site) -> "Capacities":
        """Return the same for a copy of the site: each capacity is copied once it is asked for."""
        found = Capacities(site)
        found._others = (self._held, site.seen)
        return found

    def _known(self, key: tuple[Size, Terms]) -> Capacity | None:
        """Return a copy of a capacity that the other site has, unless that went on since."""
        others, seen = self._others
        held = others.get(key)
        return None if held is None or held.seen > seen else held.copy()
