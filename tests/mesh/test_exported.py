"""What the services export over OTLP: one request is one trace, and every signal is what the catalogue promises.

``deploy/signals.json`` is what dashboards are promised. Run with ``MESH_WRITE_SIGNALS=1``, a failure writes down what
was seen instead: review the difference.
"""

import json
import os
from typing import Any

import pytest

from tests.mesh.harness import ROOT, Mesh, until
from tests.mesh.otlp_receiver import OtlpReceiver, Received, assert_one_whole_trace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CATALOGUE = ROOT / "deploy" / "signals.json"
SEEN_WITHIN_S = 45.0
CHAT = {"model": "tiny", "max_tokens": 4, "messages": [{"role": "user", "content": "go on"}]}
TOLD = {
    "model": "tiny",
    "stream": True,
    "max_tokens": 4,
    "messages": [{"role": "user", "content": "a word that no span may hold"}],
}


def test_one_request_is_one_trace_from_http_to_the_ledger_line_and_the_footprint(
    traced: tuple[Mesh, OtlpReceiver],
) -> None:
    mesh, receiver = traced
    answered = mesh.tenant.call("POST", "/v1/chat/completions", TOLD)
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


def test_every_signal_in_the_catalogue_is_exported_with_its_kind_and_labels(
    traced: tuple[Mesh, OtlpReceiver],
) -> None:
    mesh, receiver = traced
    promised = json.loads(CATALOGUE.read_text())
    mesh.tenant.post("/v1/chat/completions", CHAT)
    mesh.tenant.call("POST", "/v1/chat/completions", {**CHAT, "stream": True})
    refused = mesh.tenant.call("POST", "/v1/chat/completions", {**CHAT, "model": "of-nobody"})
    assert refused.status == 404
    mesh.operator.get("/api/v1/usage")

    def whole() -> dict[str, Any] | None:
        seen = _seen(receiver)
        return seen if not _missing(promised, seen) else None

    try:
        until("the mesh exports what is promised", SEEN_WITHIN_S, whole)
    except AssertionError:
        if os.environ.get("MESH_WRITE_SIGNALS"):
            CATALOGUE.write_text(_text(_seen(receiver)))
        raise AssertionError(_missing(promised, _seen(receiver))) from None


def test_a_promise_that_nobody_keeps_is_found() -> None:
    seen = {
        "resource": ["service.name"],
        "metrics": {"mesh_a_total": {"kind": "counter", "labels": ["owner"]}},
        "spans": {"identity": ["mesh.ask_tag"]},
    }
    assert _missing(seen, seen) == []
    other: list[dict[str, Any]] = [
        {**seen, "resource": ["service.name", "host.name"]},
        {**seen, "metrics": {"mesh_b_total": {"kind": "counter", "labels": []}}},
        {**seen, "metrics": {"mesh_a_total": {"kind": "gauge", "labels": ["owner"]}}},
        {**seen, "metrics": {"mesh_a_total": {"kind": "counter", "labels": ["owner", "key"]}}},
        {**seen, "spans": {"identity": ["mesh.request_id"]}},
        {**seen, "spans": {"placement": ["mesh.ask_tag"]}},
    ]
    assert [len(_missing(promised, seen)) for promised in other] == [1] * len(other)


def _seen(receiver: OtlpReceiver) -> dict[str, Any]:
    with receiver.lock:
        spans: list[Received] = list(receiver.spans)
        kinds = dict(receiver.kinds)
        labels = {name: sorted(held) for name, held in receiver.labels.items()}
        resource = sorted(receiver.resource)
    attributes: dict[str, set[str]] = {}
    for span in spans:
        attributes.setdefault(span.service, set()).update(span.attributes)
    return {
        "resource": resource,
        "metrics": {name: {"kind": kinds[name], "labels": labels[name]} for name in sorted(kinds)},
        "spans": {service: sorted(attributes[service]) for service in sorted(attributes)},
    }


def _text(seen: dict[str, Any]) -> str:
    """Return a catalogue as it is kept: a signal a line."""
    parts = []
    for name in ("metrics", "spans"):
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in seen[name].items()]
        parts.append(f' "{name}": {{\n' + ",\n".join(lines) + "\n }")
    return f'{{\n "resource": {json.dumps(seen["resource"])},\n' + ",\n".join(parts) + "\n}\n"


def _missing(promised: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    """Return what is promised and not there, in words."""
    missing = [
        f"the resource has no {name}" for name in promised["resource"] if name not in seen["resource"]
    ]
    for name, metric in promised["metrics"].items():
        found = seen["metrics"].get(name)
        if found is None:
            missing.append(f"nobody exports {name}")
        elif found["kind"] != metric["kind"]:
            missing.append(f"{name} is a {found['kind']}")
        else:
            missing += [
                f"{name} has no label {label}"
                for label in metric["labels"]
                if label not in found["labels"]
            ]
    for service, names in promised["spans"].items():
        missing += [
            f"no span of {service} has {name}"
            for name in names
            if name not in seen["spans"].get(service, [])
        ]
    return missing
