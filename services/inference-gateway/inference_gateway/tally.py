"""What happened to requests, counted by hand and brought into the metrics when somebody looks."""

from collections import Counter

from mesh_contracts.inference import UsageRow
from meshkit.metrics import Histogram
from meshkit.telemetry import METRICS


class Tally:
    """Counters that cost a request next to nothing."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self._first_token = Histogram()
        self._refusals: Counter[str] = Counter()
        self._input = 0
        self._output = 0
        METRICS.gather(self._bring)

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        self._requests[operation, status] += 1
        seen = self._seconds.get(operation)
        if seen is None:
            seen = self._seconds[operation] = Histogram()
        seen.add(seconds)

    def refused(self, code: str) -> None:
        """Count one refusal by its code."""
        self._refusals[code] += 1

    def crowded(self) -> None:
        """Count one request that found no room at all."""
        METRICS.count("mesh_gateway_overloaded_total")

    def used(self, row: UsageRow) -> None:
        """Count what one request took."""
        self._input += row.prompt_tokens or 0
        self._output += row.completion_tokens or 0
        if row.first_token_us is not None:
            self._first_token.add(row.first_token_us / 1e6)

    def _bring(self) -> None:
        for (operation, status), count in self._requests.items():
            METRICS.count("mesh_gateway_requests_total", count, operation=operation, status=str(status))
        for operation, seen in self._seconds.items():
            METRICS.merge("mesh_gateway_request_seconds", seen, operation=operation)
        for code, count in self._refusals.items():
            METRICS.count("mesh_gateway_refusals_total", count, code=code)
        if self._first_token.count:
            METRICS.merge("mesh_gateway_first_token_seconds", self._first_token)
        for kind, tokens in (("input", self._input), ("output", self._output)):
            if tokens:
                METRICS.count("mesh_gateway_tokens_total", tokens, type=kind)
        self._requests.clear()
        self._seconds.clear()
        self._refusals.clear()
        self._first_token = Histogram()
        self._input = self._output = 0
