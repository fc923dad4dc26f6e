"""Moves that make room for members of one size: few, each possible when its turn comes, shown before any is made."""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from placement.domain.engine.choose import NoChoice
from placement.domain.engine.engine import Engine, Holding
from placement.domain.engine.fair import amount
from placement.domain.engine.fit import fit
from placement.domain.engine.gang import gathers
from placement.domain.engine.mig import MASKS, table
from placement.domain.engine.prefer import bias
from placement.domain.engine.room import ROOM, Left, counts, members
from placement.domain.engine.site import NOBODY, Ints, Part, Site
from placement.domain.engine.size import MILLI_PER_GPU, Size, Terms
from placement.domain.engine.wish import Moved

MOVES_MAX = 32
"""Moves of one plan, where the caller does not say fewer."""
TRIED_MAX = 256
"""Nodes that a plan tries to clear."""
FORBIDDEN = 1 << 60
"""What a seat costs that must not be taken."""


class Plan(NamedTuple):
    """``moves`` in order, and how many members of the size fit on the site before and after them.

    ``gain_milli`` are the thousandths of GPUs that they make usable for the size.
    """

    moves: tuple[Moved, ...]
    before: int
    after: int
    gain_milli: int


class _Goal(NamedTuple):
    """For members of which size, on which terms; with the isolation ``node`` each where nobody is, as a lease's are."""

    size: Size
    terms: Terms

    @property
    def alone(self) -> bool:
        """Whether a node counts only while it is empty."""
        return self.terms.isolation == "node"

    def taken(self, site: Site) -> Ints:
        """Return how many such members each node takes: int[row]."""
        found = members(site, self.size, self.terms)
        return np.where(site.tenant[: site.rows] == NOBODY, found, 0) if self.alone else found


class _Seated(NamedTuple):
    """One member that may move: of which workload, which of it, where it sits."""

    holding: Holding
    member: int
    part: Part


def plan(engine: Engine, size: Size, terms: Terms | None = None, *, moves_max: int = MOVES_MAX) -> Plan:
    """Return moves after which more members of ``size`` fit; the engine stays as it is.

    With the isolation ``node`` in ``terms`` whole nodes are emptied: a member fits where nobody is at all.

    Each move is an input that the engine takes as it is by then: the member fits where it goes while it still
    holds what it had, so that nothing is broken on the way. Replicas of endpoints move: their successors can
    answer before they end. Leases stay, and jobs, which would lose what they computed. The nodes are cleared
    first that take the fewest moves; no move makes another node take fewer members of the size.
    """
    goal = _Goal(size, terms or Terms())
    before = int(goal.taken(engine.site).sum())
    trial = engine.copy()
    moves: list[Moved] = []
    targets = _targets(trial, goal)
    for _ in range(TRIED_MAX):
        if not targets:
            break
        needed, row = heappop(targets)
        leaving = _leaving(trial.site, row, _movable(trial, goal, row).get(row, []), goal)
        if len(leaving) > needed:
            # Others have moved here since: those go first that still take fewer.
            heappush(targets, (len(leaving), row))
        elif 0 < len(leaving) <= moves_max - len(moves):
            cleared = _cleared(trial, row, leaving, goal)
            if cleared is not None:
                trial, made = cleared
                moves += made
    after = int(goal.taken(trial.site).sum())
    return Plan(tuple(moves), before, after, amount(size, after - before).gpu)


def _targets(engine: Engine, goal: _Goal) -> list[tuple[int, int]]:
    """Return the rows that moves could make take one member more, as a heap: the fewest moves first."""
    site = engine.site
    may = fit(site, goal.size, goal.terms, site.every) & ~ROOM == 0
    found = []
    for row, seated in _movable(engine, goal).items():
        if may[row]:
            leaving = _leaving(site, row, seated, goal)
            if leaving:
                found.append((len(leaving), row))
    return sorted(found)


def _movable(engine: Engine, goal: _Goal, only: int | None = None) -> dict[int, list[_Seated]]:
    """Return by row (all, or only one) the members that may move, in the order in which they were placed.

    None of a node that is to be empty and has one that may not.
    """
    found: dict[int, list[_Seated]] = {}
    stays = set[int]()
    rows = np.full(engine.site.rows, only is None)
    if only is not None:
        rows[only] = True
    for workload in engine.ends.on(rows):
        holding = engine.holdings[workload]
        wish = holding.wish
        if wish.kind == "endpoint" and not gathers(wish):
            for member, part in enumerate(holding.parts):
                if rows[part.row]:
                    found.setdefault(part.row, []).append(_Seated(holding, member, part))
        elif goal.alone:
            stays.update(part.row for part in holding.parts)
    return {row: seated for row, seated in found.items() if row not in stays}


