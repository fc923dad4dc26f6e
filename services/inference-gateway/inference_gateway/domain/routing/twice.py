"""How much may be asked twice: a share of what an endpoint is asked, so that an outage is not multiplied."""

WINDOW_S = 10.0
"""Over how long it is counted."""

HEDGE_SHARE = 0.1
"""Hedges beside requests that are merely late: so many of the requests of the last moments."""

RETRY_SHARE = 0.2
"""Retries, and rescues from replicas that give no sign; or as many as there are requests under way."""

SPARE = 10
"""So many of each in any case: of few requests a share is nothing."""


class Twice:
    """What one endpoint was asked in the last moments, and how much of that again.

    Whoever sends it a request counts ``asked`` up, after ``turn`` where ``ends`` is past.
    """

    __slots__ = (
        "_asked_before",
        "_hedged",
        "_hedged_before",
        "_retried",
        "_retried_before",
        "asked",
        "ends",
    )

    def __init__(self) -> None:
        self.ends = 0.0
        self.asked = self._hedged = self._retried = 0
        self._asked_before = self._hedged_before = self._retried_before = 0

    def turn(self, now: float) -> None:
        """Begin to count anew; what was counted last fades while that lasts."""
        stale = now >= self.ends + WINDOW_S
        self._asked_before = 0 if stale else self.asked
        self._hedged_before = 0 if stale else self._hedged
        self._retried_before = 0 if stale else self._retried
        self.asked = self._hedged = self._retried = 0
        self.ends = now + WINDOW_S

    def hedge(self, now: float) -> bool:
        """Count a hedge; false where there were enough of them."""
        fades = self._fades(now)
        hedged = self._hedged_before * fades + self._hedged
        if hedged + 1 > SPARE + HEDGE_SHARE * self._first(fades):
            return False
        self._hedged += 1
        return True

    def retry(self, now: float, under_way: int) -> bool:
        """Count a retry; false where there were enough of them.

        A replica that dies takes along what it was about to answer, and nothing else: that much may always be
        asked again.
        """
        fades = self._fades(now)
        retried = self._retried_before * fades + self._retried
        if retried + 1 > SPARE + max(RETRY_SHARE * self._first(fades), under_way):
            return False
        self._retried += 1
        return True

    def _fades(self, now: float) -> float:
        """Return how much of what was counted before still counts."""
        if now >= self.ends:
            self.turn(now)
        return (self.ends - now) / WINDOW_S

    def _first(self, fades: float) -> float:
        """Return how many requests were asked, each once."""
        again = self._hedged + self._retried + (self._hedged_before + self._retried_before) * fades
        return max(self._asked_before * fades + self.asked - again, 0.0)
