"""Metrics and logs over OTLP/HTTP, from one thread that nobody waits for.

Spans go through the SDK; these two are kept by hand already, so they are only encoded and sent.
A collector that is down or slow costs the log records it missed, and nothing else.
"""

import contextlib
import http.client
import logging
import threading
import time
import urllib.request
from collections import deque

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge as GaugeData
from opentelemetry.proto.metrics.v1.metrics_pb2 import Histogram as HistogramData
from opentelemetry.proto.metrics.v1.metrics_pb2 import Sum as SumData
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from meshkit.logs import MESSAGE_CHARS_MAX, cleaned
from meshkit.metrics import BUCKETS_S, METRICS, Histogram, Labels, Value
from meshkit.spans import trace_context

METRICS_EVERY_S = 10.0
LOGS_EVERY_S = 1.0
SEND_TIMEOUT_S = 3.0
RECORDS_MAX = 2_048
"""Log records waiting to leave; past it the oldest are dropped."""

_SCOPE = InstrumentationScope(name="meshkit")
_SEVERITY = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}


class OtlpSender(logging.Handler):
    """A log handler that keeps records, and the thread that sends them and the metrics."""

    def __init__(self, endpoint: str, resource: dict[str, str]) -> None:
        super().__init__(logging.INFO)
        self._endpoint = endpoint.rstrip("/")
        self._resource = Resource(attributes=_pairs(tuple(resource.items())))
        self._records: deque[LogRecord] = deque(maxlen=RECORDS_MAX)
        self._began_ns = time.time_ns()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record until the thread sends it."""
        try:
            trace, span = trace_context()
            self._records.append(
                LogRecord(
                    time_unix_nano=int(record.created * 1e9),
                    severity_number=_SEVERITY.get(record.levelname, 9),  # type: ignore[arg-type]
                    severity_text=record.levelname,
                    body=AnyValue(string_value=cleaned(record.getMessage())[:MESSAGE_CHARS_MAX]),
                    attributes=_pairs((("logger", record.name),)),
                    trace_id=trace,
                    span_id=span,
                )
            )
        except (ValueError, TypeError):
            self.handleError(record)

    def finish(self, within_s: float) -> None:
        """Send what is left, for at most ``within_s``."""
        self._stop.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        sent_at = 0.0
        while not self._stop.wait(LOGS_EVERY_S):
            self._send_logs()
            if time.monotonic() - sent_at >= METRICS_EVERY_S:
                sent_at = time.monotonic()
                self._send_metrics()
        self._send_logs()
        self._send_metrics()

    def _send_logs(self) -> None:
        records = []
        while self._records:
            with contextlib.suppress(IndexError):
                records.append(self._records.popleft())
        if records:
            logs = ScopeLogs(scope=_SCOPE, log_records=records)
            request = ExportLogsServiceRequest(
                resource_logs=[ResourceLogs(resource=self._resource, scope_logs=[logs])]
            )
            self._post("/v1/logs", request.SerializeToString())

    def _send_metrics(self) -> None:
        now_ns = time.time_ns()
        metrics = [
            _metric(name, kind, series, self._began_ns, now_ns)
            for name, kind, series in METRICS.snapshot()
        ]
        if metrics:
            scope = ScopeMetrics(scope=_SCOPE, metrics=metrics)
            request = ExportMetricsServiceRequest(
                resource_metrics=[ResourceMetrics(resource=self._resource, scope_metrics=[scope])]
            )
            self._post("/v1/metrics", request.SerializeToString())

    def _post(self, path: str, body: bytes) -> None:
        request = urllib.request.Request(  # noqa: S310 - the operator's own collector
            self._endpoint + path, data=body, headers={"content-type": "application/x-protobuf"}
        )
        try:
            with urllib.request.urlopen(request, timeout=SEND_TIMEOUT_S) as answer:  # noqa: S310 - same
                answer.read()
        except (OSError, http.client.HTTPException, ValueError):
            METRICS.count("mesh_telemetry_lost_total", signal=path.rpartition("/")[2])


def _metric(name: str, kind: str, series: dict[Labels, Value], began_ns: int, now_ns: int) -> Metric:
    numbers = [
        NumberDataPoint(
            attributes=_pairs(labels),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            as_double=value,
        )
        for labels, value in series.items()
        if not isinstance(value, Histogram)
    ]
    if kind == "gauge":
        return Metric(name=name, gauge=GaugeData(data_points=numbers))
    if kind == "counter":
        return Metric(
            name=name,
            sum=SumData(
                data_points=numbers,
                aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE,
                is_monotonic=True,
            ),
        )
    points = [
        HistogramDataPoint(
            attributes=_pairs(labels),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=value.count,
            sum=value.total,
            bucket_counts=value.buckets,
            explicit_bounds=BUCKETS_S,
        )
        for labels, value in series.items()
        if isinstance(value, Histogram)
    ]
    return Metric(
        name=name,
        histogram=HistogramData(
            data_points=points, aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE
        ),
    )


def _pairs(labels: Labels) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in labels]
