"""A node goes bad: the broken row is named, the node cordoned, its work moved; callers go on."""

import json
from typing import Any

from mesh_tools.demo.scene import Scene, until

CHECKED_WITHIN_S = 15.0
MOVED_WITHIN_S = 20.0
ROW = 17
IDLE = 1
"""A device beside the one where the replica is: nothing is checked beside somebody's work."""


def row_is_named(scene: Scene) -> str:
    """Flip a bit in the health kernel of the node that serves, on a device where nobody works, and have it checked."""
    endpoint = _story(scene)
    scene.broken_node = endpoint["workloads"][0]["node"]
    scenario = {"gemm": {"device": IDLE, "row": ROW, "col": 3, "bit": 5}}
    (scene.folder / "nodes" / scene.broken_node / "rehearsal.json").write_text(json.dumps(scenario))
    scene.operator.post(f"/api/v1/nodes/{scene.broken_node}:check")

    def look() -> dict[str, Any] | None:
        node = scene.operator.get(f"/api/v1/nodes/{scene.broken_node}")
        failed = [check for check in node.get("checks", []) if check["verdict"] == "fail"]
        return failed[0] if failed else None

    check = until("the check fails", CHECKED_WITHIN_S, look)
    assert check["evidence"]["row"] == ROW, check
    return (
        f"{check['name']} on {check['device_id']}: row {check['evidence']['row']} ({check['detail']})"
    )


def replica_is_moved(scene: Scene) -> str:
    """Show the node cordoned with its reason, and the endpoint serving elsewhere."""
    node = scene.operator.get(f"/api/v1/nodes/{scene.broken_node}")
    assert node["state"] == "cordoned", node["state"]
    assert node["reasons"], "cordoned without a reason"

    def look() -> dict[str, Any] | None:
        endpoint = _story(scene)
        alive = [item for item in endpoint["workloads"] if item["state"] == "ready"]
        elsewhere = [item for item in alive if item["node"] != scene.broken_node]
        return elsewhere[0] if endpoint["state"] == "serving" and elsewhere else None

    moved = until("the replica serves elsewhere", MOVED_WITHIN_S, look)
    reason = node["reasons"][0]
    return f"{scene.broken_node} cordoned ({reason['code']}: {reason['detail']}); serving on {moved['node']}"


def requests_go_on(scene: Scene) -> str:
    """Call the model again: it answers from its new place, and the ledger has it."""
    answered = scene.tenant.post(
        "/v1/chat/completions",
        {"model": "story", "max_tokens": 4, "messages": [{"role": "user", "content": "still there?"}]},
    )
    request_id = answered.headers["x-request-id"]

    def look() -> dict[str, Any] | None:
        found = scene.tenant.call("GET", f"/api/v1/requests/{request_id}")
        return found.body if found.status == 200 else None

    record = until("the request stands in the ledger", MOVED_WITHIN_S, look)
    return f"{record['usage']['completion_tokens']} tokens from {record['usage']['node_id']}"


def _story(scene: Scene) -> dict[str, Any]:
    items = scene.tenant.get("/api/v1/endpoints")["items"]
    found: list[dict[str, Any]] = [item for item in items if item["name"] == "story"]
    assert found, "the endpoint is not listed"
    detail: dict[str, Any] = scene.tenant.get(f"/api/v1/endpoints/{found[0]['id']}")
    return detail
