"""The decision for several members at once: all have their seats near enough to each other, or none has.

The nodes are looked at as one member would be (``capacity``), then the levels of the site from near to far, and
the first of which a domain holds all is taken: of its domains the best, and in it as few NVLink domains as will
do. Where caps bind all members together it goes domain by domain instead (``caps``).
"""

from collections.abc import Callable

import msgspec
import numpy as np
from msgspec.structs import replace

from placement.domain.engine import caps
from placement.domain.engine.capacity import Capacities, Capacity
from placement.domain.engine.caps import Cells
from placement.domain.engine.choose import Choice, NoChoice
from placement.domain.engine.fit import BIT, FITS, LOWEST, beside
from placement.domain.engine.mig import table
from placement.domain.engine.mix import ONE
from placement.domain.engine.nearest import Found, Nearest, Room
from placement.domain.engine.power import ENDLESS, Power
from placement.domain.engine.rows import sit
from placement.domain.engine.seating import Seats
from placement.domain.engine.site import Bools, Ints, Site
from placement.domain.engine.size import MILLI_PER_GPU, Size, Terms
from placement.domain.engine.spill import Reach, Together, Want, total
from placement.domain.engine.tenancy import Tenancy
from placement.domain.engine.topology import EVERYWHERE, Split, Topology
from placement.domain.engine.wish import Near, Relaxation, Told, Wish

DISLIKED = 500_000 * ONE
"""A row with such a bias is taken only where the others do not hold all."""


class Gang(msgspec.Struct, frozen=True, kw_only=True):
    """Take ``seats``, in the order of the members."""

    seats: Seats
    failed: tuple[int, ...]
    together: Together


class NoGang(msgspec.Struct, frozen=True, kw_only=True):
    """They do not all fit: ``fails`` int[row] are the constraints that each node fails for one of them."""

    failed: tuple[int, ...]
    fails: Ints
    together: Together


def gathers(wish: Wish) -> bool:
    """Return whether members are seated together: not one alone, nor replicas that keep apart."""
    apart = wish.group and wish.near == Near()
    return wish.members > 1 and not apart and not wish.size.mig


def alike(wish: Wish) -> Wish:
    """Return the wish as it is seated: one member, or members that keep apart, are near to nobody."""
    if gathers(wish) or wish.near == Near():
        return wish
    return replace(wish, near=Near())


def want_of(wish: Wish) -> Want:
    """Return how many members are wanted, in which segments."""
    return Want(wish.members, min(wish.near.segment, wish.members))


