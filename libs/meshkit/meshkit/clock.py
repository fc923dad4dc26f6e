"""Time as an argument: the system's clock, and what a clock is."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Domain code gets ``now``; only doors hold a clock."""

    def now(self) -> datetime:
        """Return the time, in UTC, with its zone."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never step back, for spans of time within one process."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time, in UTC, with its zone."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never step back."""
        return time.monotonic()
