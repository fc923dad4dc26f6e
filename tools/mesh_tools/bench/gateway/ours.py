"""Our gateway with everything on: keys, limits, budgets, routing, metering to a real NATS, telemetry.

A whole mesh runs beside it, and all of it but the gateway shares the mock's and the callers' core:
what the other services spend is taken from them, and from nobody else's measurement but ours.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mesh_tools.bench.gateway import words
from mesh_tools.bench.gateway.asked import Wish
from mesh_tools.bench.gateway.cores import Cores, move, started_on
from mesh_tools.bench.gateway.targets import READY_WITHIN_S, NotThere, Target, ask
from mesh_tools.bench.start import up
from mesh_tools.demo.client import Client

SERVICE = "inference-gateway"
PROJECT = "demo"
HIGH = 10**9
"""A ceiling that is counted against and never reached."""
HIGH_MICROEUR = str(10**15)
LOOKS_MAX = 180
LOOKS_AT_REST = 5
"""Looks, a second apart, that find the ledger unchanged before it counts as at rest."""
ABSENT = frozenset({404, 405})


@contextmanager
def ours(folder: Path, mock: str, cores: Cores) -> Iterator[tuple[Target, dict[str, int]]]:
    """Run the mesh; give the gateway, alone on its core, and what became of each wished limit (a status)."""
    # Postgres, as nobody, must be able to pass through.
    folder.mkdir(mode=0o755)
    with ExitStack() as stack:
        with started_on(*cores.services):
            ready, _, _ = stack.enter_context(up(folder, "--bare", "--nodes", "0"))
        operator = Client(ready["gateway"], ready["admin_key"])
        tenant = Client(ready["gateway"], ready["project_key"])
        endpoint = {
            "name": words.MODEL,
            "project": PROJECT,
            "model": {"id": words.MODEL},
            "engine": {"kind": "external", "url": f"{mock}/v1"},
        }
        made = tenant.call("POST", "/api/v1/endpoints", endpoint)
        if made.status not in {200, 201, 202}:
            raise NotThere(f"the endpoint was refused: {made.status} {made.body}")
        limits = _bound(operator)
        pid, *more = ready["pids"][SERVICE]
        if more:
            raise NotThere("it runs as several processes, and one core is what is compared")
        target = Target(
            name="ours",
            version=version("mesh-inference-gateway"),
            url=ready["gateway"],
            pid=pid,
            headers={"Authorization": f"Bearer {ready['project_key']}"},
        )
        _wait_serving(target.wish())
        move([pid], cores.gateway)
        yield target, limits


def _bound(operator: Client) -> dict[str, int]:
    """Set a limit and a hard budget on organization, project and key; return the status of each wish.

    A version that has no such door says so by its status, and is measured without.
    """
    answered = {}
    for kind, path in (
        ("organization", "/api/v1/organizations"),
        ("project", "/api/v1/projects"),
        ("key", "/api/v1/keys"),
    ):
        items = operator.get(path)["items"]
        found: dict[str, Any] = next(item for item in items if item["name"] == PROJECT)
        scope = {"kind": kind, "id": found["id"]}
        limit = dict.fromkeys(("requests_per_minute", "tokens_per_minute", "parallel_requests"), HIGH)
        wishes: dict[str, tuple[str, dict[str, Any]]] = {
            "limit": ("/api/v1/limits", limit),
            "budget": ("/api/v1/budgets", {"amount_microeur": HIGH_MICROEUR, "hard": True}),
        }
        for what, (door, more) in wishes.items():
            status = operator.call("POST", door, {"scope": scope, **more}).status
            if status >= 300 and status not in ABSENT:
                raise NotThere(f"the {what} on the {kind} was refused with {status}")
            answered[f"{what} on {kind}"] = status
    return answered


def in_ledger(target: Target) -> int:
    """Return how many requests the ledger holds, once no more come on their way."""
    client = Client(target.url, target.headers["Authorization"].removeprefix("Bearer "))
    held, rests = -1, 0
    for _ in range(LOOKS_MAX):
        before, held = held, sum(line["requests"] for line in client.get("/api/v1/usage")["items"])
        rests = rests + 1 if held == before else 0
        if rests == LOOKS_AT_REST:
            break
        time.sleep(1.0)
    return held


def _wait_serving(wish: Wish) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while True:
        status, said = ask(wish)
        if status == 200:
            return
        if time.monotonic() > until:
            raise NotThere(f"no completion within {READY_WITHIN_S:.0f} s: {status} {said}")
        time.sleep(0.1)
