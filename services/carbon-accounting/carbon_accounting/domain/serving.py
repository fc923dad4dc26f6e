"""How long a node served requests in an interval, and the most energy that can have taken."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from carbon_accounting.domain.meter import Interval

MICROSECOND = timedelta(microseconds=1)

Span = tuple[datetime, datetime]
"""From when a request was sent to its engine until its end."""


def served_us(spans: Iterable[Span], start: datetime, end: datetime) -> int:
    """Return how many microseconds of an interval at least one request was served in.

    What a span has before the interval does not count, unless all of it lies before: such a line
    came late, its own interval is settled, and it counts as if it had begun with this one.
    """
    inside = sorted(
        (start, start + max(until - since, timedelta(0)))
        if until <= start
        else (max(since, start), until)
        for since, until in spans
    )
    total, reached = timedelta(0), start
    for since, until in inside:
        lower, upper = max(since, reached), min(until, end)
        if upper > lower:
            total += upper - lower
            reached = upper
    return total // MICROSECOND


def ceiling_uj(interval: Interval, spans: Iterable[Span]) -> int | None:
    """Return the most energy above idle that serving ``spans`` can have taken; nothing where unknown.

    Full power less idle power, for as long as something was served: a lone short request cannot
    have caused what the node drew all through the interval for other reasons. It only binds there.
    The time itself is no measure of the energy: a short request may well cause most of it.
    """
    length_us = (interval.end_at - interval.start_at) // MICROSECOND
    if interval.full_power_w is None or interval.full_power_w * length_us < interval.energy_uj:
        # A node that draws more than it can has told us the wrong figure.
        return None
    above_idle_uj = interval.full_power_w * length_us - interval.idle_uj
    return above_idle_uj * served_us(spans, interval.start_at, interval.end_at) // length_us
