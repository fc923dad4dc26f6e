"""What the engine says of one replica, as its endpoint is told: a place and why there, or why nowhere."""

from collections.abc import Callable

import msgspec
from mesh_contracts.placement import Reason

from placement.domain.engine.engine import Engine
from placement.domain.engine.explain import chosen
from placement.domain.engine.explain import survivors as survivors_of
from placement.domain.engine.explain_mig import instances
from placement.domain.engine.wish import Placed, Refused, Seat, Wish
from placement.domain.lacks import why_not


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Run it on this node, on these of its cards: best of the ``survivors`` by ``why``."""

    workload_id: str
    node_id: str
    cards: tuple[int, ...]
    milli_each: int
    memory_mib: int
    survivors: tuple[Reason, ...]
    why: tuple[Reason, ...] = ()
    slices: int = 0

    @property
    def seat(self) -> Seat:
        """Where it is, as the engine says it."""
        return Seat(self.node_id, self.cards, self.milli_each, self.slices)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """It fits nowhere now: how many nodes each constraint left, and what would unblock it."""

    survivors: tuple[Reason, ...]
    reasons: tuple[Reason, ...]


def answer_of(
    engine: Engine, wish: Wish, outcome: Placed | Refused, called: Callable[[str], str] = str
) -> Grant | Refusal:
    """Return an outcome in words; ``called`` gives a node's name by its id.

    Whose work is in the way is not told: the reader is another tenant.
    """
    survivors = tuple(survivors_of(wish, outcome.why))
    if isinstance(outcome, Refused):
        reasons = why_not(outcome.why, outcome.short, wish, called, engine)
        return Refusal(survivors=survivors, reasons=reasons)
    [seat] = outcome.seats
    return Grant(
        workload_id=outcome.workload,
        node_id=seat.node,
        cards=seat.cards,
        milli_each=seat.milli_each,
        memory_mib=wish.size.memory_mib,
        survivors=survivors,
        slices=seat.slices,
        why=(*chosen(engine.site, outcome.why, called), *instances(engine.site, wish, placed=True)),
    )
