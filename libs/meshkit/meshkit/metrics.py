"""Counters, gauges and histograms kept by hand, and their Prometheus text."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator

SERIES_MAX = 512
"""Label sets kept of one metric; further ones are counted in ``mesh_metrics_dropped_total``."""

BUCKETS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    120.0,
)
"""Upper bounds of every histogram's buckets."""

DROPPED = "mesh_metrics_dropped_total"

Labels = tuple[tuple[str, str], ...]


class Histogram:
    """How often a value fell into each bucket, the sum of all and their number."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        """Count ``value`` in."""
        self.buckets[bisect_left(BUCKETS_S, value)] += 1
        self.total += value
        self.count += 1

    def merge(self, other: "Histogram") -> None:
        """Count all of another one in."""
        self.buckets = [ours + more for ours, more in zip(self.buckets, other.buckets, strict=True)]
        self.total += other.total
        self.count += other.count

    def copy(self) -> "Histogram":
        """Return the histogram as it is now."""
        twin = Histogram()
        twin.buckets, twin.total, twin.count = list(self.buckets), self.total, self.count
        return twin


Value = float | Histogram


class Metrics:
    """Counters, gauges and histograms kept by hand, shown as Prometheus text and over OTLP.

    Names follow Prometheus (``mesh_facts_handled_total``); labels are few and bounded. Safe to
    use from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[str, str] = {}
        self._series: dict[str, dict[Labels, Value]] = {}
        self._gathered: list[Callable[[], None]] = []

    def gather(self, bring: Callable[[], None]) -> None:
        """Call ``bring`` with each ``bring()``: it counts in what was counted elsewhere, by hand.

        What is exposed and read one by one is brought before; what another thread sends is as old as the
        last ``bring()``.
        """
        self._gathered.append(bring)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter (``*_total``)."""
        assert amount >= 0, "a counter only rises"
        with self._lock:
            series, key = self._slot(name, "counter", labels)
            if key is not None:
                series[key] = series.get(key, 0) + amount  # type: ignore[operator]

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            series, key = self._slot(name, "gauge", labels)
            if key is not None:
                series[key] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add to a histogram (seconds: ``*_seconds``)."""
        with self._lock:
            series, key = self._slot(name, "histogram", labels)
            if key is not None:
                held = series.get(key)
                if held is None:
                    held = series[key] = Histogram()
                held.add(value)  # type: ignore[union-attr]

    def merge(self, name: str, seen: Histogram, **labels: str) -> None:
        """Add all of ``seen``, which was kept elsewhere, to a histogram."""
        with self._lock:
            series, key = self._slot(name, "histogram", labels)
            if key is not None:
                held = series.setdefault(key, Histogram())
                held.merge(seen)  # type: ignore[union-attr]

    def expose(self) -> bytes:
        """Return the Prometheus text format."""
        self.bring()
        lines = []
        for name, kind, series in self.snapshot():
            lines.append(f"# TYPE {name} {kind}")
            for labels, value in sorted(series.items()):
                lines.extend(_lines(name, labels, value))
        return ("\n".join(lines) + "\n").encode() if lines else b""

    def snapshot(self) -> list[tuple[str, str, dict[Labels, Value]]]:
        """Return (name, kind, value by sorted labels) of everything kept, by name."""
        with self._lock:
            return [
                (name, self._kinds[name], {tuple(sorted(k)): _copy(v) for k, v in series.items()})
                for name, series in sorted(self._series.items())
            ]

    def value(self, name: str, **labels: str) -> float:
        """Return a counter's or gauge's value, or a histogram's count; 0 where there is none."""
        self.bring()
        wanted = tuple(sorted(labels.items()))
        with self._lock:
            for key, held in self._series.get(name, {}).items():
                if tuple(sorted(key)) == wanted:
                    return held.count if isinstance(held, Histogram) else held
        return 0

    def bring(self) -> None:
        """Have all that was counted by hand counted in, in the thread that counts it."""
        for bring in self._gathered:
            bring()

    def clear(self) -> None:
        """Forget everything (between tests)."""
        with self._lock:
            self._kinds.clear()
            self._series.clear()

    def _slot(
        self, name: str, kind: str, labels: dict[str, str]
    ) -> tuple[dict[Labels, Value], Labels | None]:
        # Labels stay in the order of the call: one call site, one order, no sort on the hot path.
        # Two orders of one set would show twice, so a new key is looked for sorted, once.
        key: Labels | None = tuple(labels.items())
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = {}
            self._kinds[name] = kind
        assert self._kinds[name] == kind, f"{name} is a {self._kinds[name]}, not a {kind}"
        if key not in series and key:
            wanted = sorted(key)
            key = next((held for held in series if sorted(held) == wanted), key)
            if key not in series and len(series) >= SERIES_MAX:
                self._drop(name)
                key = None
        return series, key

    def _drop(self, name: str) -> None:
        series = self._series.setdefault(DROPPED, {})
        self._kinds[DROPPED] = "counter"
        key: Labels = (("metric", name),)
        series[key] = series.get(key, 0) + 1  # type: ignore[operator]


def _copy(value: Value) -> Value:
    return value.copy() if isinstance(value, Histogram) else value


def _lines(name: str, labels: Labels, value: Value) -> Iterator[str]:
    if not isinstance(value, Histogram):
        yield f"{name}{_braces(labels)} {_number(value)}"
        return
    so_far = 0
    for bound, count in zip((*BUCKETS_S, float("inf")), value.buckets, strict=True):
        so_far += count
        yield f"{name}_bucket{_braces((*labels, ('le', _number(bound))))} {so_far}"
    yield f"{name}_sum{_braces(labels)} {_number(value.total)}"
    yield f"{name}_count{_braces(labels)} {value.count}"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels) + "}"


def _escaped(text: str) -> str:
    return str(text).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    if value == float("-inf"):
        return "-Inf"
    if value != value:  # noqa: PLR0124 - the shortest way to know a NaN
        return "NaN"
    return str(int(value)) if value == int(value) else repr(float(value))


METRICS = Metrics()
"""This process's metrics."""
