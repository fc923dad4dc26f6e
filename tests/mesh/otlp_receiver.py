"""A collector for tests: takes OTLP over HTTP on loopback and keeps what came."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SPANS_MAX = 200_000


@dataclass(frozen=True)
class Received:
    """One span as it arrived; ids in hex, times in ns."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int
    service: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    error: bool


@dataclass
class OtlpReceiver:
    """What services have exported to ``endpoint`` so far."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    metrics: dict[str, set[str]] = field(default_factory=dict)
    """Names of metrics by service."""
    kinds: dict[str, str] = field(default_factory=dict)
    """Each metric's kind: ``gauge``, ``counter`` or ``histogram``."""
    labels: dict[str, set[str]] = field(default_factory=dict)
    """The labels that any series of a metric has."""
    resource: set[str] = field(default_factory=set)
    """The attributes that every resource of a metric has."""
    logs: list[tuple[str, str, str]] = field(default_factory=list)
    """(service, trace id or nothing, message) of each log record."""
    refuse: bool = False
    """While true every export is answered 503."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def trace(self, trace_id: str) -> list[Received]:
        """Return a trace's spans by start."""
        with self.lock:
            found = [span for span in self.spans if span.trace_id == trace_id]
        return sorted(found, key=lambda span: span.start_ns)

    def whole_trace(self, trace_id: str, *, within_s: float = 5.0) -> list[Received]:
        """Return a trace's spans once every parent has come, or as they are after ``within_s``.

        Each process exports on its own time: a parent may come after its child.
        """
        until = time.monotonic() + within_s
        while True:
            spans = self.trace(trace_id)
            if not orphans_of(spans) or time.monotonic() > until:
                return spans
            time.sleep(0.02)

    def trace_of(self, request_id: str) -> str:
        """Return the trace id of a request. Fails where no span carries the request id."""
        with self.lock:
            found = {
                s.trace_id for s in self.spans if s.attributes.get("mesh.request_id") == request_id
            }
        assert len(found) == 1, f"{request_id} stands in {len(found)} traces"
        return found.pop()

    def wait_for(
        self, wanted: Callable[[list[Received]], bool], *, within_s: float = 10.0
    ) -> list[Received]:
        """Return the first set of spans for which ``wanted`` is true. Fails after ``within_s``."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            with self.lock:
                spans = list(self.spans)
            if wanted(spans):
                return spans
            time.sleep(0.02)
        names = sorted({f"{span.service}: {span.name}" for span in self.spans})
        raise AssertionError(f"not within {within_s} s; so far: {names}")


def orphans_of(spans: list[Received]) -> list[str]:
    """Return the service and name of each span whose parent is missing."""
    known = {span.span_id for span in spans}
    return [f"{s.service}: {s.name}" for s in spans if s.parent_id and s.parent_id not in known]


def assert_one_whole_trace(spans: list[Received]) -> Received:
    """Return the root. Fails on a second trace id, a second root, or a span whose parent is missing."""
    assert spans, "no span"
    assert len({span.trace_id for span in spans}) == 1, "more than one trace"
    assert not orphans_of(spans), f"orphans: {orphans_of(spans)}"
    roots = [span for span in spans if span.parent_id is None]
    assert len(roots) == 1, f"{len(roots)} roots: {[root.name for root in roots]}"
    return roots[0]


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Receive on a free port until the end of the block."""
    receiver = OtlpReceiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.headers.get("content-encoding") == "gzip":
                raw = gzip.decompress(raw)
            status = 503 if receiver.refuse else _keep(receiver, self.path, raw)
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    serving.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        serving.join(5)


def _keep(receiver: OtlpReceiver, path: str, raw: bytes) -> int:
    if path == "/v1/traces":
        request = ExportTraceServiceRequest.FromString(raw)
        kept = [
            _span(_service(resource.resource), span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with receiver.lock:
            receiver.spans.extend(kept)
            assert len(receiver.spans) <= SPANS_MAX
    elif path == "/v1/metrics":
        for measured in ExportMetricsServiceRequest.FromString(raw).resource_metrics:
            about = {pair.key for pair in measured.resource.attributes}
            with receiver.lock:
                receiver.resource = receiver.resource & about if receiver.metrics else about
                names = receiver.metrics.setdefault(_service(measured.resource), set())
                for scope in measured.scope_metrics:
                    for metric in scope.metrics:
                        names.add(metric.name)
                        _measure(receiver, metric)
    elif path == "/v1/logs":
        for said in ExportLogsServiceRequest.FromString(raw).resource_logs:
            records = [
                (_service(said.resource), record.trace_id.hex(), record.body.string_value)
                for scope in said.scope_logs
                for record in scope.log_records
            ]
            with receiver.lock:
                receiver.logs.extend(records)
    else:
        return 404
    return 200


def _measure(receiver: OtlpReceiver, metric: Any) -> None:
    shape = metric.WhichOneof("data")
    receiver.kinds[metric.name] = "counter" if shape == "sum" else shape
    held = receiver.labels.setdefault(metric.name, set())
    for point in getattr(metric, shape).data_points:
        held.update(pair.key for pair in point.attributes)


def _service(resource: Any) -> str:
    return str(_attributes(resource.attributes).get("service.name", ""))


def _span(service: str, span: Any) -> Received:
    return Received(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=span.kind,
        service=service,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        error=span.status.code == 2,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
