"""The nearest way for all members of a gang to have seats: which domain, and which cells of it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from placement.domain.engine import caps
from placement.domain.engine.caps import Cells
from placement.domain.engine.rows import Chosen
from placement.domain.engine.site import NOWHERE, Ints, Site
from placement.domain.engine.spill import (
    Area,
    Reach,
    Survey,
    Want,
    best_first,
    fewest,
    islands,
    largest,
    spread,
    survey,
)
from placement.domain.engine.topology import EVERYWHERE, Split, Topology
from placement.domain.engine.wish import Near

COUNTED_MAX = 8
"""Domains in which members are counted out for a refusal."""


class Room(NamedTuple):
    """What there is for one decision: members by row, how many of them draw nothing more, and both by cell.

    ``powered``: no more than caps let draw at once.
    """

    seats: Ints
    light: Ints
    cells: Cells
    powered: int


class Found(NamedTuple):
    """A way, and why it: the domain taken and the next best."""

    chosen: Chosen
    best: Area
    second: Area | None


def near_enough(site: Site, near: Near, rows: Sequence[int]) -> bool:
    """Return whether members on such rows, in their order, are as near to each other as they must be."""
    if len(rows) == 1:
        return True
    if near.level and near.required:
        at = np.array(rows) if near.level == "node" else site.at(near.level)[list(rows)]
        if at[0] == NOWHERE or (at != at[0]).any():
            return False
    nvlink = site.at("nvlink")[list(rows)]
    for first in range(0, len(rows), near.segment) if near.segment > 1 else ():
        at = nvlink[first : first + near.segment]
        if len(at) > 1 and (at[0] == NOWHERE or (at != at[0]).any()):
            return False
    return True


class Nearest:
    """Looks for the nearest way, with such room."""

    def __init__(self, site: Site, topology: Topology, room: Room) -> None:
        self._site, self._topology, self._room = site, topology, room
        self._linked = topology.linked

    def way(self, near: Near, want: Want, reach: list[Reach]) -> Found | None:
        """Return the nearest way for all members to have seats, noting each level that was tried."""
        found = self._one_node(near.level if near.required else "", want, reach)
        if found is not None or (near.level == "node" and near.required):
            return found
        for split in self._topology.ladder(near.level, required=near.required):
            looked = survey(split, self._room.cells.seats, self._linked, want)
            ways = self._ways(looked, want) if self._room.powered >= want.members else iter(())
            chosen = next(ways, None)
            holds = int(np.count_nonzero(looked.holds)) if chosen else 0
            reach.append(Reach(split.level, len(split.code), holds, int(looked.most.max(initial=0))))
            if chosen:
                return self._told(looked, want, *chosen)
        return None

    def holds(self, near: Near, want: Want) -> bool:
        """Return whether there is any way for all members to have seats."""
        if near.level == "node" and near.required:
            return self._one_node("node", want, []) is not None
        split = self._topology.split(near.level if near.required else EVERYWHERE)
        return self._room.powered >= want.members and self._fits(near, split, want.members)

    def _fits(self, near: Near, split: Split, count: int) -> bool:
        """Return whether a domain of the widest level that will do has so many: it has whatever is nearer."""
        want = Want(count, min(near.segment, count))
        looked = survey(split, self._room.cells.seats, self._linked, want)
        return next(self._ways(looked, want), None) is not None

    def most(self, near: Near, limit: int) -> int:
        """Return how many members have their seats, up to a limit; 0 for none that is sure."""
        room, some = self._room, int(self._room.powered > 0)
        if near.level == "node" and near.required:
            return max(some, min(int(self._on_one(near.segment).max(initial=0)), limit))
        split = self._topology.split(near.level if near.required else EVERYWHERE)
        by_room = largest(split, room.cells.seats, self._linked, near.segment)
        bounds = np.minimum(by_room, caps.most(room.cells, split))
        bound = max(some, min(int(bounds.max(initial=0)), limit))
        if bound <= 1 or self._fits(near, split, bound):
            return bound
        count = some
        for domain in np.argsort(-bounds, kind="stable")[:COUNTED_MAX].tolist():
            if bounds[domain] > count:
                count = max(count, caps.greatest(room.cells, split, domain, near.segment))
        count = min(count, limit)
        while count + 1 < bound and self._fits(near, split, count + 1):
            count += 1
        return count

    def _one_node(self, required: str, want: Want, reach: list[Reach]) -> Found | None:
        """Return the fullest node that holds all, where one does."""
        seats, topology = self._room.seats, self._topology
        if not len(seats) or (required != "node" and seats.max() < want.members):
            return None
        seats = self._on_one(want.segment)
        if required and required != "node":
            seats = np.where(topology.at[required][topology.cell] == NOWHERE, 0, seats)
        holds = np.flatnonzero(seats >= want.members)
        reach.append(Reach("node", len(seats), len(holds), int(min(seats.max(), want.members))))
        if not len(holds):
            return None
        order = holds[np.argsort(seats[holds], kind="stable")]
        best, second = (self._node(seats, int(row), want) for row in order[[0, min(1, len(order) - 1)]])
        row = order[:1]
        chosen = Chosen(topology.cell[row], np.array([want.members]), np.zeros(1, np.int64), 0, row)
        return Found(chosen, best, second if len(order) > 1 else None)

    def _on_one(self, segment: int) -> Ints:
        """Return how many members, in such segments, each row has room for where no other takes any."""
        room, topology = self._room, self._topology
        seats = room.seats
        if room.cells.rooms:
            watts, rooms = room.cells.watts[topology.cell], room.cells.rooms
            by_row = [(domain[topology.cell], free) for domain, free in rooms]
            seats = caps.alone(seats, room.light, watts, by_row, room.cells.batch)
        if segment > 1:
            seats = np.where(self._linked[topology.island[topology.cell]], seats, 0)
        return seats

    def _node(self, seats: Ints, row: int, want: Want) -> Area:
        room = int(seats[row])
        return Area("node", self._site.specs[row].node, room, room - want.members, 1)

    def _ways(self, looked: Survey, want: Want) -> Iterator[tuple[int, Chosen]]:
        """Yield the domains that hold all members, best first, with the cells that take them."""
        split, cells = looked.split, self._room.cells
        most: Ints | None = None
        for domain in best_first(looked, want).tolist():
            if most is not None and most[domain] < want.members:
                continue
            blocks, members, rest = fewest(looked, domain, want)
            wanted = np.zeros(len(split.domain), np.int64)
            wanted[blocks] = members
            some = np.flatnonzero(wanted[split.block])
            at, block = split.cells[some], split.block[some]
            counts = wanted[block] if split.simple else spread(wanted, block, cells.seats[at])
            last = -1 if rest < 0 else int(blocks[rest])
            if not cells.rooms or caps.within(cells, at, counts):
                yield domain, Chosen(at, counts, block, last, None)
                continue
            most = caps.most(cells, split) if most is None else most
            if most[domain] < want.members:
                continue
            filled = caps.fill(cells, split, domain, want)
            if filled is not None:
                yield domain, Chosen(*filled, None)

    def _told(self, looked: Survey, want: Want, domain: int, chosen: Chosen) -> Found:
        """Return the way with why it, and the domain that comes next."""
        taken = chosen.block[chosen.counts > 0]
        best = self._area(looked, domain, int(np.count_nonzero(taken[1:] != taken[:-1])) + 1, want)
        order = best_first(looked, want)
        others = order[order != domain]
        if not len(others):
            return Found(chosen, best, None)
        other = int(others[0])
        return Found(chosen, best, self._area(looked, other, int(islands(looked, want)[other]), want))

    def _area(self, looked: Survey, domain: int, over: int, want: Want) -> Area:
        split = looked.split
        name = (
            "" if split.level == EVERYWHERE else self._topology.names[split.level][split.code[domain]]
        )
        room = int(looked.room[domain] if split.lone else looked.room[split.domain == domain].sum())
        return Area(split.level, name, room, room - want.members, over)
