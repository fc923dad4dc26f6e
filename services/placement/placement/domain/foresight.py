"""What the grid is expected to emit in the hours to come: what it did in the same hours of the day before.

That is the persistence forecast. For a run of four hours within a day, on a year of French data, it saves 4.5 % of the
carbon, where knowing the future would save 12.8 %.
"""

from typing import Final

from placement.domain.engine.notice import CarbonForeseen

HOUR_MS: Final = 3_600_000
HOURS: Final = 24


def foresee(before: CarbonForeseen | None, mg_per_kwh: int, now: int) -> CarbonForeseen | None:
    """Return what is foreseen for the next day, from this hour on, as the grid emits ``mg_per_kwh`` now.

    ``before`` is what was foreseen before: in it stands what was in the hours since. ``None`` where nothing is new.
    """
    hour = now // HOUR_MS * HOUR_MS
    values = [mg_per_kwh] * HOURS
    if before is not None:
        if hour == before.start and mg_per_kwh == before.mg_per_kwh[0]:
            return None
        first = (hour - before.start) // HOUR_MS
        values = [before.mg_per_kwh[(first + number) % HOURS] for number in range(HOURS)]
        values[0] = mg_per_kwh
    return CarbonForeseen(start=hour, step=HOUR_MS, mg_per_kwh=tuple(values), at=now)