def _leaving(site: Site, row: int, seated: Sequence[_Seated], goal: _Goal) -> list[_Seated]:
    """Return members without whom a node takes one member of the size more: one where one is enough, else few."""
    size = goal.size
    if goal.alone:
        return list(seated) if _left_without(site, row, seated, size) else []
    wanted = _left_without(site, row, (), size) + 1
    alone = [one for one in seated if _left_without(site, row, (one,), size) >= wanted]
    if alone:
        return [min(alone, key=lambda one: one.holding.wish.size.milli)]
    leaving = sorted(seated, key=lambda one: -one.holding.wish.size.milli)
    if _left_without(site, row, leaving, size) < wanted:
        return []
    for one in tuple(leaving):
        others = [other for other in leaving if other is not one]
        if _left_without(site, row, others, size) >= wanted:
            leaving = others
    return leaving


def _left_without(site: Site, row: int, leaving: Sequence[_Seated], size: Size) -> int:
    """Return how many members of a size a node takes once some have left."""
    free = (site.slices if size.mig else site.free)[row].tolist()
    cpu, memory, slots = int(site.cpu[row]), int(site.memory[row]), int(site.slots[row])
    for one in leaving:
        for card in one.part.cards if free else ():
            free[card] += one.part.slices if size.mig else one.part.milli_each
        cpu += one.holding.wish.size.cpu_milli
        memory += one.holding.wish.size.memory_mib
        slots += 1
    fits = slots
    if size.mig:
        at, count = int(site.geometry[row]) * MASKS, table(size.mig).fits
        fits = min(fits, sum(int(count[at + left]) for left in free))
    elif size.cards:
        each = size.milli_each
        fits = min(fits, sum([left // each for left in free]) // size.cards)
    if size.cpu_milli:
        fits = min(fits, cpu // size.cpu_milli)
    if size.memory_mib:
        fits = min(fits, memory // size.memory_mib)
    return max(0, fits)


def _cleared(
    engine: Engine, row: int, leaving: Sequence[_Seated], goal: _Goal
) -> tuple[Engine, list[Moved]] | None:
    """Return the site with some gone from a node, and the moves; ``None`` where one cannot go elsewhere."""
    before = goal.taken(engine.site)
    trial = engine
    moves: list[Moved] = []
    for one in leaving:
        part = _elsewhere(trial, one, goal)
        if part is None:
            return None
        if trial is engine:
            trial = engine.copy()
        (seat,) = trial.seats((part,))
        moves.append(Moved(workload=one.holding.wish.workload, member=one.member, to=seat))
        trial.apply(moves[-1])
    after = goal.taken(trial.site)
    return (trial, moves) if after[row] > before[row] and (after >= before).all() else None


def _elsewhere(engine: Engine, one: _Seated, goal: _Goal) -> Part | None:
    """Return the best other seat of a member that costs no node a member of the size; ``None`` for none."""
    site, wish = engine.site, one.holding.wish
    rows = site.every
    scored = engine.views.of(wish.size, wish.terms).scored
    left = _left_beside(site, wish.size, scored.card, goal.size)
    cpu, memory = site.cpu[rows] - wish.size.cpu_milli, site.memory[rows] - wish.size.memory_mib
    after = counts(site, goal.size, Left(left, cpu, memory, site.slots[rows] - 1))
    costs = np.where((0 if goal.alone else after) < goal.taken(site), FORBIDDEN, 0)
    costs[[one.part.row, *(site.row_of[node] for node in wish.avoid if node in site.row_of)]] = (
        FORBIDDEN
    )
    crowd = bias(site, wish, engine.groups.get(wish.group))
    if crowd is not None:
        costs += crowd
    chosen = engine.chooser.choose(wish.size, wish.terms, bias=costs)
    if isinstance(chosen, NoChoice) or costs[chosen.part.row] >= FORBIDDEN:
        return None
    return chosen.part


def _left_beside(site: Site, size: Size, card: Ints, goal: Size) -> Ints:
    """Return what one member more leaves of each row's cards for members of the goal: milli, or slices as bits."""
    rows = site.every
    if goal.mig:
        left = site.slices[rows]
        if size.mig:
            mine = left[rows, card]
            taken = table(size.mig).taken.take(site.geometry[rows] * MASKS + mine)
            left[rows, card] = mine & ~taken
        return left
    free = site.free[rows]
    left = free.copy()
    if size.gpus:
        whole = free >= MILLI_PER_GPU
        left[whole & (whole.cumsum(1) <= size.gpus)] = 0
    elif size.gpu_milli:
        left[rows, card] -= size.gpu_milli
    return left
