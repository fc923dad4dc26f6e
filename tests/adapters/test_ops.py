import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import pytest
from meshkit.errors import ConfigError
from meshkit.metrics import Metrics
from meshkit.ops import Ops, serve_ops

missing: list[str] = []


@pytest.fixture
async def ops() -> AsyncIterator[Ops]:
    missing.clear()
    metrics = Metrics()
    metrics.count("mesh_asks_total")
    served = await serve_ops(0, live=list, ready=lambda: missing, metrics=metrics.expose)
    yield served
    await served.close()


async def ask(ops: Ops, path: str, method: str = "GET") -> tuple[int, bytes]:
    def fetch() -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{ops.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read()

    return await asyncio.to_thread(fetch)


async def test_a_service_is_ready_only_while_nothing_is_missing(ops: Ops) -> None:
    assert (await ask(ops, "/readyz"))[0] == 200
    missing.append("bus: not connected")
    status, body = await ask(ops, "/readyz")
    assert status == 503
    assert json.loads(body)["missing"] == ["bus: not connected"]
    assert (await ask(ops, "/livez"))[0] == 200


async def test_metrics_are_served_and_anything_else_is_refused(ops: Ops) -> None:
    assert await ask(ops, "/metrics") == (200, b"# TYPE mesh_asks_total counter\nmesh_asks_total 1\n")
    assert (await ask(ops, "/nothing"))[0] == 404
    assert (await ask(ops, "/readyz", "POST"))[0] == 405


async def test_a_taken_port_is_an_error_that_names_the_setting(ops: Ops) -> None:
    with pytest.raises(ConfigError, match="MESH_OPS_PORT"):
        await serve_ops(ops.port, live=list, ready=list, metrics=bytes)
