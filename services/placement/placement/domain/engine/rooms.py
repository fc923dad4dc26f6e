"""Candidates for making way: where room is cheapest, and which workloads would leave it."""

from collections.abc import Iterator

import numpy as np

from placement.domain.engine.gang import Gangs, want_of
from placement.domain.engine.pieces import SEAT, Held, freed, held
from placement.domain.engine.prices import Units, complete, price, rank, rising, scaled
from placement.domain.engine.roster import Roster
from placement.domain.engine.shut import Shut
from placement.domain.engine.site import NOWHERE, Bools, Ints, Site
from placement.domain.engine.spill import survey, total
from placement.domain.engine.topology import EVERYWHERE, Split
from placement.domain.engine.wish import Wish

DOMAINS_MAX = 3
"""Domains whose cheapest victims are candidates."""
PARED_MAX = 48
"""Victims of one candidate that it is tried to spare, the dearest first."""


class Rooms:
    """The room there is for one wish, with nobody gone and with all gone who can make way, and its price.

    ``costs`` int[holder], negative for who stays. ``rough`` bool[holder]: who holds rows with others, or
    shuts them, so that whether it is needed is only known by trying.
    """

    def __init__(
        self, site: Site, roster: Roster, gangs: Gangs, *, all_gone: Gangs, wish: Wish, costs: Ints
    ) -> None:
        self._topology = gangs.topology
        self._costs = costs
        self._want = want_of(wish)
        self._split, self._domain = self._domains(site, wish)
        self._now, gain = gangs.seats(wish), all_gone.seats(wish)
        self._gangs, self._wish = gangs, wish
        self._all = np.maximum(gain, self._now)
        gain = self._all - self._now
        count = int(self._domain.max(initial=-1)) + 1
        known = self._domain != NOWHERE
        self._have = total(self._domain[known], self._now[known], count)
        self._could = total(self._domain[known], self._all[known], count)
        # Where watts are what is short, room that is free is of no use: as much has to go as comes.
        powered = self._have
        if self._split is not None and self._have.any():
            powered = gangs.powered(wish, self._split)
        self._dark = bool((powered < self._have).any())
        self._have = np.minimum(self._have, powered)
        of_use = (gain > 0) & (self._domain != NOWHERE)
        items = held(site, roster, wish.size, costs >= 0, of_use)
        self._holder, self._rows_of = items.holder, items.row
        self._units: Units = freed(site, wish.size, items, self._price(items), gain)
        self._shut = Shut(site, roster, gangs, wish, costs=costs, of_use=gain > 0)
        self.rough: Bools = np.zeros(len(costs), bool)
        if self._dark:
            self.rough[:] = True
        if wish.size.cpu_milli or wish.size.memory_mib or not wish.size.cards:
            several = np.bincount(items.row, minlength=site.rows) > 1
            self.rough[items.holder[several[items.row]]] = True
        self._shut.mark(self.rough)

    def candidates(self) -> Iterator[Bools]:
        """Yield sets of victims that leave enough room, by count: those of the cheapest domains, and one alone."""
        units = self._units
        where = self._domain[units.group]
        key = rising(units.group, rank(units.price + self._shut.fees[units.group], units.counts))
        segments = self._want.segment > 1 and self._split is not None
        for some in self._by_segments(key) if segments else self._by_seats(where, key):
            gone = self._shut.blockers(units.group[some])
            chosen = np.zeros(len(units.counts) + 1, bool)
            chosen[some] = True
            gone[self._holder[chosen[units.of]]] = True
            if gone.any():
                yield gone
        yield from self._one_alone(where)

    def pare(self, gone: Bools) -> Bools:
        """Return the victims without those whose room is not needed, by count; the dearest go first."""
        numbers = np.flatnonzero(gone)
        if len(numbers) < 2 or self._dark:
            return gone
        beyond, leaves = self._beyond(gone), self._leaves()
        if beyond < 0:
            return gone
        gone = gone.copy()
        for number in numbers[np.argsort(-self._costs[numbers], kind="stable")][:PARED_MAX].tolist():
            if len(self._have) == 1 and leaves[number] > beyond:
                continue
            gone[number] = False
            left = self._beyond(gone)
            if left < 0:
                gone[number] = True
            else:
                beyond = left
        return gone

    def surely(self, gone: Bools, those: Ints) -> Bools:
        """Return which of ``those`` victims are needed for sure: without their rows no domain has room for all."""
        rows, domain, lit = self._rows_of, self._domain, self._gangs.seats(self._wish, lit=True)
        may = self._shut.closed.copy()
        may[rows[gone[self._holder]]] = True
        may &= self._shut.open(gone)
        seats = np.where(may, self._all, lit)
        known = domain != NOWHERE
        room = total(domain[known], seats[known], len(self._could))
        alone = np.bincount(rows, minlength=len(seats))[rows] == 1
        found = np.zeros(len(those), bool)
        for at, number in enumerate(those.tolist()):
            mine = rows[alone & (self._holder == number)]
            mine = mine[~self._shut.closed[mine]]
            lost = total(domain[mine], self._all[mine] - lit[mine], len(room))
            found[at] = int((room - lost).max(initial=0)) < self._want.members
        return found

    def _domains(self, site: Site, wish: Wish) -> tuple[Split | None, Ints]:
        """Return what must hold all members, one domain of it: a split (else nodes), and each row's domain."""
        near = wish.near
        if wish.members == 1 or (near.required and near.level == "node"):
            return None, np.arange(site.rows)
        split = self._topology.split(near.level if near.required else EVERYWHERE)
        of_cell = np.full(self._topology.cells, NOWHERE, np.int64)
        of_cell[split.cells] = split.domain[split.block]
        return split, of_cell[self._topology.cell]

    def _price(self, items: Held) -> Ints:
        """Return what each item bears of its holder's cost: int[item].

        Of a gang, as much as is of use counts: one that holds a hundred nodes is dear where one is needed.
        """
        where, holders = self._domain[items.row], len(self._costs)
        if len(self._have) == 1:
            useful = total(items.holder, items.share, holders)[items.holder]
        else:
            _, both = np.unique(where * holders + items.holder, return_inverse=True)
            useful = total(both, items.share, len(both))[both]
        needed = np.maximum(self._want.members - self._have[where], 1) * SEAT
        return price(scaled(self._costs)[items.holder], items.share, np.minimum(useful, needed))

    def _by_seats(self, where: Ints, key: Ints) -> Iterator[Ints]:
        """Yield the units that make room for all members, cheapest domains first."""
        need = self._want.members - self._have
        need[self._could < self._want.members] = 0
        order = np.lexsort((np.arange(len(key)), key, where))
        yield from _cheapest(order, where, self._units.counts, key * self._units.counts, need)

    def _by_segments(self, key: Ints) -> Iterator[Ints]:
        """Yield the units that make room for all segments, cheapest domains first."""
        split, units, want = self._split, self._units, self._want
        assert split is not None
        topology = self._topology
        of_cell = np.full(topology.cells, NOWHERE, np.int64)
        of_cell[split.cells] = split.block
        block_of = of_cell[topology.cell]
        known = block_of != NOWHERE
        near = topology.linked[split.island]
        now = total(block_of[known], self._now[known], len(near))
        could = np.where(near, total(block_of[known], self._all[known], len(near)) // want.segment, 0)
        there = np.where(near, now // want.segment, 0)
        block = block_of[units.group]
        order = np.lexsort((np.arange(len(key)), key, block))
        group, prices = block[order], key[order] * units.counts[order]
        made = complete(
            group,
            units.counts[order],
            prices,
            base=now % want.segment,
            per=want.segment,
            most=could - there,
        )
        of_domain = split.domain[made.group]
        need = want.whole - total(split.domain, there, len(split.code))
        most = total(split.domain, could, len(split.code))
        if want.rest:
            need += most > want.whole
        need[most < want.whole] = 0
        rank_of = rising(made.group, rank(made.price, made.counts))
        by_price = np.lexsort((np.arange(len(rank_of)), rank_of, of_domain))
        for some in _cheapest(by_price, of_domain, made.counts, made.price, need):
            chosen = np.zeros(len(made.counts) + 1, bool)
            chosen[some] = True
            yield order[chosen[made.of]]

    def _one_alone(self, where: Ints) -> Iterator[Bools]:
        """Yield the cheapest workload that alone leaves enough room, by count."""
        units = self._units
        made = units.of >= 0
        lonely = np.bincount(units.of[made], minlength=len(units.counts)) == 1
        made[made] = lonely[units.of[made]]
        holder, unit = self._holder[made], units.of[made]
        holders = len(self._costs)
        keys, both = np.unique(where[unit] * holders + holder, return_inverse=True)
        seats = total(both, units.counts[unit], len(keys))
        domain, holder = np.divmod(keys, max(holders, 1))
        enough = holder[seats + self._have[domain] >= self._want.members]
        if len(enough):
            gone = np.zeros(holders, bool)
            gone[enough[self._costs[enough].argmin()]] = True
            yield gone

    def _leaves(self) -> Ints:
        """Return how many seats are missing, at most, where a holder stays: int[holder]."""
        units = self._units
        made = units.of >= 0
        return total(self._holder[made], units.counts[units.of[made]], len(self._costs))

    def _beyond(self, gone: Bools) -> int:
        """Return how many members more than all have room by count, where these are gone; negative: too few."""
        units, topology = self._units, self._topology
        made = units.of >= 0
        stays = ~gone[self._holder[made]]
        free = np.bincount(units.of[made], stays, len(units.counts)) == 0
        free &= self._shut.open(gone)[units.group]
        seats = self._now + total(units.group[free], units.counts[free], len(self._now))
        if self._split is None:
            return int(seats.max(initial=0)) - self._want.members
        found = survey(
            self._split, total(topology.cell, seats, topology.cells), topology.linked, self._want
        )
        if not found.holds.any():
            return -1
        return int(total(self._split.domain, found.room, len(found.holds)).max()) - self._want.members


def _cheapest(order: Ints, where: Ints, count: Ints, prices: Ints, need: Ints) -> Iterator[Ints]:
    """Yield what meets a domain's need, first to last in order, for the domains where that is cheapest."""
    if not len(order):
        return
    domain, counts, cost = where[order], count[order], prices[order]
    first = np.concatenate(([True], domain[1:] != domain[:-1]))
    start = np.flatnonzero(first)[first.cumsum() - 1]
    before = counts.cumsum() - counts
    taken = before - before[start] < need[domain]
    spent = total(domain[taken], cost[taken], len(need))
    met = total(domain[taken], counts[taken], len(need))
    does = np.flatnonzero((need > 0) & (met >= need))
    for one in does[np.argsort(spent[does], kind="stable")][:DOMAINS_MAX].tolist():
        some: Ints = order[taken & (domain == one)]
        yield some
