"""Which nodes of a cell its members sit on, in which order, and on which cards."""

from typing import NamedTuple

import numpy as np

from placement.domain.engine.seating import Seats
from placement.domain.engine.site import Ints, Site
from placement.domain.engine.size import MILLI_PER_GPU, Size
from placement.domain.engine.spill import Want, spread, total
from placement.domain.engine.topology import Topology


class Chosen(NamedTuple):
    """Cells, by rising number, and how many members each takes.

    ``block`` int[of cells] says which of them share an NVLink domain; ``rest`` is the block whose last
    members are the gang's last (-1: none). ``row`` is the one node that takes all, where it is one.
    """

    cells: Ints
    counts: Ints
    block: Ints
    rest: int
    row: Ints | None


def sit(
    site: Site,
    topology: Topology,
    size: Size,
    want: Want,
    chosen: Chosen,
    *,
    seats: Ints,
    light: Ints,
    bias: Ints | None,
) -> Seats:
    """Return the seats of a gang: in each cell the fullest nodes that have room, the first of equals.

    Members that have an NVLink domain in common follow each other, and so do those of a node.
    """
    if chosen.row is not None:
        rows, counts = chosen.row, chosen.counts
    else:
        rows, counts = _rows(topology, chosen, seats, light, bias)
    cards = _cards(site, size, rows, counts)
    members = np.repeat(rows, counts)
    if want.rest and want.whole and chosen.row is None:
        # The rest comes last, behind all whole segments.
        of_cell = np.zeros(topology.cells, np.int64)
        of_cell[chosen.cells] = chosen.block
        block = of_cell[topology.cell[members]]
        end = int(np.flatnonzero(block == chosen.rest)[-1]) + 1
        order = np.arange(len(members))
        order = np.concatenate((order[: end - want.rest], order[end:], order[end - want.rest : end]))
        members, cards = members[order], cards[order]
    return Seats(members, cards, size.milli_each)


def _rows(
    topology: Topology, chosen: Chosen, seats: Ints, light: Ints, bias: Ints | None
) -> tuple[Ints, Ints]:
    """Return the rows that are taken, by cell and number, and how many members sit on each."""
    group_of = np.full(topology.cells, -1, np.int64)
    group_of[chosen.cells] = np.arange(len(chosen.cells))
    rows = topology.rows
    group = group_of[topology.cell[rows]]
    some = (group >= 0) & (seats[rows] > 0)
    rows, group = rows[some], group[some]
    room = seats[rows]
    if bias is not None or room.min(initial=0) != room.max(initial=0):
        liked = np.zeros_like(rows) if bias is None else bias[rows]
        order = np.lexsort((rows, room, liked, group))
        rows, group, room = rows[order], group[order], room[order]
    # Those that wake no GPU first: the watts of the others are what caps were asked for.
    asleep = np.minimum(light[rows], room)
    first = np.minimum(chosen.counts, total(group, asleep, len(chosen.counts)))
    counts = spread(first, group, asleep)
    counts += spread(chosen.counts - first, group, room - counts)
    used = counts > 0
    rows, group, counts = rows[used], group[used], counts[used]
    order = np.lexsort((rows, group))
    return rows[order], counts[order]


def _cards(site: Site, size: Size, rows: Ints, counts: Ints) -> Ints:
    """Return each member's cards: whole ones first to last, for a share the fullest that has room."""
    free = site.free[rows]
    if size.gpus:
        at, card = np.nonzero(free >= MILLI_PER_GPU)
        rank = np.arange(len(at)) - np.searchsorted(at, np.arange(len(rows)))[at]
        return card[rank < (counts * size.gpus)[at]].reshape(-1, size.gpus)
    if not size.gpu_milli:
        return np.zeros((int(counts.sum()), 0), np.int64)
    found = []
    for left, count in zip(free.tolist(), counts.tolist(), strict=True):
        for _ in range(count):
            _, best = min((milli, at) for at, milli in enumerate(left) if milli >= size.gpu_milli)
            left[best] -= size.gpu_milli
            found.append(best)
    return np.array(found, np.int64).reshape(-1, 1)
