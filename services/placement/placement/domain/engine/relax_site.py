"""What the site's operator can do: return a node, raise a cap, end a workload; the least of it that would do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace as but

from placement.domain.engine.ends import SEVERAL, Lines
from placement.domain.engine.fit import BIT
from placement.domain.engine.knowing import know
from placement.domain.engine.mig import GEOMETRIES, MASKS, table
from placement.domain.engine.power import ENDLESS
from placement.domain.engine.relax_wish import Lack
from placement.domain.engine.room import ROOM
from placement.domain.engine.score import needed_w
from placement.domain.engine.site import POWER, Bools, Ints
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.slices import fits
from placement.domain.engine.tenancy import ISOLATING
from placement.domain.engine.wish import Capped, Known, NodePut, NodeTurned, Relaxation, Released

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine

ENDS_TRIED_MAX = 16
"""Workloads whose end is tried, of those that may do: where none of them does, none is named."""

AROUND = BIT["isolation"] | BIT["power"]
"""What a workload's end gives back on the nodes around as well; on its own nodes also ``ROOM``."""


def least_ready(lack: Lack) -> Relaxation | None:
    """Return the first closed node that would do: one that the wish does not go to would not."""
    site = lack.engine.site
    for row in lack.rows[site.closed[lack.rows] != 0].tolist():
        node = site.specs[row].node
        if node not in lack.wish.avoid and lack.wish.only in {"", node}:
            return Relaxation("ready", 1, (node,))
    return None


def least_heard(lack: Lack) -> Relaxation | None:
    """Return the first silent node that would do."""
    return Relaxation("heard", 1, (lack.engine.site.specs[lack.rows[0]].node,))


def least_mig_mode(lack: Lack) -> Relaxation | None:
    """Return the first node with an idle GPU that would do, were it in MIG mode."""
    site, profile = lack.engine.site, lack.wish.size.mig
    if not profile:
        return None
    whole = lack.rows[site.whole[lack.rows] > 0]
    able = [profile in GEOMETRIES[number].profiles for number in site.geometry[whole].tolist()]
    row = next(iter(whole[able].tolist()), None)
    return None if row is None else Relaxation("mig_mode", 1, (site.specs[row].node,))


def least_power(lack: Lack) -> Relaxation | None:
    """Return the cap that has to be raised least, of nodes that are short of one cap alone."""
    site = lack.engine.site
    short = _short(lack, lack.rows)
    alone = (short > 0).sum(0) == 1
    if not alone.any():
        return None
    least = np.where(alone, short.max(0), ENDLESS)
    at = int(least.argmin())
    level = POWER[int(short[:, at].argmax())]
    domain = list(site.domains[level])[int(site.at(level)[lack.rows[at]])]
    return Relaxation("power", int(least[at]), (level, domain))


def least_workload(lack: Lack) -> Relaxation | None:
    """Return the workload worth least whose end would do: see ``relax`` for what is least."""
    ends = lack.engine.ends
    lines = ends.lines()
    makes = _makes_room(lack, lines)
    around = lack.rows[lack.fails & ROOM == 0]
    relieves = _relieves(lack, lines, around) if len(around) else None

    def among(some: Ints) -> Bools:
        return makes(some) if relieves is None else makes(some) | relieves[some]

    plain = lack.engine.chooser.plain(lack.wish.size, lack.wish.terms)
    tried: dict[str, None] = {}
    for line, workload in ends.by_worth(among):
        if workload not in tried:
            sure = plain and (lines.card[line] != SEVERAL or lines.milli_each[line] == MILLI_PER_GPU)
            sure = sure and (not lack.wish.size.mig or lines.slices[line] != SEVERAL)
            # One that was put down to fewer members than it has: a single end may not do.
            sure = sure and lack.engine.site.slots[lines.row[line]] >= 0
            if sure or _admits(lack, workload, around):
                return Relaxation("workload", 1, (workload,))
            tried[workload] = None
            if len(tried) == ENDS_TRIED_MAX:
                break
    return None


def inputs_of(engine: "Engine", relaxation: Relaxation, at: int = 0) -> tuple[Known | Released, ...]:
    """Return what the engine is told once the operator has done it; nothing for what the asker gives up."""
    names = relaxation.names
    match relaxation.kind:
        case "ready" | "heard":
            return (NodeTurned(node=names[0], closed=False, silent=False),)
        case "power":
            level, domain = names
            cap = engine.power.cap_of(level, domain)
            assert cap is not None
            return (Capped(level=level, domain=domain, watts=cap + relaxation.amount),)
        case "mig_mode":
            row = engine.site.row_of[names[0]]
            spec, card = engine.site.specs[row], int((engine.site.free[row] == MILLI_PER_GPU).argmax())
            return (NodePut(spec=but(spec, mig=(*spec.mig, card))),)
        case "workload":
            return (Released(workload=names[0], at=at),)
    return ()


