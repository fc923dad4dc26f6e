"""Seats that are lost: with nodes, of whoever sat there; or of one workload, some members while the others go on."""

from typing import TYPE_CHECKING

from msgspec.structs import replace as but

from placement.domain.engine.holding import Holding
from placement.domain.engine.replace import hit, lost_rows, mend, replace
from placement.domain.engine.wish import Advanced, Followed, NodesLost, Reseated, SeatsLost, Stranded

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine


def nodes_lost(engine: "Engine", given: NodesLost) -> Advanced:
    """Have who was on lost nodes sit elsewhere; of whom nothing fits, jobs wait where they may.

    Raises ``ValueError``, with nothing changed, for nodes that nobody knows.
    """
    turns, rows = engine.turns, lost_rows(engine, given)
    now = turns.now = max(turns.now, given.at)
    for row in rows:
        turns.trying.promises.forget(row)
    found: list[Followed] = []
    for holding in hit(engine, rows):
        with turns.keeping(holding):
            came = replace(engine, holding, rows, now)
        found.append(_waits(engine, holding, came, now))
    for row in rows:
        found += turns.bookings.mend(row)
    turns.trying.settle(now, found)
    return Advanced(outcomes=tuple(found))


def seats_lost(engine: "Engine", given: SeatsLost) -> Advanced:
    """Have lost members of an elastic workload sit elsewhere; where they cannot, a job waits whole where it may.

    Raises ``ValueError``, with nothing changed, where it is not elastic, has no such members, or no others.
    """
    turns, holding = engine.turns, engine.holdings.get(given.workload)
    lost = sorted(set(given.members))
    if holding is None or not holding.wish.elastic:
        raise ValueError(f"{given.workload} has no seats, or is not elastic")
    if not lost or not 0 <= lost[0] <= lost[-1] < len(holding.parts) or len(lost) == len(holding.parts):
        raise ValueError(f"{given.workload} has no such members, or no others")
    now = turns.now = max(turns.now, given.at)
    with turns.keeping(holding):
        came = mend(engine, holding, lost)
    found: list[Followed] = [_waits(engine, holding, came, now)]
    turns.trying.settle(now, found)
    return Advanced(outcomes=tuple(found))


def _waits(
    engine: "Engine", holding: Holding, came: Reseated | Stranded, now: int
) -> Reseated | Stranded:
    """Have a job that was released wait, where it may; return what became of it."""
    if isinstance(came, Reseated) or not came.released:
        return came
    turns = engine.turns
    came = but(came, queued=turns.trying.waits(holding, now))
    turns.admission.labels.promote(turns.admission.owner(holding.wish), now)
    return came
