"""What is asked of the callers, and what they have seen."""

import math
from collections.abc import Sequence

import msgspec

from mesh_tools.bench.gateway import words


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: of whom, with what, for how long.

    ``clients`` ask in closed loops; with ``per_s`` requests leave at that rate whatever became of
    those before. With ``answers`` it ends after so many, not with the window. The CPU time is that
    of the process ``pid`` and all below it.
    """

    host: str
    port: int
    path: str
    model: str
    headers: dict[str, str] = {}
    size: int = words.SMALL_BYTES
    stream: bool = False
    clients: int = 1
    per_s: float = 0.0
    answers: int = 0
    warm_s: float = 0.3
    window_s: float = 1.0
    pid: int = 0

    def sent(self) -> bytes:
        """Return the request."""
        body = words.body(self.model, self.size, stream=self.stream)
        return words.request(f"{self.host}:{self.port}", self.path, self.headers, body)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the window held; times are 0 where nothing was timed.

    ``tokens_expected`` and ``tokens_seen`` are of all streams that were asked for, also before and after
    the window; ``cut`` are answers that had not ended long after it (they are among the errors).
    """

    window_s: float
    answers: int
    events: int = 0
    tokens: int = 0
    cpu_s: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    first_us: float = 0.0
    tokens_expected: int = 0
    tokens_seen: int = 0
    cut: int = 0
    errors: int = 0
    error: str = ""


def middle(values: Sequence[float]) -> float:
    """Return the median of ordered values; 0 where there are none."""
    return values[len(values) // 2] if values else 0.0


def tail(values: Sequence[float]) -> float:
    """Return the value that 99 in 100 do not pass, of ordered values; 0 where there are none."""
    return values[math.ceil(len(values) * 0.99) - 1] if values else 0.0
