"""When something will fit: what is there now, less what will have left by then, tried as it would be in earnest.

The sweep goes over the moments at which something is known to end, earliest first. Whether a wish fits is
asked of a copy of the engine, by the very decision that would place it; so what is promised is what will
be done. A sweep doubles its step, then halves it: of N moments it tries twice as many as N has bits.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from placement.domain.engine.fit import BIT
from placement.domain.engine.gang import alike
from placement.domain.engine.site import Bools, Part
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.slices import idle_milli
from placement.domain.engine.trial import Trial
from placement.domain.engine.twin import would_sit
from placement.domain.engine.wish import Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine, Holding


class Kept(NamedTuple):
    """What is kept from who starts at a moment: rows, and seats elsewhere that draw watts."""

    rows: Bools | None
    drawn: Sequence[Part] = ()


class Start(NamedTuple):
    """Where a workload will sit from a moment on, and when it will have left again."""

    at: int
    end: int
    parts: tuple[Part, ...]


def seats_without(engine: "Engine", wish: Wish, gone: Iterable[str], kept: Kept) -> tuple[Part, ...]:
    """Return where a wish fits once these workloads have left; nothing where it does not."""
    twin = engine.twin()
    for workload in gone:
        twin.unseat(workload)
    with twin.power.drawing(kept.drawn):
        return would_sit(twin, wish, kept.rows)


def earliest(
    engine: "Engine",
    wish: Wish,
    ends: Sequence[tuple[int, str]],
    kept: Callable[[int], Kept],
    always: Bools | None = None,
) -> tuple[int, tuple[Part, ...]] | None:
    """Return from when on a wish fits, and where, by what is known; ``None`` where that is not known.

    ``ends``: moments at which a workload has left, or (unnamed) what bars some rows ends, in order; ``always``: the rows
    that are barred at each of them. Nothing but seats is asked for: quota is the caller's. Where a booking that starts
    in between makes a later moment unfit, the answer is a moment at which it fits, if not always the first.
    """
    low = _enough(engine, wish, ends)
    if low is None or not _ever(engine, wish, ends, always):
        return None
    twin = engine.twin()
    away: list[Holding | None] = []

    def try_at(count: int) -> tuple[Part, ...]:
        while len(away) > count:
            back = away.pop()
            if back is not None:
                twin.resume(back)
        while len(away) < count:
            workload = ends[len(away)][1]
            away.append(twin.unseat(workload) if workload else None)
        rows, drawn = kept(ends[count - 1][0])
        with twin.power.drawing(drawn):
            return would_sit(twin, wish, rows)

    high, found, step = low + 1, try_at(low + 1), 1
    while not found and high < len(ends):
        low, high = high, min(len(ends), high + step)
        found, step = try_at(high), 2 * step
    if not found:
        return None
    high, found = _halved(try_at, low, high, found)
    return ends[high - 1][0], found


def emptiest(engine: "Engine", wish: Wish, barred: Bools | None) -> tuple[Part, ...]:
    """Return where a wish would sit, were everybody gone, on as few of the nodes as will do that hold least."""
    site = engine.site
    held = site.cards[: site.rows] * MILLI_PER_GPU - site.free[: site.rows].sum(1)
    if site.any_mig:
        held -= idle_milli(site, site.every)
    order = np.argsort(held, kind="stable")
    twin = engine.twin()
    for workload in engine.holdings:
        twin.unseat(workload)

    def try_at(count: int) -> tuple[Part, ...]:
        full = np.ones(site.rows, bool)
        full[order[:count]] = False
        return would_sit(twin, wish, full if barred is None else full | barred)

    found = try_at(site.rows)
    return _halved(try_at, 0, site.rows, found)[1] if found else ()


def _halved(
    try_at: Callable[[int], tuple[Part, ...]], low: int, high: int, found: tuple[Part, ...]
) -> tuple[int, tuple[Part, ...]]:
    """Return the least step after ``low`` at which it fits, and where; ``found`` is where at ``high``."""
    while high - low > 1:
        middle = (low + high) // 2
        seats = try_at(middle)
        if seats:
            high, found = middle, seats
        else:
            low = middle
    return high, found


def _ever(engine: "Engine", wish: Wish, ends: Sequence[tuple[int, str]], always: Bools | None) -> bool:
    """Return whether a wish fits once all have left of whom it is known when; else it never will by what is known."""
    trial = Trial(engine)
    gone = np.zeros(len(trial.roster.names), bool)
    gone[[trial.roster.number(workload) for _, workload in ends if workload]] = True
    before, engine.barred = (
        engine.barred,
        None if always is None else np.where(always, BIT["reserved"], 0),
    )
    try:
        return trial.admits(alike(wish), gone)
    finally:
        engine.barred = before


def _enough(engine: "Engine", wish: Wish, ends: Sequence[tuple[int, str]]) -> int | None:
    """Return how many ends leave too few idle GPUs in all, so that nothing need be tried there."""
    need = wish.members * wish.size.milli
    idle = int(engine.site.free.sum())
    for count, (_, workload) in enumerate(ends):
        if workload:
            parts = engine.holdings[workload].parts
            idle += sum(len(part.cards) * part.milli_each for part in parts)
        if idle >= need:
            return count
    return None