class Gangs:
    """Seats gangs on one site."""

    def __init__(self, site: Site, power: Power, tenancy: Tenancy) -> None:
        self._site, self._power, self.tenancy = site, power, tenancy
        self._capacities = Capacities(site)
        self._topology: tuple[int, Topology] | None = None
        self.reserved: Callable[[Size, Terms], Ints | None] = lambda _size, _terms: None

    def copy(self, site: Site, power: Power, tenancy: Tenancy) -> "Gangs":
        """Return the same for a copy of the site."""
        found = Gangs(site, power, tenancy)
        found._capacities = self._capacities.copy(site)
        found._topology = self._topology
        found.reserved = self.reserved
        return found

    @property
    def topology(self) -> Topology:
        """How the site's nodes hang together, as it is built now."""
        if self._topology is None or self._topology[0] != self._site.puts:
            self._topology = (self._site.puts, Topology(self._site))
        return self._topology[1]

    def seat(self, wish: Wish, *, bias: Ints | None = None, only: Bools | None = None) -> Gang | NoGang:
        """Return where all members go, or what each node, and all of them together, lack.

        ``bias`` int[row] makes rows less (or more) liked; ``only`` bool[row] are those looked at, where it
        is not all.
        """
        capacity, also, seats = self._seats(wish)
        failed = _failed(capacity, also)
        if only is not None:
            seats = np.where(only, seats, 0)
        want = want_of(wish)
        reach: list[Reach] = []
        found: Found | None = None
        if bias is not None and (bias > DISLIKED).any():
            room = self._room(wish.size, np.where(bias > DISLIKED, 0, seats), capacity.light)
            found = self._nearest(room).way(wish.near, want, reach)
        if found is None:
            reach.clear()
            room = self._room(wish.size, seats, capacity.light)
            found = self._nearest(room).way(wish.near, want, reach)
        if found is None:
            fails = capacity.fails if also is None else capacity.fails | also
            together = Together(int(seats.sum()), room.powered, tuple(reach))
            return NoGang(failed=failed, fails=fails, together=together)
        together = Together(int(seats.sum()), room.powered, tuple(reach), found.best, found.second)
        placed = sit(
            self._site,
            self.topology,
            wish.size,
            want,
            found.chosen,
            seats=room.seats,
            light=room.light,
            bias=bias,
        )
        assert len(placed.rows) == wish.members, "all members or none"
        return Gang(seats=placed, failed=failed, together=together)

    def admits(self, wish: Wish) -> bool:
        """Return whether all members would have seats: what ``seat`` finds, without where that is."""
        capacity, _, seats = self._seats(wish)
        room = self._room(wish.size, seats, capacity.light)
        return self._nearest(room).holds(wish.near, want_of(wish))

    def most(self, wish: Wish) -> int:
        """Return how many members would have their seats where not all have; 0 for none that is sure.

        None more would, but for rests under caps that lie across each other (see ``caps.greatest``).
        """
        capacity, _, seats = self._seats(wish)
        room = self._room(wish.size, seats, capacity.light)
        return self._nearest(room).most(wish.near, wish.members - 1)

    def seats(self, wish: Wish, *, lit: bool = False) -> Ints:
        """Return for how many members each row has room, each looked at alone; ``lit``: had it watts enough."""
        capacity, also, seats = self._seats(wish)
        if not lit or also is None:
            return seats
        return np.where(also & ~BIT["power"] == 0, capacity.seats, 0)

    def powered(self, wish: Wish, split: Split) -> Ints:
        """Return how many members each domain has room for, and no more than caps let draw: int[domain]."""
        capacity, _, seats = self._seats(wish)
        return caps.most(self._room(wish.size, seats, capacity.light).cells, split)

    def _seats(self, wish: Wish) -> tuple[Capacity, Ints | None, Ints]:
        capacity = self._capacities.of(wish.size, wish.terms)
        also = self._also(wish, capacity)
        return (
            capacity,
            also,
            capacity.seats if also is None else np.where(also == 0, capacity.seats, 0),
        )

    def _also(self, wish: Wish, capacity: Capacity) -> Ints | None:
        """Return which constraints each row fails that depend on more than itself; ``None`` for none."""
        found: Ints | None = None
        terms, site, topology = wish.terms, self._site, self.topology
        if terms.isolation or self.tenancy.locked:
            found = np.where(self.tenancy.apart(terms), 0, BIT["isolation"])
        if self._power.capped:
            least, watts = self._least(), wish.size.cards * topology.gpu_w
            if (least < watts).any():
                needs = np.where(capacity.light > 0, 0, watts[topology.cell])
                bits = np.where(least[topology.cell] < needs, BIT["power"], 0)
                found = bits if found is None else found | bits
        kept = self.reserved(wish.size, terms)
        if kept is not None:
            found = kept if found is None else found | kept
        return beside(site, wish.avoid, wish.only, found)

    def _least(self) -> Ints:
        """Return the watts that each cell may add: int[cell]."""
        topology = self.topology
        least = np.full(topology.cells, ENDLESS, np.int64)
        for level, room in self._power.rooms().items():
            np.minimum(least, room[topology.at[level]], out=least)
        return least

    def _room(self, size: Size, seats: Ints, light: Ints) -> Room:
        topology = self.topology
        rooms = tuple((topology.at[level], room) for level, room in self._power.rooms().items())
        watts = size.cards * topology.gpu_w
        light = np.minimum(light, seats)
        by_cell = total(topology.cell, seats, topology.cells)
        light_cell = total(topology.cell, light, topology.cells)
        batch = 1
        together = MILLI_PER_GPU // size.gpu_milli if size.gpu_milli else 1
        if size.mig:
            together = int(max(1, table(size.mig).fits.max()))
        if rooms and together > 1 and not ((seats - light) % together).any():
            batch = together
        by_cell = caps.alone(by_cell, light_cell, watts, rooms, batch) if rooms else by_cell
        cells = Cells(by_cell, light_cell, watts, topology.linked, rooms, batch)
        powered = int(caps.most(cells, topology.split(EVERYWHERE)).sum())
        return Room(seats, light, cells, powered)

    def _nearest(self, room: Room) -> Nearest:
        return Nearest(self._site, self.topology, room)


def _failed(capacity: Capacity, also: Ints | None) -> tuple[int, ...]:
    if also is None:
        return tuple(capacity.counts.tolist())
    return tuple(np.bincount(LOWEST[capacity.fails | also], minlength=FITS + 1).tolist())


def told(last: Choice | NoChoice | Gang | NoGang, relaxation: Relaxation | None = None) -> Told:
    """Return why, of what was found."""
    if isinstance(last, Choice):
        return Told(last.failed, last.best, last.second)
    together = last.together if isinstance(last, Gang | NoGang) else None
    return Told(last.failed, None, None, relaxation, together)
