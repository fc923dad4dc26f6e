import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh_tools import trace
from meshkit import spanfile, telemetry
from meshkit.config import Secret, Settings
from meshkit.logs import JsonLines, cleaned
from meshkit.metrics import DROPPED, SERIES_MAX, Metrics
from meshkit.spanfile import FILES_KEPT_MAX
from meshkit.telemetry import METRICS
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext

from tests.mesh.otlp_receiver import OtlpReceiver, assert_one_whole_trace, otlp_receiver

UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SAMPLED = UNSAMPLED[:-2] + "01"


def settings(
    folder: Path | None = None, *, endpoint: str | None = None, ratio: float = 1.0
) -> Settings:
    return Settings(
        nats_url="nats://127.0.0.1:1",
        nats_credentials=Path("nobody.nk"),
        mesh_secret_file=Path("no-secret"),
        mesh_trace_dir=folder,
        mesh_trace_ratio=ratio,
        otel_exporter_otlp_endpoint=endpoint,
    )


@pytest.fixture(autouse=True)
def _silent_again() -> Iterator[None]:
    yield
    telemetry.stop()
    METRICS.clear()


@pytest.fixture
def collector() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


def lines_in(folder: Path) -> list[dict[str, object]]:
    return [
        json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()
    ]


def test_spans_reach_the_file_within_half_a_second_and_mesh_trace_shows_them_as_a_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.start("inference-gateway", settings(tmp_path / "traces"))
    with telemetry.span("POST /v1/chat/completions", attributes={"mesh.request_id": "req_1"}):
        begun = telemetry.traceparent()
    with telemetry.span("answer placement.endpoint.get", parent=begun):
        pass

    assert trace.main(["req_1", "--data", str(tmp_path), "--wait", "0.5"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "2 spans" in said[0]
    assert said[1].strip().startswith("POST /v1/chat/completions")
    assert "└─ answer placement.endpoint.get" in said[2]


def test_an_unknown_request_is_said_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "traces").mkdir()
    assert trace.main(["req_none", "--data", str(tmp_path)]) == 1
    assert "--wait" in capsys.readouterr().err
    assert trace.main(["req_none", "--data", str(tmp_path / "elsewhere")]) == 1
    assert "--data" in capsys.readouterr().err


def test_an_unsampled_parent_records_nothing_and_hands_its_trace_on(tmp_path: Path) -> None:
    telemetry.start("metering", settings(tmp_path))
    with telemetry.span("handle", parent=UNSAMPLED) as outer, telemetry.span("publish"):
        assert not outer.is_recording()
        assert telemetry.traceparent() == UNSAMPLED
    assert telemetry.traceparent() is None
    telemetry.stop()
    assert lines_in(tmp_path) == []


def test_a_batch_links_the_traces_it_came_from(tmp_path: Path) -> None:
    telemetry.start("metering", settings(tmp_path))
    with telemetry.span("handle batch", links=[SAMPLED, "not a traceparent"]):
        pass
    telemetry.stop()
    [line] = lines_in(tmp_path)
    assert line["parent_id"] is None
    assert line["links"] == [{"trace_id": SAMPLED[3:35], "span_id": SAMPLED[36:52]}]


def test_a_fault_is_named_by_its_type_and_its_words_stay_out(tmp_path: Path) -> None:
    telemetry.start("identity", settings(tmp_path))
    with pytest.raises(ValueError, match="my prompt"), telemetry.span("handle"):
        raise ValueError("my prompt")
    telemetry.stop()
    [line] = lines_in(tmp_path)
    assert line["status"] == "error"
    assert line["attributes"] == {"error.type": "ValueError"}


def test_a_ratio_of_nothing_keeps_no_trace_and_a_stranger_cannot_ask_for_one(tmp_path: Path) -> None:
    telemetry.start("inference-gateway", settings(tmp_path, ratio=0.0))
    edge = telemetry.edge_parent(SAMPLED)
    assert edge == UNSAMPLED
    with telemetry.span("POST /v1/embeddings", parent=edge):
        pass
    with telemetry.span("POST /v1/embeddings"):
        pass
    telemetry.stop()
    assert lines_in(tmp_path) == []


def test_a_tenth_of_traces_is_kept_whole_or_not_at_all(collector: OtlpReceiver) -> None:
    telemetry.start("inference-gateway", settings(endpoint=collector.endpoint, ratio=0.1))
    for _ in range(200):
        with telemetry.span("request"):
            begun = telemetry.traceparent()
        with telemetry.span("ask", parent=begun):
            pass
    telemetry.stop()
    traces = {span.trace_id for span in collector.spans}
    assert 0 < len(traces) < 100
    for kept in traces:
        assert_one_whole_trace(collector.trace(kept))


def test_spans_metrics_and_logs_leave_over_otlp(collector: OtlpReceiver) -> None:
    telemetry.start("placement", settings(endpoint=collector.endpoint))
    METRICS.count("mesh_facts_handled_total", tag="agent.node.joined/1")
    METRICS.observe("mesh_handle_seconds", 0.003)
    METRICS.set("mesh_backlog", 7)
    with telemetry.span("handle", attributes={"messaging.system": "nats"}):
        logging.getLogger("placement").info("a node joined")
        begun = telemetry.trace_id()
    telemetry.stop()
    [span] = collector.spans
    assert (span.service, span.name, span.attributes["messaging.system"]) == (
        "placement",
        "handle",
        "nats",
    )
    assert collector.metrics["placement"] >= {
        "mesh_facts_handled_total",
        "mesh_handle_seconds",
        "mesh_backlog",
    }
    assert ("placement", begun, "a node joined") in collector.logs


def test_a_collector_that_never_answers_slows_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        telemetry.start("carbon-accounting", settings(endpoint=endpoint))
        began = time.monotonic()
        for _ in range(3_000):
            with telemetry.span("handle"):
                pass
        took = time.monotonic() - began
        stopping = time.monotonic()
        telemetry.stop()
        stopped = time.monotonic() - stopping
    # Three thousand that each waited would take an hour.
    assert took < 10
    assert stopped < 10


def test_a_span_file_has_a_bound_and_one_that_somebody_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spanfile, "FILE_BYTES_MAX", 4_096)
    exporter = spanfile.FileSpanExporter(tmp_path, "gateway")
    span = ReadableSpan("a span", SpanContext(1, 2, is_remote=False))
    for _ in range(100):
        assert exporter.export([span]) is SpanExportResult.SUCCESS
    newer, older = sorted(tmp_path.glob("*.jsonl"), key=lambda path: len(path.name))
    assert 0 < newer.stat().st_size <= 4_096
    assert 0 < older.stat().st_size <= 4_096
    newer.unlink()
    for _ in range(100):
        assert exporter.export([span]) is SpanExportResult.SUCCESS
    assert 0 < newer.stat().st_size <= 4_096
    exporter.shutdown()


