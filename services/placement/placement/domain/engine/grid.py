"""The grid's carbon as it is foreseen: of work that may begin later, when it is worth to."""

from placement.domain.engine.notice import CarbonForeseen, Short
from placement.domain.engine.queue import Entry, Queue, may_wait
from placement.domain.engine.quota import Granted
from placement.domain.engine.wish import Wish

WORTH_PERCENT = 3
"""A later start has to save so much of the carbon of an earlier one."""
RUN_MS = 3_600_000
"""For how long work is taken to run that does not say it."""


class Grid:
    """Who waits for the grid to emit less; ``foreseen`` is what it is expected to."""

    def __init__(self) -> None:
        self.foreseen: CarbonForeseen | None = None

    def came(self, entry: Entry, now: int) -> None:
        """Decide from when on one who comes is to begin."""
        if self.foreseen is not None and may_wait(entry.wish):
            entry.after = begins(self.foreseen, entry.wish, entry.since, now)

    def foresee(self, given: CarbonForeseen, queue: Queue, now: int) -> None:
        """Look anew at who waits for that."""
        self.foreseen = given
        for entry in queue.entries.values():
            if entry.after > now:
                entry.after = begins(given, entry.wish, entry.since, now)

    def weigh(self, entry: Entry, granted: Granted | Short, now: int) -> Granted | Short:
        """Return on which terms one may begin now; or, first of all its quota's, what keeps it."""
        if entry.after <= now or self.foreseen is None or isinstance(granted, Short):
            return granted
        run = entry.wish.run_ms or RUN_MS
        have, want = (_over(self.foreseen, start, run) // run for start in (now, entry.after))
        return Short(code="carbon", name="grid", have=have, want=want, at=entry.after)


def begins(grid: CarbonForeseen, wish: Wish, since: int, now: int) -> int:
    """Return when work that was asked for ``since`` then is to begin: ``now``, or later within its slack.

    That is the start of a step after which the mean of its run is least; the earliest of equals.
    """
    run = wish.run_ms or RUN_MS
    last = since + wish.slack_ms
    best, least = now, _over(grid, now, run) * (100 - WORTH_PERCENT)
    for number in range(len(grid.mg_per_kwh)):
        start = grid.start + grid.step * number
        if now < start <= last and (carbon := 100 * _over(grid, start, run)) < least:
            best, least = start, carbon
    return best


def _over(grid: CarbonForeseen, start: int, run: int) -> int:
    """Return the sum, over each millisecond of a run, of what is foreseen; the last of it holds on."""
    values, total, at, end = grid.mg_per_kwh, 0, start, start + run
    while at < end:
        number = max(0, (at - grid.start) // grid.step)
        if number >= len(values) - 1:
            return total + (end - at) * values[-1]
        until = min(end, grid.start + grid.step * (number + 1))
        total += (until - at) * values[number]
        at = until
    return total
