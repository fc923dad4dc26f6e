"""Copies of an engine to try things on: what is tried there is not so here."""

from typing import TYPE_CHECKING

import numpy as np

from placement.domain.engine.fit import BIT
from placement.domain.engine.holding import Missed
from placement.domain.engine.power import PowerState
from placement.domain.engine.site import Bools, Ints, Part
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.wish import Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine


def bare(engine: "Engine") -> "Engine":
    """Return an engine of the same site with nobody on it, all in service and no watts short."""
    found = engine.twin()
    for workload in engine.holdings:
        found.unseat(workload)
    site = found.site
    for row in np.flatnonzero((site.closed != 0) | (site.silent != 0)).tolist():
        site.turn(row, closed=False, silent=False)
    found.power.restore(PowerState(caps={}, excess={}))
    return found


def room(engine: "Engine", wish: Wish) -> Ints:
    """Return how many members each node has room for, looked at alone; never too few: int[row]."""
    size, site = wish.size, engine.site
    fits = engine.views.of(size, wish.terms).fails == 0
    if wish.members == 1 or not size.milli:
        return np.where(fits, wish.members, 0)
    found = np.zeros(site.rows, np.int64)
    rows = np.flatnonzero(fits)
    free = site.free[rows]
    if size.gpus:
        found[rows] = (free >= MILLI_PER_GPU).sum(1) // size.gpus
    else:
        found[rows] = (free // size.gpu_milli).sum(1)
    return found


def enough(rooms: Ints, members: int, barred: Bools | None) -> bool:
    """Return whether there is room for all members beside ``barred`` rows."""
    return int(rooms.sum() if barred is None else rooms[~barred].sum()) >= members


def would_sit(engine: "Engine", wish: Wish, barred: Bools | None) -> tuple[Part, ...]:
    """Return where a wish would sit beside ``barred`` rows; nothing where it would not. Nobody does."""
    if not enough(room(engine, wish), wish.members, barred):
        return ()
    chosen = engine.seat(wish, None if barred is None else np.where(barred, BIT["reserved"], 0))
    if isinstance(chosen, Missed):
        return ()
    engine.leave(wish, chosen.parts)
    return chosen.parts
