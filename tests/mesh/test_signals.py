"""What ``deploy/signals.json`` promises to dashboards is what a running mesh really exports.

Run with ``MESH_WRITE_SIGNALS=1``, a failure writes down what was seen instead: review the difference.
"""

import json
import os
from typing import Any

import pytest

from tests.mesh.harness import ROOT, Mesh, until
from tests.mesh.otlp_receiver import OtlpReceiver, Received

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CATALOGUE = ROOT / "deploy" / "signals.json"
SEEN_WITHIN_S = 45.0
CHAT = {"model": "tiny", "max_tokens": 4, "messages": [{"role": "user", "content": "go on"}]}


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
