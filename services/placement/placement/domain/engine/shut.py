"""Rows that are shut to a tenant because of who else is near, and who would have to go to open them."""

import numpy as np

from placement.domain.engine.gang import Gangs
from placement.domain.engine.prices import scaled
from placement.domain.engine.roster import Roster
from placement.domain.engine.site import NOWHERE, Bools, Ints, Site
from placement.domain.engine.spill import total
from placement.domain.engine.tenancy import ISOLATING
from placement.domain.engine.wish import Wish


class Shut:
    """Who keeps a wish out of which parts of the site: others who are alone there, or who are there at all.

    ``closed`` bool[row]: where it is kept out. ``fees`` int[row]: what it costs to open the row's parts, its
    portion of that; 0 where it is open.
    """

    def __init__(
        self, site: Site, roster: Roster, gangs: Gangs, wish: Wish, *, costs: Ints, of_use: Bools
    ) -> None:
        self._holders, self._rows = len(costs), site.rows
        self.fees: Ints = np.zeros(site.rows, np.int64)
        self.closed = np.zeros(site.rows, bool)
        if wish.terms.isolation or gangs.tenancy.locked:
            self.closed = of_use & ~gangs.tenancy.apart(wish.terms)
        self.any = bool(self.closed.any())
        # By level: the domain of each row, and who is in the way in which domain, each once.
        self._parts: list[tuple[Ints, Ints, Ints]] = []
        if not self.any:
            return
        members = roster.members
        mine = site.tenants.get(wish.terms.tenant, -1)
        others = (roster.of("tenant") != mine) & (costs >= 0)
        for number, level in enumerate(ISOLATING):
            in_the_way = others & ((roster.of("alone") == number) | (level == wish.terms.isolation))
            at = gangs.tenancy.at(level)
            if not in_the_way.any():
                continue
            some = in_the_way[members.holder] & (at[members.row] != NOWHERE)
            keys = np.unique(at[members.row[some]] * self._holders + members.holder[some])
            domain, holder = np.divmod(keys, max(self._holders, 1))
            self._parts.append((at, domain, holder))
            known = np.flatnonzero(self.closed & (at != NOWHERE))
            length = int(at.max(initial=0)) + 1
            opened = total(domain, scaled(costs)[holder], length)
            rows = total(at[known], np.ones(len(known), np.int64), length)
            self.fees[known] += opened[at[known]] // rows[at[known]]

    def mark(self, holders: Bools) -> None:
        """Mark those who are in the way somewhere: bool[holder]."""
        for _, _, holder in self._parts:
            holders[holder] = True

    def blockers(self, rows: Ints) -> Bools:
        """Return who would have to go so that these rows are open: bool[holder]."""
        gone = np.zeros(self._holders, bool)
        rows = rows[self.closed[rows]]
        for at, domain, holder in self._parts:
            gone[holder[np.isin(domain, at[rows])]] = True
        return gone

    def open(self, gone: Bools) -> Bools:
        """Return which rows are open where these are gone: bool[row]."""
        found = np.ones(self._rows, bool)
        for at, domain, holder in self._parts:
            blocked = np.zeros(int(at.max(initial=0)) + 2, bool)
            blocked[domain[~gone[holder]]] = True
            found &= ~(blocked[at] & self.closed)
        return found
