"""Members on their nodes, one or all of a workload: what they hold, draw and keep to themselves.

Of many at once, each step checks before it writes, and what is written is taken back where a later step
fails: a gang has all of its seats or none, also when something raises.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import repeat
from typing import NamedTuple

import numpy as np

from placement.domain.engine.power import Power
from placement.domain.engine.site import Ints, Part, Site
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.tenancy import Tenancy
from placement.domain.engine.wish import Wish


class Seats(NamedTuple):
    """Where members sit: ``rows`` int[member], ``cards`` int[member, card of it], milli of each card."""

    rows: Ints
    cards: Ints
    milli_each: int

    def parts(self) -> tuple[Part, ...]:
        """Return the same, one a member."""
        cards = map(tuple, self.cards.tolist())
        return tuple(map(Part, self.rows.tolist(), cards, repeat(self.milli_each)))


def equal(parts: Sequence[Part]) -> bool:
    """Return whether there are several, and each holds as much as the first: these are taken at once.

    Instances are not: each has a place of its own on its GPU.
    """
    if len(parts) < 2 or parts[0].slices:
        return False
    first = (len(parts[0].cards), parts[0].milli_each)
    return all((len(part.cards), part.milli_each) == first for part in parts)


def seats_of(parts: Sequence[Part]) -> Seats:
    """Return where parts are."""
    rows = np.array([part.row for part in parts], np.int64)
    cards = np.array([part.cards for part in parts], np.int64).reshape(len(parts), -1)
    return Seats(rows, cards, parts[0].milli_each)


class Seating:
    """Takes seats of one site, and gives them back. ``groups`` counts the members of each group by row."""

    def __init__(
        self, site: Site, power: Power, tenancy: Tenancy, groups: dict[str, dict[int, int]]
    ) -> None:
        self._site, self._power, self._tenancy, self._groups = site, power, tenancy, groups

    def sit(self, wish: Wish, part: Part) -> None:
        """Have a member be there: whether it fits is not asked, its node may be closed by now."""
        site, row = self._site, part.row
        before = int(site.taken[row])
        site.take(wish.size, part)
        self._power.add(row, (int(site.taken[row]) - before) * int(site.gpu_w[row]))
        self._tenancy.enter(row, wish.terms)
        if wish.group:
            self._join(wish, np.array([row]), np.array([1]))

    def stand(self, wish: Wish, part: Part) -> None:
        """Have a member be there no more."""
        site, row = self._site, part.row
        before = int(site.taken[row])
        site.give(wish.size, part)
        self._power.add(row, (int(site.taken[row]) - before) * int(site.gpu_w[row]))
        self._tenancy.leave(row, wish.terms)
        if wish.group:
            self._join(wish, np.array([row]), np.array([-1]))

    def enter(self, wish: Wish, seats: Seats, *, back: bool = False) -> None:
        """Have members sit there. Raises, with nothing changed, where one does not fit.

        Who comes ``back`` to where it sat fits as it did: its nodes may have become less than it takes.
        """
        rows, counts = _by_row(seats.rows)
        with ExitStack() as undo:
            self._move(wish, seats, rows, counts, take=True, back=back)
            undo.callback(self._move, wish, seats, rows, counts, take=False)
            self._tenancy.enter_all(rows, counts, wish.terms)
            undo.callback(self._tenancy.leave_all, rows, counts, wish.terms)
            if wish.group:
                self._join(wish, rows, counts)
            undo.pop_all()

    def leave(self, wish: Wish, seats: Seats) -> None:
        """Have members sit there no more."""
        rows, counts = _by_row(seats.rows)
        self._move(wish, seats, rows, counts, take=False)
        self._tenancy.leave_all(rows, counts, wish.terms)
        if wish.group:
            self._join(wish, rows, -counts)

    def _join(self, wish: Wish, rows: Ints, counts: Ints) -> None:
        """Count members of the wish's group on some rows, or (negative) count them no more."""
        group = self._groups.get(wish.group, {}).copy()
        for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
            group[row] = group.get(row, 0) + count
            if not group[row]:
                del group[row]
        if group:
            self._groups[wish.group] = group
        else:
            del self._groups[wish.group]

    def _move(
        self, wish: Wish, seats: Seats, rows: Ints, counts: Ints, *, take: bool, back: bool = False
    ) -> None:
        """Take, or give back, what members hold of ``rows``; ``counts`` of them sit on each."""
        site, size = self._site, wish.size
        sign = -1 if take else 1
        free = site.free[rows]
        before = free == MILLI_PER_GPU
        if seats.cards.shape[1]:
            at = np.searchsorted(rows, seats.rows)[:, None]
            np.add.at(free, (at, seats.cards), sign * seats.milli_each)
        cpu = site.cpu[rows] + sign * size.cpu_milli * counts
        memory = site.memory[rows] + sign * size.memory_mib * counts
        slots = site.slots[rows] + sign * counts
        assert free.min() >= 0, "what is applied fits"
        assert free.max() <= MILLI_PER_GPU
        if take and not back:
            assert min(cpu.min(), memory.min(), slots.min()) >= 0, "what is applied fits"
        woken = before.sum(1) - (free == MILLI_PER_GPU).sum(1)
        site.cpu[rows], site.memory[rows], site.slots[rows] = cpu, memory, slots
        site.leave_free(rows, free)
        site.taken[rows] += woken
        self._power.add_all(rows, woken * site.gpu_w[rows])
        site.touch_all(rows.tolist())


def _by_row(rows: Ints) -> tuple[Ints, Ints]:
    """Return each row once, in order, and how often it was there."""
    if (rows[1:] > rows[:-1]).all():
        return rows, np.ones(len(rows), np.int64)
    found, counts = np.unique(rows, return_counts=True)
    return found, counts
