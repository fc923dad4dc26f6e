"""Replicas follow demand: a request wakes what sleeps, load makes more, and quiet makes fewer."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from mesh_tools.demo.client import Client

from tests.mesh.harness import Mesh, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CALLERS = 4


def chat(caller: Client, model: str, tokens: int = 4) -> int:
    """Return the status of an answer."""
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": model, "max_tokens": tokens, "ignore_eos": True, "messages": messages}
    return caller.call("POST", "/v1/chat/completions", body).status


def becomes(caller: Client, endpoint_id: str, seconds: float, **wanted: Any) -> dict[str, Any]:
    """Return the endpoint once it is as it is wanted."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = caller.get(f"/api/v1/endpoints/{endpoint_id}")
        assert {name: found[name] for name in wanted} == wanted, found
        return found

    return until(f"the endpoint is {wanted}", seconds, look)


def test_a_request_wakes_a_model_that_sleeps_is_answered_and_the_model_sleeps_again(mesh: Mesh) -> None:
    _, caller = mesh.project("sleepers")
    wish = {
        "name": "sleeper",
        "project": "sleepers",
        "model": {"id": "tiny"},
        "replicas": {"min": 0, "max": 1, "sleep_after_ms": 2_000},
        "resources": {"memory_mib": 256},
    }
    made = caller.post("/api/v1/endpoints", wish).body
    assert (made["state"], made["wanted"], made.get("workloads", [])) == ("asleep", 0, [])
    until(
        "its name is known at the door",
        5.0,
        lambda: [one for one in caller.get("/v1/models")["data"] if one["id"] == "sleeper"] or None,
    )
    for _ in range(2):
        assert chat(caller, "sleeper") == 200
        asleep = becomes(caller, made["id"], 30.0, state="asleep", wanted=0, ready=0)
        assert "a request wakes it" in asleep["reasons"][0]["unblock"]

    def stopped() -> bool | None:
        found = caller.get(f"/api/v1/endpoints/{made['id']}").get("workloads", [])
        return True if {one["state"] for one in found} <= {"stopped"} else None

    until("its engines are gone", 20.0, stopped)
    caller.call("DELETE", f"/api/v1/endpoints/{made['id']}")


def test_load_makes_two_replicas_and_quiet_one_again_without_a_failed_request(mesh: Mesh) -> None:
    _, caller = mesh.project("growers")
    bounds = {"min": 1, "max": 2, "target": 2, "up_after_ms": 500, "down_after_ms": 2_000}
    made = mesh.deploy(caller, "grower", "growers", replicas=bounds)
    assert made["wanted"] == 1
    crowd, alone = Event(), Event()

    def ask(over: Event) -> list[int]:
        statuses = []
        while not over.is_set():
            statuses.append(chat(caller, "grower", 64))
        return statuses

    with ThreadPoolExecutor(CALLERS) as pool:
        asking = [pool.submit(ask, alone), *(pool.submit(ask, crowd) for _ in range(CALLERS - 1))]
        try:
            becomes(caller, made["id"], 60.0, wanted=2, ready=2, state="serving")
            crowd.set()
            becomes(caller, made["id"], 60.0, wanted=1, ready=1, state="serving")
        finally:
            crowd.set()
            alone.set()
        statuses = [status for one in asking for status in one.result()]
    assert set(statuses) == {200}
    caller.call("DELETE", f"/api/v1/endpoints/{made['id']}")
