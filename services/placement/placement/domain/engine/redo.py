"""What was decided once, had again where it comes out otherwise now: it stands, whatever is decided today."""

from collections.abc import Sequence

import msgspec

from placement.domain.engine.engine import Engine
from placement.domain.engine.finding import parts_of
from placement.domain.engine.queue import Entry
from placement.domain.engine.replace import lost_rows
from placement.domain.engine.wish import (
    Advanced,
    Asked,
    Booked,
    Followed,
    Input,
    NodesLost,
    NotBooked,
    Outcome,
    Placed,
    Preempted,
    Queued,
    Refused,
    Reseated,
    Reserved,
    SeatsLost,
    Stranded,
)


class Decided(msgspec.Struct, frozen=True):
    """An input, and what was decided on it."""

    given: Input
    outcome: Outcome


def have(engine: Engine, one: Decided) -> None:
    """Have ``engine``, as it was before the input, be as was decided then."""
    given, outcome, turns = one.given, one.outcome, engine.turns
    turns.still = True
    try:
        match given:
            case Asked():
                turns.now = max(turns.now, given.at)
                turns.number += not isinstance(outcome, Refused)
            case NodesLost():
                turns.now = max(turns.now, given.at)
                for row in lost_rows(engine, given):
                    turns.trying.promises.forget(row)
            case SeatsLost():
                turns.now = max(turns.now, given.at)
            case _:
                engine.apply(given)
    finally:
        turns.still = False
    followed: Sequence[Followed] = ()
    if isinstance(outcome, Advanced):
        followed = outcome.outcomes
    elif isinstance(outcome, Placed | Queued | Booked | NotBooked):
        followed = (outcome,)
    for told in followed:
        _follow(engine, told, given)


def undo(engine: Engine, given: Input, outcome: Outcome) -> bool:
    """Have it be as if ``given`` had not been asked; false, with nothing changed, where more followed from it."""
    turns = engine.turns
    if not isinstance(given, Asked) or len(turns.queue) > isinstance(outcome, Queued):
        return False
    match outcome:
        case Placed(preempted=()):
            engine.unseat(outcome.workload)
        case Queued():
            turns.queue.drop(outcome.workload)
        case Refused():
            return True
        case _:
            return False
    turns.number -= 1
    return True


def _follow(engine: Engine, told: Followed, given: Input) -> None:
    turns = engine.turns
    match told:
        case Placed():
            for workload in told.preempted:
                _gave_way(engine, workload, queued=True)
            entry = _entry(engine, told.workload, given)
            turns.queue.drop(told.workload)
            parts = parts_of(engine.site, told.seats)
            turns.admission.sits(entry, parts, turns.now, borrowed=told.borrowed)
        case Queued():
            entry = _entry(engine, told.workload, given)
            turns.queue.put(entry)
            entry.told, entry.unheard = told.start, False
            if told.short is not None and told.short.at is not None:
                entry.after = told.short.at
        case Preempted() | Stranded(released=True):
            _gave_way(engine, told.workload, queued=told.queued)
        case Reseated():
            holding, parts = engine.holdings[told.workload], parts_of(engine.site, told.seats)
            engine.leave(holding.wish, holding.parts)
            engine.sit(holding.wish, parts)
            if len(told.members) == len(parts):
                turns.admission.restart(holding, parts, turns.now)
            else:
                engine.hold(holding._replace(parts=parts))
        case Booked():
            turns.bookings.have(told, given)
        case NotBooked() if isinstance(given, Reserved):
            turns.bookings.cancel(told.name, turns.now)


def _entry(engine: Engine, workload: str, given: Input) -> Entry:
    """Return the one who waits by a name, or just asks."""
    turns = engine.turns
    entry = turns.queue.entries.get(workload)
    if entry is not None:
        return entry
    assert isinstance(given, Asked), "who did not wait asks"
    return Entry(given.wish, turns.number, turns.now)


def _gave_way(engine: Engine, workload: str, *, queued: bool) -> None:
    holding = engine.unseat(workload)
    if holding is not None and queued:
        engine.turns.trying.waits(holding, engine.turns.now)
