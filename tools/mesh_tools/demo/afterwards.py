"""What stays of a request: its usage, its cost, its receipt, its trace, its events."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from mesh_tools import receipt as verifier
from mesh_tools import trace as tracer
from mesh_tools.demo.client import events
from mesh_tools.demo.scene import Scene, until

LEDGER_WITHIN_S = 10.0
RECEIPT_WITHIN_S = 25.0
TRACE_WITHIN_S = 10.0
EVENTS_WITHIN_S = 10.0
ROAD = ("ledger.record", "footprint.settle")
"""Spans at the end of a request's road: its ledger line and its footprint."""


def usage_and_cost(scene: Scene) -> str:
    """Show the request's ledger line, and the project's sums."""

    def look() -> dict[str, Any] | None:
        answered = scene.tenant.call("GET", f"/api/v1/requests/{scene.request_id}")
        return answered.body if answered.status == 200 else None

    record = until("the request stands in the ledger", LEDGER_WITHIN_S, look)
    usage = record["usage"]
    assert usage["state"] == "completed", usage
    sums = [item for item in scene.tenant.get("/api/v1/usage")["items"] if item["model"] == "story"]
    assert len(sums) == 1, sums
    assert sums[0]["requests"] == 1, sums
    assert sums[0]["completion_tokens"] == usage["completion_tokens"], sums
    return (
        f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens ({usage['tokens_from']}), "
        f"{record['cost_microeur']} micro-euros by {record['price_id']}"
    )


def receipt(scene: Scene) -> str:
    """Fetch the request's signed receipt and verify it offline."""

    def look() -> dict[str, Any] | None:
        answered = scene.tenant.call("GET", f"/api/v1/carbon/receipts/{scene.request_id}")
        return answered.body if answered.status == 200 else None

    scene.receipt = until("the receipt is settled", RECEIPT_WITHIN_S, look)
    key = scene.tenant.get("/api/v1/carbon/signing-key")["public_key"]
    code, said = _verify(scene, scene.receipt, key)
    assert code == 0, said
    return (
        f"{scene.receipt['energy_uj']} µJ ({scene.receipt['quality']}), {scene.receipt['carbon_ug']} µg CO2e, "
        f"{scene.receipt['factor']['factor_id']}; verified"
    )


def tampered_receipt(scene: Scene) -> str:
    """Halve the energy in the receipt: the verifier must refuse it."""
    key = scene.tenant.get("/api/v1/carbon/signing-key")["public_key"]
    forged = {**scene.receipt, "energy_uj": str(int(scene.receipt["energy_uj"]) // 2)}
    code, said = _verify(scene, forged, key)
    assert code == 1, f"a forged receipt was accepted: {said}"
    return said.strip().splitlines()[-1]


def _verify(scene: Scene, body: dict[str, Any], key: str) -> tuple[int, str]:
    path = Path(scene.folder) / "receipt.json"
    path.write_text(json.dumps(body))
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = verifier.main(["verify", str(path), "--key", key])
    return code, said.getvalue()


def trace(scene: Scene) -> str:
    """Show the request's spans as a tree, from HTTP to the ledger line and the footprint."""

    def look() -> str | None:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            tracer.main([scene.request_id, "--data", str(scene.folder)])
        tree = said.getvalue()
        return tree if all(name in tree for name in ROAD) else None

    return "one tree\n" + until("the trace reaches the footprint", TRACE_WITHIN_S, look).rstrip()


def events_resume(scene: Scene) -> str:
    """Read events, drop the stream, miss some, resume from the cursor: the whole list, no gap."""
    before = _read(scene, "", wanted=3)
    dropped_at = before[-1][0]
    answered = scene.tenant.post(
        "/v1/chat/completions",
        {"model": "story", "max_tokens": 4, "messages": [{"role": "user", "content": "again"}]},
    )
    assert answered.status == 200, answered.status

    def resumed() -> list[tuple[str, dict[str, Any]]] | None:
        read = _read(scene, dropped_at, wanted=1)
        return read or None

    after = until("events after the cursor", EVENTS_WITHIN_S, resumed)
    whole = _read(scene, "", wanted=len(before) + len(after))
    joined = [event["id"] for _, event in before + after]
    assert joined == [event["id"] for _, event in whole][: len(joined)], "the resumed stream has a gap"
    kinds = sorted({event["type"] for _, event in whole})
    return f"{len(before)} events, dropped, {len(after)} more; types {', '.join(kinds)}"


def _read(scene: Scene, after: str, *, wanted: int) -> list[tuple[str, dict[str, Any]]]:
    headers = {"accept": "text/event-stream"}
    if after:
        headers["last-event-id"] = after
    connection, response = scene.tenant.open("GET", "/api/v1/events", headers=headers)
    try:
        assert response.status == 200, f"{response.status} {response.read().decode(errors='replace')}"
        read = []
        for event in events(response, seconds=EVENTS_WITHIN_S):
            read.append((event.cursor, json.loads(event.data)))
            if len(read) >= wanted:
                break
    finally:
        connection.close()
    return read
