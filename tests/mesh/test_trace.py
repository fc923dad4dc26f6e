"""One request's trace, rebuilt from what the services really export over OTLP."""

from pathlib import Path

import pytest

from tests.mesh.harness import running
from tests.mesh.otlp_receiver import Received, assert_one_whole_trace, otlp_receiver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CHAT = {
    "model": "tiny",
    "stream": True,
    "max_tokens": 4,
    "messages": [{"role": "user", "content": "a word that no span may hold"}],
}


def test_one_request_is_one_trace_from_http_to_the_ledger_line_and_the_footprint(
    tmp_path: Path,
) -> None:
    with otlp_receiver() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        with running(tmp_path, environment=environment) as mesh:
            answered = mesh.tenant.call("POST", "/v1/chat/completions", CHAT)
            request_id = answered.headers["x-request-id"]

            def footprint(spans: list[Received]) -> bool:
                mine = [one for one in spans if one.attributes.get("mesh.request_id") == request_id]
                if not mine:
                    return False
                whole = [one.name for one in spans if one.trace_id == mine[0].trace_id]
                return "footprint.settle" in whole

            receiver.wait_for(footprint, within_s=40.0)
            trace = receiver.trace(receiver.trace_of(request_id))
    root = assert_one_whole_trace(trace)
    services = {span.service for span in trace}
    names = {span.name for span in trace}
    assert root.service == "inference-gateway"
    assert {"inference-gateway", "metering", "carbon-accounting"} <= services
    assert {"ledger.record", "footprint.settle"} <= names
    assert all("a word that no span may hold" not in str(span) for span in trace)


def test_an_ask_is_one_trace_from_http_through_the_outbox_to_the_fact_that_follows(
    tmp_path: Path,
) -> None:
    with otlp_receiver() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        with running(tmp_path, "--bare", environment=environment) as mesh:
            mesh.operator.post("/api/v1/organizations", {"name": "traced"})
            mesh.operator.post("/api/v1/projects", {"organization": "traced", "name": "traced"})

            def handled(spans: list[Received]) -> bool:
                process = [one for one in spans if one.name == "process identity.project.admitted/1"]
                published = {
                    one.trace_id for one in spans if "project" in one.name and one.service == "identity"
                }
                return any(one.trace_id in published for one in process if one.service == "metering")

            spans = receiver.wait_for(handled, within_s=20.0)
            process = [one for one in spans if one.name == "process identity.project.admitted/1"]
            asked = [
                one.trace_id
                for one in spans
                if one.service == "inference-gateway" and "projects" in str(one.attributes)
            ]
            trace_ids = {one.trace_id for one in process} & set(asked)
            assert trace_ids, "no process span belongs to a trace that began at the door"
            trace = receiver.trace(trace_ids.pop())
    assert_one_whole_trace(trace)
    assert {"inference-gateway", "identity"} <= {span.service for span in trace}
