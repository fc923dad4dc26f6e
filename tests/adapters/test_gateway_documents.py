"""What the doors say of themselves is whole, and needs nothing from elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from inference_gateway.http import documents

from tests.adapters.gateways import Town, town
from tests.servers_nats import NatsServer


@pytest.mark.slow
async def test_the_doors_describe_themselves_whole(tmp_path: Path, nats_server: NatsServer) -> None:
    async with town(tmp_path, nats_server.url) as here:
        await describes(here)


async def test_the_page_of_paths_is_made_once_whoever_asks_how_often(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    completed = documents.completed

    def noted(schema: dict[str, Any]) -> dict[str, Any]:
        made.append(len(schema))
        return completed(schema)

    monkeypatch.setattr(documents, "completed", noted)
    async with town(tmp_path, nats_server.url) as here:
        for path in ("/docs", "/", "/docs"):
            async with here.http.get(f"{here.base}{path}") as answer:
                assert answer.status == 200
    assert len(made) == 1


async def describes(here: Town) -> None:
    async with here.http.get(f"{here.base}/openapi.json") as answer:
        schema = json.loads(told_first := await answer.read())
    paths = schema["paths"]
    for path, method in (
        ("/v1/chat/completions", "post"),
        ("/v1/completions", "post"),
        ("/v1/embeddings", "post"),
        ("/v1/models", "get"),
        ("/api/v1/endpoints", "post"),
        ("/api/v1/endpoints/{endpoint}", "patch"),
        ("/api/v1/nodes/{node}:cordon", "post"),
        ("/api/v1/dead-letters/{owner}/{letter}:redrive", "post"),
        ("/api/v1/placements:explain", "post"),
        ("/api/v1/requests/{request_id}", "get"),
        ("/api/v1/carbon/receipts/{request_id}", "get"),
        ("/api/v1/events", "get"),
    ):
        assert method in paths[path], path
    told = set(schema["components"]["schemas"])
    assert _references(schema) <= {f"#/components/schemas/{name}" for name in told}
    wide = schema["components"]["schemas"]["RequestShown"]["properties"]["cost_microeur"]
    assert wide["type"] == "string"
    ids = [o["operationId"] for item in paths.values() for o in item.values() if "operationId" in o]
    assert len(ids) == len(set(ids))
    headers = {
        (method, path): [one["name"] for one in said.get("parameters", []) if one["in"] == "header"]
        for path, item in paths.items()
        for method, said in item.items()
    }
    assert headers["get", "/api/v1/keys"] == []
    assert headers["post", "/api/v1/keys"] == ["Idempotency-Key"]
    assert headers["post", "/api/v1/nodes/{node}:cordon"] == ["Idempotency-Key", "If-Match"]
    assert headers["patch", "/api/v1/endpoints/{endpoint}"] == ["If-Match"]
    for path, kind in (
        ("/asyncapi.json", "application/json"),
        ("/docs", "text/html"),
        ("/", "text/html"),
        ("/healthz", "application/json"),
    ):
        async with here.http.get(f"{here.base}{path}") as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith(kind)
            assert "http://" not in (text := await answer.text())
            assert "https://" not in text.replace("https://opentelemetry.io", "")
    async with here.http.get(f"{here.base}/openapi.json") as answer:
        assert await answer.read() == told_first


@pytest.mark.slow
async def test_the_document_says_what_these_paths_take_and_answer(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with (
        town(tmp_path, nats_server.url) as here,
        here.http.get(f"{here.base}/openapi.json") as answer,
    ):
        schema = json.loads(await answer.read())
    paths = schema["paths"]
    for path, methods in (
        ("/api/v1/jobs", {"get", "post"}),
        ("/api/v1/jobs/{job}", {"get", "delete"}),
        ("/api/v1/leases", {"get", "post"}),
        ("/api/v1/leases/{lease}", {"get", "delete"}),
        ("/api/v1/quotas", {"get", "post"}),
        ("/api/v1/sites", {"get"}),
        ("/api/v1/sites/{site}", {"get"}),
        ("/api/v1/sites/{site}/caps", {"get", "post"}),
        ("/api/v1/nodes/{node}:drain", {"post"}),
    ):
        assert set(paths[path]) == methods, path
    for path, method in (("/api/v1/jobs/{job}", "delete"), ("/api/v1/quotas", "post")):
        headers = [one["name"] for one in paths[path][method]["parameters"] if one["in"] == "header"]
        assert "If-Match" in headers, path
    body = schema["components"]["schemas"]["NewJob"]
    assert set(body["required"]) == {"name", "command"}
    assert body["properties"]["members"]["maximum"] == 4_096
    shape = schema["components"]["schemas"]["Shape"]["properties"]
    assert {"members", "near", "isolation", "assurances", "priority", "changes"} <= set(shape)


def _references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(_references(value) for value in part))
    return set()
