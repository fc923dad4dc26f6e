"""One trace from HTTP to the last fact; counters kept by hand; logs that carry the trace."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import Span, SpanKind

from meshkit.config import Settings


class Metrics:
    """Counters, gauges and histograms kept by hand, shown as Prometheus text and over OTLP.

    Names follow Prometheus (``mesh_facts_handled_total``); labels are few and bounded.
    """

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter (``*_total``)."""
        raise NotImplementedError

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        raise NotImplementedError

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add to a histogram (seconds: ``*_seconds``)."""
        raise NotImplementedError

    def expose(self) -> bytes:
        """Return the Prometheus text format."""
        raise NotImplementedError


METRICS = Metrics()
"""This process's metrics."""


def start(service: str, settings: Settings) -> None:
    """Begin to export spans, metrics and logs for ``service``; an exporter that is down slows nothing."""
    raise NotImplementedError


def stop() -> None:
    """Flush within a second."""
    raise NotImplementedError


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str | None = None,
    links: list[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Iterator[Span]:
    """Run a block within a span. ``parent`` and ``links`` are traceparents; without a parent the
    current span is. A parent that is unsampled makes an unrecorded span.
    """
    raise NotImplementedError
    yield


def traceparent() -> str | None:
    """Return the current span's traceparent, or nothing outside of one."""
    raise NotImplementedError
