"""Routes and requests as the tests of routing need them."""

from datetime import timedelta
from typing import Any

from inference_gateway.domain.routing.ask import Ask
from inference_gateway.domain.routing.fleet import Chosen, Fleet, Outcome
from mesh_contracts.placement import Replica, Route, Routing
from meshkit.testing import NOW, test_id

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def replica(name: str) -> Replica:
    return Replica(workload_id=test_id("workload", name), address="127.0.0.1:1", api_key="k")


def route(
    replicas: int | str | list[Replica] = 2,
    *,
    name: str = "chat",
    age_s: int = 0,
    routing: Any = None,
    **fields: Any,
) -> Route:
    """Return a route; ``replicas`` are named by letters, or so many from ``a`` on."""
    if isinstance(replicas, int):
        replicas = LETTERS[:replicas]
    if isinstance(replicas, str):
        replicas = [replica(letter) for letter in replicas]
    known: dict[str, Any] = {
        "endpoint_id": test_id("endpoint", name),
        "organization": test_id("organization", "o"),
        "project": test_id("project", "p"),
        "engine": "vllm",
        "model_id": "weights",
        "created_at": NOW - timedelta(seconds=age_s),
        "replicas": replicas,
        "routing": Routing(**(routing or {})),
    }
    return Route(name=name, **{**known, **fields})


def fleet_of(*routes: Route) -> Fleet:
    fleet = Fleet()
    for one in routes:
        fleet.put(one.endpoint_id, one)
    return fleet


def ask(*tried: str, tokens: int = 100, **fields: Any) -> Ask:
    return Ask(
        **{
            "key_id": "key",
            "tokens": tokens,
            "tried": tuple(test_id("workload", name) for name in tried),
            **fields,
        }
    )


def letter(chosen: Chosen | None) -> str | None:
    """Return the letter of the replica that was chosen."""
    if chosen is None:
        return None
    return next(one for one in LETTERS if test_id("workload", one) == chosen.replica.workload_id)


def sent(fleet: Fleet, to: Route, *, now: float = 0.0, chance: float = 0.0, **fields: Any) -> Chosen:
    """Choose for a request, and begin it."""
    chosen = fleet.choose(to, ask(**fields), now, chance)
    assert chosen is not None
    fleet.begin(chosen, now)
    return chosen


def whole(fleet: Fleet, to: Route, outcome: Outcome, *, now: float = 0.0, **fields: Any) -> str:
    """Send a request and end it; return the replica's letter."""
    chosen = sent(fleet, to, now=now, **fields)
    fleet.end(chosen, now, outcome)
    return letter(chosen) or ""