def test_files_of_processes_long_gone_are_forgotten(tmp_path: Path) -> None:
    gone = [tmp_path / f"node-agent-{2**30 + number}.jsonl" for number in range(FILES_KEPT_MAX + 5)]
    for path in gone:
        path.write_text("{}\n")
    other = tmp_path / f"node-agent-door-{2**30}.jsonl"
    other.write_text("{}\n")
    telemetry.start("node-agent", settings(tmp_path))
    assert sum(path.exists() for path in gone) == FILES_KEPT_MAX
    assert other.exists()


def test_a_log_line_is_json_with_its_trace_and_without_secrets(tmp_path: Path) -> None:
    telemetry.start("identity", settings(tmp_path))
    text = (
        "postgresql://identity:hunter2@127.0.0.1/identity mesh_project_"
        + "a" * 36
        + " SU"
        + "A" * 56
        + f" Bearer abc.def {Secret('hunter3')}"
    )
    record = logging.LogRecord("identity.app", logging.WARNING, "", 0, "%s", (text,), None)
    with telemetry.span("handle"):
        line = json.loads(JsonLines("identity").format(record))
        assert line["trace_id"] == telemetry.trace_id()
    assert line["level"] == "warning"
    assert line["message"] == (
        "postgresql://identity:***@127.0.0.1/identity mesh_project_*** SU*** Bearer *** ***"
    )
    assert cleaned("nothing to hide") == "nothing to hide"


def test_metrics_are_shown_as_prometheus_text() -> None:
    kept = Metrics()
    kept.count("mesh_asks_total", tag="a", outcome='say "hi"\n\\')
    kept.count("mesh_asks_total", 2, outcome='say "hi"\n\\', tag="a")
    kept.set("mesh_backlog", 1.5)
    kept.observe("mesh_handle_seconds", 0.002)
    kept.observe("mesh_handle_seconds", 999)
    said = kept.expose().decode().splitlines()
    assert 'mesh_asks_total{outcome="say \\"hi\\"\\n\\\\",tag="a"} 3' in said
    assert "# TYPE mesh_backlog gauge" in said
    assert "mesh_backlog 1.5" in said
    assert 'mesh_handle_seconds_bucket{le="0.001"} 0' in said
    assert 'mesh_handle_seconds_bucket{le="0.0025"} 1' in said
    assert 'mesh_handle_seconds_bucket{le="+Inf"} 2' in said
    assert "mesh_handle_seconds_count 2" in said


def test_labels_without_bound_are_dropped_and_counted() -> None:
    kept = Metrics()
    for number in range(SERIES_MAX + 3):
        kept.count("mesh_asks_total", tag=str(number))
    assert kept.value(DROPPED, metric="mesh_asks_total") == 3
    assert kept.value("mesh_asks_total", tag=str(SERIES_MAX)) == 0
    assert kept.value("mesh_asks_total", tag="0") == 1
