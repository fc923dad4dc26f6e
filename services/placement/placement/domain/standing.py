"""Where those stand who wait."""

from placement.domain.engine.engine import Engine
from placement.domain.engine.trying import SEEN_MAX


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
