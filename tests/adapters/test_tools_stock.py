"""What a mesh comes with: wished for where it is absent, waited for with a reason."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from mesh_tools.up import stock

BOTH = ["tiny", "all-minilm-l6-v2"]


class Gateway:
    """The public door, with endpoints as a test has them."""

    def __init__(self, *, then: Callable[[dict[str, dict[str, Any]]], None] = lambda _: None) -> None:
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.posted: list[str] = []
        self.looks = 0
        self._then = then

    def has(self, name: str, state: str, ready: int = 0) -> None:
        self.endpoints[name] = {"name": name, "state": state, "ready": ready, "reasons": []}

    def call(self, _url: str, _key: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in self.endpoints]}
        if method == "POST":
            self.posted.append(body["name"])
            self.has(body["name"], "serving", 1)
            return 202, None
        self.looks += 1
        if self.looks > 1:
            self._then(self.endpoints)
        return 200, {"items": list(self.endpoints.values())}


async def deployed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, serving: list[str] = BOTH
) -> list[str]:
    """Return what was said until all was deployed, and ``serving`` served."""
    said: list[str] = []
    monkeypatch.setattr(stock, "call", gateway.call)
    monkeypatch.setattr(stock, "PATIENT_S", 0.0)
    assert await asyncio.wait_for(stock.deploy("http://here", "key", said.append), 5) == serving
    return said


async def test_what_is_absent_is_wished_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    assert await deployed(gateway, monkeypatch) == []
    assert gateway.posted == BOTH


async def test_an_endpoint_that_somebody_put_to_sleep_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway = Gateway()
    gateway.has("tiny", "asleep")
    gateway.has("all-minilm-l6-v2", "serving", 1)
    assert await deployed(gateway, monkeypatch, ["all-minilm-l6-v2"]) == []
    assert gateway.posted == []


async def test_one_that_does_not_answer_is_waited_for_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway = Gateway(then=lambda endpoints: endpoints["tiny"].update(ready=1))
    gateway.has("tiny", "degraded")
    gateway.endpoints["tiny"]["reasons"] = [{"detail": "no node is ready", "unblock": "return one"}]
    gateway.has("all-minilm-l6-v2", "serving", 1)
    said = await deployed(gateway, monkeypatch)
    assert said == ["waiting for tiny, degraded: no node is ready → return one"]


async def test_one_that_ends_meanwhile_is_wished_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(endpoints: dict[str, dict[str, Any]]) -> None:
        if endpoints["tiny"]["state"] == "stopping":
            del endpoints["tiny"]

    gateway = Gateway(then=end)
    gateway.has("tiny", "stopping")
    gateway.has("all-minilm-l6-v2", "serving", 1)
    await deployed(gateway, monkeypatch)
    assert gateway.posted == ["tiny"]
