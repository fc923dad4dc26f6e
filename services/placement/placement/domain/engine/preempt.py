"""Who makes way for a wish at the least cost of restarts: whole workloads, and none that need not.

Room is priced (``prices``), the cheapest candidates are pared to what is needed, and what is returned has been
tried: with exactly these gone, the site admits the wish. Where few can make way, every choice cheaper than
that is tried too.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from placement.domain.engine.gang import Gangs, NoGang, alike
from placement.domain.engine.rooms import Rooms
from placement.domain.engine.site import Bools, Ints
from placement.domain.engine.trial import Trial
from placement.domain.engine.wish import Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine, Holding

May = Callable[["Holding", int], int | None]
"""What it costs to preempt a workload at a time; ``None``: it may not be."""

CANDIDATES_MAX = 3
"""Candidates that are tried on the site, the cheapest first."""
SPARED_MAX = 4
"""Of the victims of one, how many it is tried to spare on the site where counts alone may err, the dearest first."""
EXTENDED_MAX = 16
"""The same, where no candidate did and victims were added."""
EXACT_MAX = 8
"""Up to so many who can make way, every choice is looked at."""
HARD = -1
"""The cost of who may not be preempted."""


class Plan(NamedTuple):
    """Who makes way, in the order in which they came, and what that costs."""

    victims: tuple[str, ...]
    cost: int


def lower(wish: Wish) -> May:
    """Return what is usual: whoever is preemptible, of lower priority, and has run as long as it was promised."""

    def cost(holding: "Holding", now: int) -> int | None:
        other = holding.wish
        ran = now - holding.at >= other.min_run_ms
        return (
            other.restart_cost if other.preemptible and other.priority < wish.priority and ran else None
        )

    return cost


def plan(
    engine: "Engine",
    wish: Wish,
    may: May | None,
    now: int,
    among: Iterable[str] | None = None,
    *,
    missed: bool = False,
) -> Plan | None:
    """Return whom to preempt so that the wish has its seats; nobody where it has them anyway.

    ``None`` where that is so with nobody's going, or the search finds no way. ``may`` is asked once about
    everybody, or about those ``among`` whom they must be; without it, it is ``lower``. ``missed``: that it has no seats
    of what is free is known. Nothing is changed.
    """
    wish = alike(wish)
    trial = Trial(engine)
    if not missed and engine.gangs.admits(wish):
        return Plan((), 0)
    costs = _costs(trial, wish, may, now, engine.holdings if among is None else among)
    soft = costs != HARD
    if not soft.any():
        return None
    best = _cheapest(trial, engine.gangs, wish, costs)
    if np.count_nonzero(soft) <= EXACT_MAX:
        best = _exact(trial, wish, costs, best)
    if best is None:
        return None
    return Plan(tuple(trial.roster.those(best)), int(costs[best].sum()))


def _costs(trial: Trial, wish: Wish, may: May | None, now: int, among: Iterable[str]) -> Ints:
    """Return what it costs to preempt each holder: int[holder]."""
    roster = trial.roster
    if may is None:
        soft = (roster.of("preemptible") != 0) & (roster.of("priority") < wish.priority)
        soft &= (roster.of("until") <= now) & roster.here
        return np.where(soft, roster.of("cost"), HARD)
    found = np.full(len(roster.names), HARD, np.int64)
    for workload in among:
        cost = may(trial.holdings[workload], now)
        if cost is not None:
            found[roster.number(workload)] = cost
    return found


def _cheapest(trial: Trial, gangs: Gangs, wish: Wish, costs: Ints) -> Bools | None:
    """Return the cheapest of the candidates that the site admits; ``None`` where there is no way at all."""
    soft = costs != HARD
    all_gone = trial.without(soft)
    rooms = Rooms(trial.site, trial.roster, gangs, all_gone=all_gone, wish=wish, costs=costs)
    found = [rooms.pare(gone) for gone in rooms.candidates()]
    found.sort(key=lambda gone: int(costs[gone].sum()))
    for gone in found[:CANDIDATES_MAX]:
        if trial.admits(wish, gone):
            few = np.count_nonzero(gone) <= SPARED_MAX
            doubtful = gone if few else gone & rooms.rough
            which = _dearest(costs, doubtful, SPARED_MAX)
            return _spare(trial, wish, gone, which[~rooms.surely(gone, which)])
    for gone in found[:CANDIDATES_MAX]:
        more = _nearby(trial, wish, costs, gone)
        if more is not None:
            return more
    return _extended(trial, wish, costs, found[0] if found else np.zeros_like(soft))


def _nearby(trial: Trial, wish: Wish, costs: Ints, gone: Bools) -> Bools | None:
    """Return victims and more under the same caps, the innermost first; ``None`` where those do not do.

    Room that is free and dark looks cheap: who draws the watts may be on any node under the cap.
    """
    rows = trial.rows_of(gone)
    for level in trial.capped:
        near = gone | trial.on(trial.near(level, rows))
        found = _extended(trial, wish, np.where(near, costs, HARD), gone)
        if found is not None:
            return found
    return None


def _narrowed(trial: Trial, wish: Wish, gone: Bools) -> Bools:
    """Return those victims who are where the members would sit, or under the same caps, if that does."""
    seated = trial.without(gone).seat(wish)
    if isinstance(seated, NoGang):
        return gone
    rows = np.unique(seated.seats.rows)
    for there in (rows, *(trial.near(level, rows) for level in trial.capped)):
        fewer = gone & trial.on(there)
        if fewer.any() and trial.admits(wish, fewer):
            return fewer
    return gone


def _extended(trial: Trial, wish: Wish, costs: Ints, gone: Bools) -> Bools | None:
    """Return more victims, the cheapest for what they draw first, until the site admits the wish."""
    soft = costs != HARD
    if not trial.admits(wish, soft):
        return None
    roster = trial.roster
    cards = np.bincount(roster.cards.holder, minlength=len(costs)) + 1
    others = np.flatnonzero(soft & ~gone)
    others = others[np.argsort(costs[others] * 1_024 // cards[others], kind="stable")]

    def with_first(count: int) -> Bools:
        more = gone.copy()
        more[others[:count]] = True
        return more

    enough = 1
    while enough < len(others) and not trial.admits(wish, with_first(enough)):
        enough *= 2
    too_few, enough = enough // 2, min(enough, len(others))
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if trial.admits(wish, with_first(middle)):
            enough = middle
        else:
            too_few = middle
    gone = _narrowed(trial, wish, with_first(enough))
    return _spare(trial, wish, gone, _dearest(costs, gone, EXTENDED_MAX))


def _spare(trial: Trial, wish: Wish, gone: Bools, which: Ints) -> Bools:
    """Return the victims without those of ``which`` that turn out not to be needed."""
    if np.count_nonzero(gone) == 1:
        return gone
    for number in which.tolist():
        less = gone.copy()
        less[number] = False
        if trial.admits(wish, less):
            gone = less
    return gone


def _dearest(costs: Ints, gone: Bools, most: int) -> Ints:
    """Return so many of those who are gone, the dearest first."""
    numbers = np.flatnonzero(gone)
    return numbers[np.argsort(-costs[numbers], kind="stable")][:most]


def _exact(trial: Trial, wish: Wish, costs: Ints, best: Bools | None) -> Bools | None:
    """Return the cheapest choice of all; among equals the one with the fewest, then the earliest victims."""
    limit = None if best is None else int(costs[best].sum())
    for gone in _choices(costs, limit):
        if trial.admits(wish, gone):
            return gone
    return best


def _choices(costs: Ints, limit: int | None) -> Iterator[Bools]:
    """Yield every choice that costs less than a limit, the cheapest first."""
    numbers = np.flatnonzero(costs != HARD).tolist()
    choices = [some for size in range(1, len(numbers) + 1) for some in combinations(numbers, size)]
    choices.sort(key=lambda some: (sum(int(costs[one]) for one in some), len(some), some))
    for some in choices:
        if limit is not None and sum(int(costs[one]) for one in some) >= limit:
            return
        gone = np.zeros(len(costs), bool)
        gone[list(some)] = True
        yield gone
