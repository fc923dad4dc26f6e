"""Where those stand who wait, and whether time alone may change that."""

from typing import Final

from placement.domain.engine.engine import Engine
from placement.domain.engine.trying import SEEN_MAX

QUEUE_EVERY_MS: Final = 5_000
"""How often those who wait are tried though nothing but time has passed: shares decay, least times end."""


def positions(engine: Engine) -> dict[str, int]:
    """Return the place in line of each of the first ``SEEN_MAX`` who wait, by workload; 1 is tried first."""
    turns, found = engine.turns, dict[str, int]()
    order = turns.trying.order(turns.now)
    for entry in order:
        found[entry.wish.workload] = order.seen
        if order.seen == SEEN_MAX:
            break
        order.count(entry)
    return found


def is_due(engine: Engine, ticked: int, at: int) -> bool:
    """Tell whether the moment ``at`` may have something follow: time is over, a booking begins, somebody waits.

    ``ticked`` is when the engine was last told that time has passed.
    """
    admission = engine.turns.admission
    stops = bool(admission.stops and admission.stops[0][0] <= at)
    waits = bool(engine.turns.queue) and at - ticked >= QUEUE_EVERY_MS
    return stops or waits or admission.calendar.next_event() <= at