@contextmanager
def done(engine: "Engine", relaxation: Relaxation) -> Iterator[None]:
    """Have it be as if the operator had done it, while this lasts."""
    match relaxation.kind:
        case "workload":
            with engine.without(relaxation.names[0]):
                yield
            return
        case "ready" | "heard":
            row = engine.site.row_of[relaxation.names[0]]
            closed, silent = bool(engine.site.closed[row]), bool(engine.site.silent[row])
            back = NodeTurned(node=relaxation.names[0], closed=closed, silent=silent)
            undo: tuple[Known, ...] = (back,)
        case "power":
            level, domain = relaxation.names
            undo = (Capped(level=level, domain=domain, watts=engine.power.cap_of(level, domain)),)
        case "mig_mode":
            undo = (NodePut(spec=engine.site.specs[engine.site.row_of[relaxation.names[0]]]),)
        case _:
            undo = ()
    # The site alone is told: nobody who waits has a turn, no reservation moves.
    for given in inputs_of(engine, relaxation):
        assert not isinstance(given, Released), "it was done above"
        know(engine, given)
    try:
        yield
    finally:
        for given in undo:
            know(engine, given)


def _short(lack: Lack, rows: Ints) -> Ints:
    """Return how many watts each row is short of at each level: int[level, row], of ``POWER``."""
    power = lack.engine.power
    needs = needed_w(lack.engine.site, lack.wish.size, rows)
    return np.array([needs - power.room_at(level, rows) for level in POWER])


def _makes_room(lack: Lack, lines: Lines) -> Callable[[Ints], Bools]:
    """Return what tells of some lines whether their end may make their own node do."""
    site, size, rows = lack.engine.site, lack.wish.size, lack.rows
    if size.mig:
        return _makes_slices(lack, lines)
    cards = np.full(site.rows + 1, ENDLESS, np.int64)  # The last is of lines that have ended.
    has = site.whole[rows] if size.gpus else site.most[rows] >= size.milli_each
    cards[rows] = size.cards - has if size.cards else 0

    def makes(some: Ints) -> Bools:
        found = lines.cards[some] >= cards[lines.row[some]]
        at = some[found]
        row, card = lines.row[at], lines.card[at]
        does = site.cpu[row] + lines.cpu[at] >= size.cpu_milli
        does &= site.memory[row] + lines.memory[at] >= size.memory_mib
        if size.cards:
            # A share that comes free may leave too much of its card to others.
            left = site.free.ravel().take(row * site.free.shape[1] + card) + lines.milli_each[at]
            does &= (card == SEVERAL) | (left >= size.milli_each) | (cards[row] <= 0)
        found[found] = does
        return found

    return makes


def _makes_slices(lack: Lack, lines: Lines) -> Callable[[Ints], Bools]:
    """Return what tells of some lines whether their end may make their own node do for a MIG instance."""
    site, size = lack.engine.site, lack.wish.size
    fitting = np.zeros(site.rows + 1, bool)  # The last is of lines that have ended.
    there = fitting.copy()
    there[lack.rows] = True
    fitting[lack.rows] = fits(site, size.mig, lack.rows)

    def makes(some: Ints) -> Bools:
        found = there[lines.row[some]]
        at = some[found]
        row, card, slices = lines.row[at], lines.card[at], lines.slices[at]
        does = fitting[row] | (slices == SEVERAL)
        one = np.flatnonzero((slices > 0) & ~does)
        free = site.slices[row[one], card[one]] | slices[one]
        does[one] = table(size.mig).fits.take(site.geometry[row[one]] * MASKS + free) > 0
        does &= site.cpu[row] + lines.cpu[at] >= size.cpu_milli
        does &= site.memory[row] + lines.memory[at] >= size.memory_mib
        found[found] = does
        return found

    return makes


def _relieves(lack: Lack, lines: Lines, around: Ints) -> Bools:
    """Return the lines whose end may relieve ``around``: nodes that lack watts, or the absence of others."""
    site = lack.engine.site
    found = np.zeros(len(lines.row), bool)
    at = np.flatnonzero(lines.row >= 0)
    row = lines.row[at]
    watts = lines.all_cards[at] * int(site.gpu_w[: site.rows].max(initial=0))
    short = _short(lack, around)
    powered = (short > 0).any(0)
    does = np.zeros(len(at), bool)
    for number, level in enumerate(POWER):
        # What relieves a node is in the innermost domain that is short, and gives it what it is short of most.
        inner = powered & ((short > 0).argmax(0) == number)
        if inner.any():
            least = np.full(len(site.domains[level]) + 1, ENDLESS, np.int64)
            np.minimum.at(least, site.at(level)[around[inner]], short[:, inner].max(0))
            does |= watts >= least[site.at(level)[row]]
    if not powered.all():
        for level in ISOLATING:
            tenancy = lack.engine.tenancy
            parts = tenancy.barring(lack.wish.terms, level, around[~powered])
            does |= np.isin(tenancy.at(level)[row], parts)
    found[at] = does
    return found


def _admits(lack: Lack, workload: str, around: Ints) -> bool:
    """Tell whether a workload's end makes any node do."""
    engine, wish = lack.engine, lack.wish
    own = [part.row for part in engine.holdings[workload].parts]
    rows = np.unique(np.concatenate((around, np.array(own))))
    with engine.without(workload):
        return bool((engine.chooser.lacks(wish.size, wish.terms, rows) == 0).any())
