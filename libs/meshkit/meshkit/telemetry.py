"""One trace from HTTP to the last fact; counters kept by hand; logs that carry the trace.

What is slow to import (the SDK, the exporters) is imported when telemetry starts, not before.
"""

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

from meshkit import semconv
from meshkit.config import Settings
from meshkit.logs import log_to_stderr
from meshkit.metrics import METRICS, Metrics
from meshkit.spans import LINKS_MAX, TRACING, Sampler, edge_parent, span, trace_id, traceparent, unkept

__all__ = [
    "METRICS",
    "Metrics",
    "Sampler",
    "SpanKind",
    "edge_parent",
    "span",
    "start",
    "stop",
    "trace_id",
    "traceparent",
    "unkept",
]

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from meshkit.otlp import OtlpSender

SPAN_QUEUE_MAX = 2_048
"""Spans waiting to leave; past it the oldest are dropped."""

SPAN_BATCH_MAX = 256
FLUSH_EVERY_S = 0.25
EXPORT_TIMEOUT_S = 3.0
STOP_WITHIN_S = 1.0
ATTRIBUTES_MAX = 32
ATTRIBUTE_CHARS_MAX = 256


class _Started:
    provider: "TracerProvider | None" = None
    exporter: "SpanExporter | None" = None
    handler: logging.Handler | None = None
    sender: "OtlpSender | None" = None


_STARTED = _Started()


def start(service: str, settings: Settings) -> None:
    """Begin to export spans, metrics and logs for ``service``; an exporter that is down slows nothing.

    Starting again replaces what ran before.
    """
    stop()
    _STARTED.handler = log_to_stderr(service)
    TRACING.ratio = settings.mesh_trace_ratio
    resource = _resource(service, settings)
    if settings.otel_exporter_otlp_endpoint:
        from meshkit.otlp import OtlpSender  # noqa: PLC0415 - slow

        _STARTED.sender = OtlpSender(settings.otel_exporter_otlp_endpoint, resource)
        logging.getLogger().addHandler(_STARTED.sender)
    exporter = _exporter(service, settings)
    if exporter is None:
        return
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - slow
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider  # noqa: PLC0415 - slow
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - slow
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415 - slow

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.mesh_trace_ratio)),
        resource=Resource(dict(resource), semconv.SCHEMA_URL),
        shutdown_on_exit=False,
        span_limits=SpanLimits(
            max_attributes=ATTRIBUTES_MAX,
            max_attribute_length=ATTRIBUTE_CHARS_MAX,
            max_links=LINKS_MAX,
            max_events=ATTRIBUTES_MAX,
        ),
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=SPAN_QUEUE_MAX,
            max_export_batch_size=SPAN_BATCH_MAX,
            schedule_delay_millis=FLUSH_EVERY_S * 1_000,
        )
    )
    _STARTED.provider, _STARTED.exporter = provider, exporter
    TRACING.tracer = provider.get_tracer("meshkit", schema_url=semconv.SCHEMA_URL)


def stop() -> None:
    """Flush within a second."""
    provider, _STARTED.provider = _STARTED.provider, None
    exporter, _STARTED.exporter = _STARTED.exporter, None
    sender, _STARTED.sender = _STARTED.sender, None
    handler, _STARTED.handler = _STARTED.handler, None
    TRACING.tracer = None
    until = time.monotonic() + STOP_WITHIN_S
    leaving = None
    if provider is not None:
        # An exporter that hangs is left behind in a daemon thread, never waited for.
        leaving = threading.Thread(target=provider.shutdown, name="telemetry-stop", daemon=True)
        leaving.start()
    if sender is not None:
        logging.getLogger().removeHandler(sender)
        sender.finish(max(0.0, until - time.monotonic()))
    if leaving is not None:
        leaving.join(max(0.0, until - time.monotonic()))
        if leaving.is_alive() and exporter is not None:
            # It waits for a collector that is away: its retries end here, and its thread with them.
            exporter.shutdown()
    if handler is not None:
        logging.getLogger().removeHandler(handler)


def _exporter(service: str, settings: Settings) -> "SpanExporter | None":
    if settings.otel_exporter_otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - slow
            OTLPSpanExporter,
        )

        endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/")
        return OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    if settings.mesh_trace_dir is not None:
        from meshkit.spanfile import FileSpanExporter  # noqa: PLC0415 - slow

        return FileSpanExporter(settings.mesh_trace_dir, service)
    return None


def _resource(service: str, settings: Settings) -> dict[str, str]:
    return {
        semconv.SERVICE_NAME: service,
        semconv.SERVICE_NAMESPACE: "compute-mesh",
        semconv.SERVICE_INSTANCE_ID: f"{service}-{os.getpid()}",
        semconv.CLOUD_AVAILABILITY_ZONE: settings.mesh_site,
    }
