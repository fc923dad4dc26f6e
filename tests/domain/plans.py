"""Endpoints and replicas as they are, and the plan where an engine seeks the places."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from mesh_contracts.placement import Engine, Model, Replicas, Residency, Resources
from meshkit.testing import NOW
from placement.domain import plan as planning
from placement.domain.decide import Grant, Refusal, answer_of
from placement.domain.engine.wish import Asked, Found, Refused, Seat
from placement.domain.engine.wish import Placed as Seated
from placement.domain.fleet import Placed, Server, Wanted
from placement.domain.plan import Plan
from placement.domain.wishes import wish_of

from tests.domain.test_placement_decide import occupied


def wanted(replicas: Replicas | None = None, **fields: object) -> Wanted:
    """Return an endpoint that is asked as little as can be, where ``wanted`` does not say more."""
    replicas = replicas or Replicas(min=1, max=2)
    base = Wanted(
        endpoint_id="e1",
        organization="o1",
        project="p1",
        project_name="demo",
        name="tiny",
        site="fr-idf-1",
        model=Model(id="tiny"),
        engine=Engine(),
        resources=Resources(),
        residency=Residency(),
        replicas=replicas,
        wanted=replicas.min,
        state="pending",
        ready=0,
        generation=1,
        created_at=NOW,
        since=NOW,
    )
    return msgspec.structs.replace(base, **fields)


def placed(name: str, node: str = "n1", state: str = "ready", **fields: object) -> Placed:
    base = Placed(
        workload_id=name,
        endpoint_id="e1",
        node_id=node,
        node=node,
        site="fr-idf-1",
        node_state="ready",
        state=state,
        since=NOW,
        created_at=NOW,
        devices=(),
        memory_mib=256,
        api_key="k",
        address="127.0.0.1:1",
    )
    return msgspec.structs.replace(base, **fields)


def plan(endpoint: Wanted, workloads: Sequence[Placed], fleet: Sequence[Server], now: datetime) -> Plan:
    """Return the plan where the endpoint's replicas are on the nodes already, and the engine seeks more."""
    engine = occupied(fleet)
    for item in workloads:
        if item.node_id in engine.site.row_of and item.state not in {"stopped", "failed"}:
            wish = wish_of(endpoint, item.workload_id)
            engine.apply(Found(wish=wish, seats=(Seat(item.node_id, (), 0),), at=0))

    def seek(number: int, failed_on: Sequence[str], only: str) -> Grant | Refusal:
        wish = wish_of(endpoint, f"more-{number}", failed_on, only)
        outcome = engine.apply(Asked(wish=wish, at=0))
        assert isinstance(outcome, Seated | Refused)
        return answer_of(engine, wish, outcome)

    return planning.plan(endpoint, workloads, seek, now)
