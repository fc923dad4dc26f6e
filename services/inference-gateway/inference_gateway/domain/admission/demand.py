"""How much a scope was asked for lately, refused requests included: what a wish is made of."""

LATELY_S = 5.0
"""How far back a rate looks."""

REMEMBERED_S = 600.0
"""How long the largest reservation is remembered: it halves in about seven minutes."""

SEVERAL = 4
"""Reservations of the largest size that a busy scope holds ahead of need."""


class Demand:
    """Counts between two looks, and rates that forget."""

    __slots__ = (
        "_looked_at",
        "cost",
        "largest",
        "parallel",
        "peak",
        "requests",
        "requests_per_minute",
        "short",
        "spent",
        "spent_per_s",
        "tokens",
        "tokens_per_minute",
    )

    def __init__(self) -> None:
        self._looked_at: float | None = None
        self.requests = 0
        self.tokens = 0
        self.peak = 0
        """The most requests at once since the last look, those refused included."""
        self.cost = 0
        """The largest reservation of money since the last look."""
        self.spent = 0
        self.short = 0
        """Money that was refused for want of it, since the last look."""
        self.requests_per_minute = 0.0
        self.tokens_per_minute = 0.0
        self.spent_per_s = 0.0
        self.parallel = 0.0
        self.largest = 0.0

    @property
    def idle(self) -> bool:
        """Whether there was nothing lately."""
        return self.requests_per_minute == 0.0

    def refused(self, tokens: int, parallel: int) -> None:
        """Count a request that was wished for and did not fit."""
        self.requests += 1
        self.tokens += tokens
        self.peak = max(self.peak, parallel)

    def look(self, now: float) -> None:
        """Bring the rates up to ``now``, and count anew."""
        passed = LATELY_S if self._looked_at is None else max(now - self._looked_at, 1e-3)
        self._looked_at = now
        weight = min(passed / LATELY_S, 1.0)
        idle = not self.requests and self.requests_per_minute * (1 - weight) < 1.0
        self.requests_per_minute = _mix(
            self.requests_per_minute, self.requests * 60 / passed, weight, idle
        )
        self.tokens_per_minute = _mix(self.tokens_per_minute, self.tokens * 60 / passed, weight, idle)
        self.spent_per_s = _mix(self.spent_per_s, self.spent / passed, weight, idle)
        self.parallel = max(self.peak, 0.0 if idle else self.parallel * (1 - weight))
        self.largest = max(self.cost, self.largest * (1 - min(passed / REMEMBERED_S, 1.0)))
        self.requests = self.tokens = self.peak = self.cost = self.spent = self.short = 0

    def money(self, lease_s: float, least: int) -> int:
        """Return how much money should be at hand, ahead of need; ``least`` where nobody asks."""
        if self.idle:
            return max(int(self.largest), least)
        return max(int(SEVERAL * self.largest), int(self.spent_per_s * lease_s * 2) + 1, least)


def _mix(before: float, now: float, weight: float, idle: bool) -> float:
    return 0.0 if idle else before + (now - before) * weight
