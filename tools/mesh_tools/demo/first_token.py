"""From an empty folder to a streamed token: the node, the model, the completion, the embedding."""

import json
import math
import time
from typing import Any

from mesh_tools.demo.client import events
from mesh_tools.demo.scene import Scene, until

SERVING_WITHIN_S = 20.0
STREAM_WITHIN_S = 20.0


def node_is_checked(scene: Scene) -> str:
    """Show the nodes, and the health check that made each schedulable."""
    nodes = scene.operator.get("/api/v1/nodes")["items"]
    assert nodes, "no node"
    lines = []
    for node in nodes:
        assert node["state"] == "ready", f"{node['name']} is {node['state']}: {node.get('reasons')}"
        checks = node.get("checks", [])
        assert checks, f"{node['name']} is ready without a check"
        assert all(check["verdict"] == "pass" for check in checks), checks
        said = "rehearsal devices, said so" if node["rehearsal"] else "real devices"
        names = ", ".join(dict.fromkeys(check["name"] for check in checks))
        lines.append(f"{node['name']} {node['state']}: {names} on {checks[0]['backend']}, {said}")
    return f"{len(nodes)} nodes\n" + "\n".join(lines)


def model_is_deployed(scene: Scene) -> str:
    """Deploy a model of its own and wait until it serves."""
    wish = {
        "name": "story",
        "project": "demo",
        "model": {"id": "tiny", "source": "builtin"},
        "engine": {"kind": "llama"},
        "replicas": {"min": 1, "max": 1},
        "resources": {"gpu_milli": 100, "memory_mib": 256},
        "residency": {"jurisdictions": ["FR"]},
    }
    answered = scene.tenant.post("/api/v1/endpoints", wish)
    assert answered.status == 202, answered.status
    endpoint = until(
        "the endpoint serves", SERVING_WITHIN_S, lambda: _serving(scene, answered.body["id"])
    )
    workload = endpoint["workloads"][0]
    return f"{endpoint['name']} {endpoint['state']} on {workload['node']}"


def _serving(scene: Scene, endpoint_id: str) -> dict[str, Any] | None:
    endpoint: dict[str, Any] = scene.tenant.get(f"/api/v1/endpoints/{endpoint_id}")
    return endpoint if endpoint["state"] == "serving" else None


def completion_streams(scene: Scene) -> str:
    """Stream a chat completion; keep its request id for what follows."""
    body = {
        "model": "story",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 24,
        "messages": [{"role": "user", "content": "Tell me of a hall near Paris."}],
    }
    asked = time.monotonic()
    connection, response = scene.tenant.open("POST", "/v1/chat/completions", body)
    try:
        assert response.status == 200, f"{response.status} {response.read().decode(errors='replace')}"
        scene.request_id = response.headers["x-request-id"]
        first, chunks, usage, done = 0.0, 0, None, False
        for event in events(response, seconds=STREAM_WITHIN_S):
            if event.data == "[DONE]":
                done = True
                break
            chunk = json.loads(event.data)
            assert "error" not in chunk, chunk
            if chunk["choices"] and not first:
                first = time.monotonic()
            chunks += 1
            usage = chunk.get("usage") or usage
    finally:
        connection.close()
    assert done, "the stream did not end with [DONE]"
    assert usage, "the stream carried no usage"
    assert usage["completion_tokens"] > 0, usage
    return (
        f"first token after {(first - asked) * 1e3:.0f} ms ({first - scene.began:.1f} s after the start), "
        f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens in {chunks} chunks"
    )


def text_is_embedded(scene: Scene) -> str:
    """Embed three texts; the related pair must be nearer than the unrelated one."""
    texts = ["a cat sleeps", "a kitten naps", "a balance sheet"]
    answered = scene.tenant.post("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": texts})
    cat, kitten, sheet = (item["embedding"] for item in answered.body["data"])
    near, far = _cosine(cat, kitten), _cosine(cat, sheet)
    assert near > far, f"cat~kitten {near:.3f}, cat~balance sheet {far:.3f}"
    return f"{len(cat)} dimensions, cat~kitten {near:.2f} > cat~balance sheet {far:.2f}"


def _cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
