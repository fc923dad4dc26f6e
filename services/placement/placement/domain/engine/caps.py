"""Seating a gang where power caps bind all of its members together: one NVLink domain after the other.

Caps nest, so that within one domain whatever is taken first leaves as much for the rest as anything else
would: taking greedily fails only where nothing else does, as long as the watts of a member are equal, or
the lightest are taken first. See ``fill`` for where that ends.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from placement.domain.engine.capacity import MEMBERS_MAX
from placement.domain.engine.site import Bools, Ints
from placement.domain.engine.spill import Want, total
from placement.domain.engine.topology import Split

REST_VISITS_MAX = 512
"""NVLink domains that are looked at, in all tries together, where a rest finds no place after all segments."""


class Cells(NamedTuple):
    """What gangs are seated by, one a cell: ``seats`` in members, as far as caps let a cell alone draw.

    ``light`` of them wake no GPU, of the others each ``batch`` draw ``watts`` more. ``rooms`` are, for each
    level with caps, the domain of each cell, and the watts each domain may add; its last is for cells in none.
    """

    seats: Ints
    light: Ints
    watts: Ints
    linked: Bools
    rooms: tuple[tuple[Ints, Ints], ...]
    batch: int = 1


def within(cells: Cells, at: Ints, counts: Ints) -> bool:
    """Return whether all caps let so many members draw together; ``counts`` int[of at], of cells ``at``."""
    draw = cells.watts[at] * -(np.minimum(0, cells.light[at] - counts) // cells.batch)
    for domain, room in cells.rooms:
        # What is in no domain counts as the last, which has room without end.
        if (total(domain[at] + 1, draw, len(room))[1:] > room[:-1]).any():
            return False
    return True


PAIRS_MAX = 1 << 14
"""Pairs of domains that ``most`` looks at; of more it says no more than what there is room for."""


def most(cells: Cells, split: Split) -> Ints:
    """Return more members than each domain can have under all caps, or as many: int[domain]."""
    domain = split.domain[split.block]
    seats, light, watts = (one[split.cells] for one in (cells.seats, cells.light, cells.watts))
    found = total(domain, seats, len(split.code))
    alike = split.simple and split.lone
    if alike or not len(watts) or not watts.min():
        # What caps let one cell have is in its seats already.
        return found
    for at, room in cells.rooms:
        if len(split.code) * len(room) > PAIRS_MAX:
            continue
        # One place for each pair of a domain here and one there; what is in none there is in its last.
        places = len(split.code) * len(room)
        pair = domain * len(room) + at[split.cells] % len(room)
        least = np.tile(np.maximum(room, 0) // watts.min() * cells.batch, len(split.code))
        capped = np.minimum(total(pair, seats, places), total(pair, light, places) + least)
        np.minimum(found, capped.reshape(len(split.code), -1).sum(1), out=found)
    return found


def alone(
    seats: Ints, light: Ints, watts: Ints, rooms: Sequence[tuple[Ints, Ints]], batch: int
) -> Ints:
    """Return how many of ``seats`` each cell has where no other draws more: int[cell]."""
    # A terawatt is no cap, and what is reckoned with it stays within 64 bits.
    least = np.full(len(seats), 1 << 40, np.int64)
    for domain, room in rooms:
        np.minimum(least, room[domain], out=least)
    most = light + np.where(watts > 0, least // np.maximum(watts, 1) * batch, seats)
    return np.where(least < 0, 0, np.minimum(seats, most))


def fill(cells: Cells, split: Split, domain: int, want: Want) -> tuple[Ints, Ints, Ints, int] | None:
    """Return the cells of a domain that take the gang under all caps, and how many members each.

    Also the block of each cell, and the one that has the rest (-1: none). Finds a way where there is one
    if NVLink domains are each inside one domain of every level that has caps, or the other way round; if
    within an NVLink domain GPUs draw alike; and, of shares of a GPU, for those that need be in no segment.
    Beyond that it may miss one, but what it finds keeps every cap.
    """
    for at, block, order, filling in _fillings(cells, split, domain):
        rest = filling.run(want)
        if rest is not None:
            counts = np.array(filling.counts)
            back = np.argsort(order, kind="stable")
            counts = counts[back]
            some = counts > 0
            return at[some], counts[some], block[some], rest
    return None


def greatest(cells: Cells, split: Split, domain: int, segment: int) -> int:
    """Return how many members a domain takes under all caps: segments as many as may be, then a rest.

    All segments there are; a larger rest may be had where others of them are taken.
    """
    return max((one.most(segment) for *_, one in _fillings(cells, split, domain)), default=0)


def _fillings(cells: Cells, split: Split, domain: int) -> Iterator[tuple[Ints, Ints, Ints, "_Filling"]]:
    """Yield a domain to be filled in each order worth trying, with its cells, their blocks, and the order.

    The roomiest NVLink domains come first; then, if GPUs draw differently, the lightest.
    """
    at, block = split.cells, split.block
    some = (split.domain[block] == domain) & (cells.seats[at] > 0)
    at, block = at[some], block[some]
    if not len(at):
        return
    room = total(block - block[0], cells.seats[at], int(block[-1] - block[0]) + 1)[block - block[0]]
    watts = cells.watts[at]
    near = cells.linked[split.island[block]]
    orders = [np.lexsort((block, -room))]
    if watts.min() != watts.max():
        orders.append(np.lexsort((block, -room, watts)))
    for order in orders:
        yield at, block, order, _Filling(cells, at[order], block[order].tolist(), near[order].tolist())


class _Filling:
    """One domain being filled; plain numbers, for there are few steps and each depends on the last."""

    def __init__(self, cells: Cells, at: Ints, blocks: list[int], near: list[bool]) -> None:
        self._seats: list[int] = cells.seats[at].tolist()
        self._light: list[int] = cells.light[at].tolist()
        self._watts: list[int] = cells.watts[at].tolist()
        self._domains: list[list[int]] = [domain[at].tolist() for domain, _ in cells.rooms]
        self._full: list[list[int]] = [room.tolist() for _, room in cells.rooms]
        self._batch = cells.batch
        self._near = dict(zip(blocks, near, strict=True))
        self._cells: dict[int, list[int]] = {}
        self._has_room = dict.fromkeys(blocks, 0)
        for index, block in enumerate(blocks):
            self._cells.setdefault(block, []).append(index)
            self._has_room[block] += self._seats[index]
        self._clear()

    def _clear(self) -> None:
        self.counts = [0] * len(self._seats)
        self._rooms = [room.copy() for room in self._full]

    def run(self, want: Want) -> int | None:
        """Have ``counts`` be the gang's; return the block of the rest (-1: none), ``None`` for no way."""
        if not self._whole(want):
            return None
        if not want.rest:
            return -1
        for block in self._cells:
            if self._rest(block, want):
                return block
        for block in list(self._cells)[: REST_VISITS_MAX // len(self._cells)]:
            self._clear()
            if self._rest(block, want) and self._whole(want):
                return block
        return None

    def most(self, segment: int) -> int:
        """Return how many members there is room for, segments first."""
        whole = sum(
            self._take(block, MEMBERS_MAX, segment)
            for block in self._cells
            if (segment == 1 or self._near[block]) and self._has_room[block] >= segment
        )
        if segment == 1:
            return whole
        rest = 0
        for block in self._cells:
            before = [(index, self.counts[index]) for index in self._cells[block]]
            rest = max(rest, self._take(block, segment - 1 if self._near[block] else 1, 1))
            if rest == segment - 1:
                break
            for index, count in before:
                self._add(index, count - self.counts[index])
        return whole + rest

    def _whole(self, want: Want) -> bool:
        missing = want.whole * want.segment
        for block in self._cells:
            if not missing:
                break
            if self._has_room[block] < want.segment:
                continue
            if want.segment == 1 or self._near[block]:
                missing -= self._take(block, missing, want.segment)
        return not missing

    def _rest(self, block: int, want: Want) -> bool:
        if self._has_room[block] < want.rest or (not self._near[block] and want.rest > 1):
            return False
        return self._take(block, want.rest, want.rest) == want.rest

    def _take(self, block: int, most: int, step: int) -> int:
        """Take what a block has for up to ``most``, in steps; return how many that are."""
        total, taken = 0, []
        for index in self._cells[block]:
            count = min(most - total, self._has(index))
            if count:
                self._add(index, count)
                taken.append((index, count))
                total += count
        beyond = total % step
        total -= beyond
        for index, count in reversed(taken):
            if not beyond:
                break
            back = min(beyond, count)
            self._add(index, -back)
            beyond -= back
        return total

    def _has(self, index: int) -> int:
        left = self._seats[index] - self.counts[index]
        watts = self._watts[index]
        if not watts or not left:
            return left
        least = min(
            room[domain[index]] for domain, room in zip(self._domains, self._rooms, strict=True)
        )
        # Without more watts: who wakes no GPU, and who shares one that is woken already.
        light = self._light[index] - self.counts[index]
        light = light if light > 0 else light % self._batch
        return min(left, light + least // watts * self._batch)

    def _add(self, index: int, count: int) -> None:
        woken = self._woken(index)
        self.counts[index] += count
        draw = (self._woken(index) - woken) * self._watts[index]
        if draw:
            for domain, room in zip(self._domains, self._rooms, strict=True):
                room[domain[index]] -= draw

    def _woken(self, index: int) -> int:
        return -(min(0, self._light[index] - self.counts[index]) // self._batch)
