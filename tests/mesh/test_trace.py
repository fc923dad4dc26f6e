"""One request's trace, rebuilt from what the services really export over OTLP."""

import pytest

from tests.mesh.harness import Mesh
from tests.mesh.otlp_receiver import OtlpReceiver, Received, assert_one_whole_trace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CHAT = {
    "model": "tiny",
    "stream": True,
    "max_tokens": 4,
    "messages": [{"role": "user", "content": "a word that no span may hold"}],
}


def test_one_request_is_one_trace_from_http_to_the_ledger_line_and_the_footprint(
    traced: tuple[Mesh, OtlpReceiver],
) -> None:
    mesh, receiver = traced
    answered = mesh.tenant.call("POST", "/v1/chat/completions", CHAT)
    request_id = answered.headers["x-request-id"]

    def footprint(spans: list[Received]) -> bool:
        mine = [one for one in spans if one.attributes.get("mesh.request_id") == request_id]
        if not mine:
            return False
        whole = [one.name for one in spans if one.trace_id == mine[0].trace_id]
        return "footprint.settle" in whole

    receiver.wait_for(footprint, within_s=40.0)
    trace = receiver.whole_trace(receiver.trace_of(request_id))
    root = assert_one_whole_trace(trace)
    services = {span.service for span in trace}
    names = {span.name for span in trace}
    assert root.service == "inference-gateway"
    assert {"inference-gateway", "metering", "carbon-accounting"} <= services
    assert {"ledger.record", "footprint.settle"} <= names
    assert all("a word that no span may hold" not in str(span) for span in trace)
    shown = mesh.record(request_id)
    why, settled = shown["usage"]["explained"], shown["footprint"]
    assert shown["trace_id"] == root.trace_id
    assert why["chosen_by"] == "only"
    assert [one["workload_id"] for one in why["considered"]] == [shown["usage"]["workload_id"]]
    assert (settled["state"], settled["quality"]) == ("settled", "estimated")
    assert settled["energy_uj"] is not None, "a node whose meter is read served it"
    assert "a word that no span may hold" not in str(shown)


def test_an_ask_is_one_trace_from_http_through_the_outbox_to_the_fact_that_follows(
    traced: tuple[Mesh, OtlpReceiver],
) -> None:
    mesh, receiver = traced
    mesh.operator.post("/api/v1/organizations", {"name": "traced"})
    mesh.operator.post("/api/v1/projects", {"organization": "traced", "name": "traced"})

    def handled(spans: list[Received]) -> set[str]:
        """The traces that began at the door and reached a handler of metering."""
        asked = {
            one.trace_id
            for one in spans
            if one.service == "inference-gateway" and "projects" in str(one.attributes)
        }
        return asked & {
            one.trace_id
            for one in spans
            if one.name == "process identity.project.admitted/1" and one.service == "metering"
        }

    spans = receiver.wait_for(lambda spans: bool(handled(spans)), within_s=20.0)
    trace = receiver.whole_trace(handled(spans).pop())
    assert_one_whole_trace(trace)
    assert {"inference-gateway", "identity"} <= {span.service for span in trace}
