"""What a part of a measurement is given: the device, the time left, and whom to tell."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpuprobe.backend import Backend


@dataclass(frozen=True)
class Bench:
    """``ends`` is of ``time.monotonic``; ``smoke`` wants everything once, as small as it goes."""

    backend: Backend
    ends: float
    tell: Callable[[Any], None]
    smoke: bool = False

    def left(self) -> float:
        """Return the seconds left."""
        return self.ends - time.monotonic()

    def times(self, many: int) -> int:
        """Return how often to repeat: ``many``, or twice where a smoke is wanted."""
        return min(many, 2) if self.smoke else many

    def median_ms(self, work: Callable[[], None], many: int = 20) -> float:
        """Return the median of the device's milliseconds, after one run that does not count."""
        work()
        return statistics.median(self.backend.timed(work) for _ in range(self.times(many)))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return how values lie: count, median, quantiles, extremes, and deviation as a part of the mean."""
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    mean = statistics.fmean(ordered)
    told = {
        "count": len(ordered),
        "p50": _at(ordered, 0.50),
        "p95": _at(ordered, 0.95),
        "p99": _at(ordered, 0.99),
        "min": ordered[0],
        "max": ordered[-1],
        "deviation": statistics.pstdev(ordered) / mean if mean else 0.0,
    }
    return {name: round(value, 5) for name, value in told.items()}


def _at(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
