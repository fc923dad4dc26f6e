"""What if some were gone: the site, its caps and its tenants as they would be then, asked and not touched."""

from typing import TYPE_CHECKING

import numpy as np

from placement.domain.engine.gang import Gangs
from placement.domain.engine.roster import Roster
from placement.domain.engine.site import LEFT, NOWHERE, Bools, Ints, Site
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.wish import Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine


class Shadow(Site):
    """The same nodes with other columns, which differ in rows ``changed``: to be asked, and not changed."""

    def __init__(self, site: Site, columns: dict[str, Ints], changed: Ints) -> None:
        self.__dict__.update(vars(site))
        self._columns = self._columns | columns
        self._touched, self._forgotten = [], site.seen + 1
        self._changed = changed
        self._name()

    def since(self, seen: int) -> Ints | None:
        """Return what differs from the site itself, for who has looked at that as it is."""
        return self._changed if self.seen - seen == 1 else None


class Trial:
    """A site on which workloads can be thought away."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.site, self.holdings = engine.site, engine.holdings
        self.roster: Roster = engine.roster.sync(engine.holdings, engine.site.tenants)

    def without(self, gone: Bools) -> Gangs:
        """Return who would have room where if these holders were gone: bool[holder]."""
        engine, roster = self._engine, self.roster
        site, rows = engine.site, engine.site.rows
        members, cards = roster.members, roster.cards
        here = roster.here
        gone = gone & here
        leave = np.flatnonzero(gone[members.holder])
        row, many, holder = members.row[leave], members.many[leave], members.holder[leave]
        columns = {name: getattr(site, name)[:rows].copy() for name in ("left", "tenant")}
        left = dict(zip(LEFT, columns["left"].T, strict=True))
        for name in ("cpu", "memory"):
            np.add.at(left[name], row, roster.of(name)[holder] * many)
        np.add.at(left["slots"], row, many)
        free = columns["free"] = site.free[:rows].copy()
        held = np.flatnonzero(gone[cards.holder])
        np.add.at(free, (cards.row[held], cards.card[held]), cards.milli[held])
        changed = np.flatnonzero(left["slots"] != site.slots[:rows])
        if site.any_mig:
            columns["slices"] = self._slices(gone)
        left["whole"][changed] = (free[changed] == MILLI_PER_GPU).sum(1)
        left["most"][changed] = free[changed].max(1)
        asleep = left["whole"][changed] - site.whole[changed]
        if site.any_mig:
            whole, mig = columns["slices"][changed], site.mig[changed]
            asleep += (whole == mig).sum(1) - (site.slices[changed] == mig).sum(1)
        shadow = Shadow(site, columns, changed)
        power = engine.power.shadow(shadow, changed, asleep * site.gpu_w[changed])
        stay = (here & ~gone)[members.holder]
        holder = members.holder[stay]
        tenancy = engine.tenancy.shadow(
            shadow, members.row[stay], roster.of("tenant")[holder], roster.of("alone")[holder]
        )
        return engine.gangs.copy(shadow, power, tenancy)

    def _slices(self, gone: Bools) -> Ints:
        """Return which slices would be free if these were gone: int[row, card], as bits."""
        slices, held = self.site.slices[: self.site.rows].copy(), self.roster.instances
        some = np.flatnonzero(gone[held.holder])
        np.bitwise_or.at(slices, (held.row[some], held.card[some]), held.slices[some])
        return slices

    @property
    def capped(self) -> list[str]:
        """The levels at which any part of the site has a cap, the innermost first."""
        return list(self._engine.power.caps())

    def rows_of(self, those: Bools) -> Ints:
        """Return the rows that these holders are on."""
        members = self.roster.members
        return np.unique(members.row[those[members.holder]])

    def near(self, level: str, rows: Ints) -> Ints:
        """Return all rows of the domains at a level that some rows are in."""
        at = self.site.at(level)
        return np.flatnonzero(np.isin(at, at[rows]) & (at != NOWHERE))

    def on(self, rows: Ints) -> Bools:
        """Return who has a member on some rows: bool[holder]."""
        there = np.zeros(self.site.rows, bool)
        there[rows] = True
        found = np.zeros(len(self.roster.names), bool)
        found[self.roster.members.holder[there[self.roster.members.row]]] = True
        return found

    def admits(self, wish: Wish, gone: Bools) -> bool:
        """Return whether a wish would have its seats if these holders were gone."""
        return self.without(gone).admits(wish)
