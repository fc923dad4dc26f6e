"""Which workloads end so that every cap holds again: the least valuable first, gangs whole, none too many."""

from collections import Counter
from collections.abc import Container
from typing import TYPE_CHECKING, NamedTuple, get_args

from placement.domain.engine.site import NOWHERE, POWER
from placement.domain.engine.wish import Kind

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine, Holding

KINDS: tuple[str, ...] = get_args(Kind)
COST_SCALE = 1 << 32
"""Restart costs are compared by the watt, in whole numbers of this part."""


class Shed(NamedTuple):
    """End ``workloads``. ``left`` are the domains that stay above their caps with all work ended there.

    ``freed_w`` are the watts that the site draws less by plan.
    """

    workloads: tuple[str, ...] = ()
    freed_w: int = 0
    left: tuple[tuple[str, str, int], ...] = ()


def shed(engine: "Engine", kinds: Container[str] = KINDS) -> Shed:
    """Return which work of these kinds has to end, as things are; the engine stays as it is.

    Of the work in a domain above its cap the lowest priority ends first; of equals that whose restart costs
    least by the watt it frees there, then what was placed last. Work without watts does not end. The
    innermost domains are mended first: what ends in a rack also counts for its PDU. Then whatever turns out not to
    have been needed is spared, the most valuable first.
    """
    if not engine.power.breaches():
        return Shed()
    # Nobody who waits gets what comes free.
    trial = engine.twin()
    before = int(trial.power.planned["site"].sum())
    ended: list[Holding] = []
    for level in POWER:
        names = list(trial.site.domains[level])
        above = [name for at_level, name, _ in trial.power.breaches() if at_level == level]
        for name in sorted(above, key=names.index):
            for holding in _by_worth(trial, level, names.index(name), kinds):
                if trial.power.room_of(level, name) >= 0:
                    break
                trial.unseat(holding.wish.workload)
                ended.append(holding)
    left = trial.power.breaches()
    order = {holding.wish.workload: number for number, holding in enumerate(ended)}
    needed = []
    for holding in sorted(ended, key=lambda one: (-one.wish.priority, -order[one.wish.workload])):
        trial.resume(holding)
        if trial.power.breaches() != left:
            trial.unseat(holding.wish.workload)
            needed.append(holding.wish.workload)
    return Shed(
        workloads=tuple(sorted(needed, key=order.__getitem__)),
        freed_w=before - int(trial.power.planned["site"].sum()),
        left=tuple(left),
    )


def _by_worth(engine: "Engine", level: str, domain: int, kinds: Container[str]) -> list["Holding"]:
    """Return the workloads of these kinds that draw watts in a domain, those first that are to end first.

    The watts of a card are shared evenly among those who hold a part of it.
    """
    at, gpu_w = engine.site.at(level), engine.site.gpu_w
    assert domain != NOWHERE
    held = [engine.holdings[workload] for workload in engine.ends.on(at == domain)]
    inside = [(holding, [part for part in holding.parts if at[part.row] == domain]) for holding in held]
    holders = Counter((part.row, card) for _, parts in inside for part in parts for card in part.cards)
    found = []
    for number, (holding, parts) in enumerate(inside):
        watts = sum(
            int(gpu_w[part.row]) * COST_SCALE // holders[part.row, card]
            for part in parts
            for card in part.cards
        )
        if watts and holding.wish.kind in kinds:
            cost = holding.wish.restart_cost * COST_SCALE * COST_SCALE // watts
            found.append((holding.wish.priority, cost, -number, holding))
    found.sort(key=lambda one: one[:3])
    return [holding for *_, holding in found]
