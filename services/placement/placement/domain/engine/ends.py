"""What would come free if a workload ended: one line for each workload and each node it is on.

Kept as columns, so that the workload worth least whose end admits another is found among tens of thousands
without a loop over them.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from typing import NamedTuple

import numpy as np

from placement.domain.engine.site import Bools, Ints, Part
from placement.domain.engine.wish import Wish

LINES_FIRST = 64
UNSORTED_MAX = 1_024
"""Lines that are looked at apart before all are sorted anew."""
BATCH_FIRST = 512
COLUMNS = (
    "row",
    "cards",
    "card",
    "milli_each",
    "cpu",
    "memory",
    "members",
    "all_cards",
    "slices",
    "priority",
    "cost",
)
ENDED = -1
"""The row of a line whose workload holds nothing any more."""
SEVERAL = -1
"""The card (and the slices) of a line that holds more than one share or instance of its node, or none."""


class Ends:
    """Lines in the order in which workloads were placed.

    ``row``: the node's. ``cards``: on how many of its cards the workload sits, ``card`` on which where it
    is a share or an instance of one, ``milli_each`` of each. ``slices``: those of its instance, as bits; none of its
    ``cards`` comes free then. ``cpu``, ``memory``, ``members``: what it holds there.
    ``all_cards``: on how many cards it sits on all nodes. ``priority``, ``cost``: what its end costs.
    """

    def __init__(self) -> None:
        self._lines: Ints = np.zeros((len(COLUMNS), LINES_FIRST), np.int64)
        self._lines[0] = ENDED
        self._workloads: list[str] = []
        self._at: dict[str, tuple[int, int]] = {}
        self._ended = 0
        # Lines in order of worth, as far as they were sorted; those that ended since stay in it.
        self._order: Ints = np.zeros(0, np.int64)
        self._sorted = 0

    def copy(self) -> "Ends":
        """Return the same; what becomes of either does not touch the other."""
        copy = Ends()
        copy._lines, copy._workloads = self._lines.copy(), self._workloads.copy()
        copy._at, copy._ended = self._at.copy(), self._ended
        copy._order, copy._sorted = self._order.copy(), self._sorted
        return copy

    def note(self, wish: Wish, parts: Sequence[Part]) -> None:
        """Know a workload that has its seats."""
        size, first = wish.size, len(self._workloads)
        total = size.cards * len(parts)
        there: dict[int, tuple[int, int, int]] = {}
        for part in parts:
            count = there[part.row][0] + 1 if part.row in there else 1
            alone = count == 1 and (size.gpu_milli or size.mig)
            slices = part.slices if count == 1 else SEVERAL
            there[part.row] = (count, part.cards[0] if alone else SEVERAL, slices)
        while first + len(there) > self._lines.shape[1]:
            self._grow()
        for at, (row, (count, card, slices)) in enumerate(there.items(), first):
            self._lines[:, at] = (
                *(row, 0 if size.mig else size.cards * count, card, size.milli_each),
                *(size.cpu_milli * count, size.memory_mib * count, count, total),
                slices if size.mig else 0,
                *(wish.priority, wish.restart_cost),
            )
            self._workloads.append(wish.workload)
        self._at[wish.workload] = (first, len(self._workloads))

    def forget(self, workload: str) -> None:
        """Know that a workload holds nothing any more."""
        first, end = self._at.pop(workload)
        self._lines[0, first:end] = ENDED
        self._ended += end - first
        if self._ended > LINES_FIRST and 2 * self._ended > len(self._workloads):
            self._compact()

    def lines(self) -> "Lines":
        """Return the columns, ended lines among them (see ``ENDED``)."""
        return Lines(*self._lines[:, : len(self._workloads)])

    def by_worth(self, among: Callable[[Ints], Bools]) -> Iterator[tuple[int, str]]:
        """Yield the lines that ``among`` picks, and their workloads: those first that are worth least.

        That is the lowest priority, then the least restart cost, the fewest GPU-milli, the last placed. What was placed
        since the lines were last sorted is looked at apart; of the others no more than it takes.
        """
        if len(self._workloads) - self._sorted > UNSORTED_MAX:
            self._sort()
        new = np.arange(self._sorted, len(self._workloads))
        for line in merge(self._old(among), self._in_order(new[among(new)]).tolist(), key=self._worth):
            yield line, self._workloads[line]

    def on(self, rows: Bools) -> list[str]:
        """Return the workloads on nodes of which ``rows`` is true, in the order in which they were placed."""
        there = self._lines[0, : len(self._workloads)]
        found = np.flatnonzero((there != ENDED) & rows[there])
        return list(dict.fromkeys(self._workloads[line] for line in found.tolist()))

    def _old(self, among: Callable[[Ints], Bools]) -> Iterator[int]:
        """Yield sorted lines in order, looked at in batches that grow: mostly one of the first few will do."""
        first, batch = 0, BATCH_FIRST
        while first < len(self._order):
            lines = self._order[first : first + batch]
            yield from lines[among(lines)].tolist()
            first, batch = first + batch, 4 * batch

    def _in_order(self, lines: Ints) -> Ints:
        priority, cost, milli = self._worths(lines)
        return lines[np.lexsort((-lines, milli, cost, priority))]

    def _worth(self, line: int) -> tuple[int, int, int, int]:
        priority, cost, milli = self._worths(np.array([line]))
        return int(priority[0]), int(cost[0]), int(milli[0]), -line

    def _worths(self, lines: Ints) -> tuple[Ints, Ints, Ints]:
        known = self.lines()
        milli = known.all_cards[lines] * known.milli_each[lines]
        return known.priority[lines], known.cost[lines], milli

    def _sort(self) -> None:
        there = np.flatnonzero(self.lines().row != ENDED)
        self._order, self._sorted = self._in_order(there), len(self._workloads)

    def _grow(self) -> None:
        before = self._lines
        self._lines = np.zeros((len(COLUMNS), 2 * before.shape[1]), np.int64)
        self._lines[0] = ENDED
        self._lines[:, : before.shape[1]] = before

    def _compact(self) -> None:
        """Leave ended lines out; those that stay keep their order."""
        stays = np.flatnonzero(self._lines[0] != ENDED)
        workloads = [self._workloads[at] for at in stays.tolist()]
        self._lines[:, : len(stays)] = self._lines[:, stays]
        self._lines[0, len(stays) :] = ENDED
        self._workloads, self._ended = workloads, 0
        self._order, self._sorted = self._order[:0], 0
        self._at = {}
        for at, workload in enumerate(workloads):
            first = self._at.get(workload, (at, at))[0]
            self._at[workload] = (first, at + 1)


class Lines(NamedTuple):
    """The columns of ``Ends``: int[line] each."""

    row: Ints
    cards: Ints
    card: Ints
    milli_each: Ints
    cpu: Ints
    memory: Ints
    members: Ints
    all_cards: Ints
    slices: Ints
    priority: Ints
    cost: Ints
