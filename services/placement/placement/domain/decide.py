"""The decision: on which node one more replica goes, or why on none.

The engine decides (``domain.engine``); here an endpoint's need becomes the wish that it is given, and
what it says becomes a grant or a refusal in words.
"""

from collections.abc import Sequence

import msgspec
from mesh_contracts.placement import Reason, Residency, Resources

from placement.domain.engine.fit import CONSTRAINTS
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Placed, Refused, Wish
from placement.domain.fleet import Wanted
from placement.domain.lacks import short_of

WORKLOADS_PER_NODE_MAX = 256
"""Whatever their size: all that a node should run is one message, and so is its heartbeat."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Run it on this node, on these of its cards."""

    workload_id: str
    node_id: str
    cards: tuple[int, ...]
    milli_each: int
    memory_mib: int
    survivors: tuple[Reason, ...]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """It fits nowhere now: how many nodes each constraint left, and what would unblock it."""

    survivors: tuple[Reason, ...]
    reasons: tuple[Reason, ...]


class _Constraint(msgspec.Struct, frozen=True):
    code: str
    detail: str
    refused: str
    unblock: str


def size_of(resources: Resources) -> Size:
    """Return what one replica takes of its node."""
    return Size(
        gpus=resources.gpus,
        gpu_milli=resources.gpu_milli,
        memory_mib=resources.memory_mib,
        models=() if resources.gpu_model is None else (resources.gpu_model,),
    )


def wish_of(wanted: Wanted, workload_id: str, failed_on: Sequence[str] = ()) -> Wish:
    """Return the wish for one replica of an endpoint: beside no other, and not where one just failed.

    Both give way where nothing else fits. ``failed_on`` names a node once for each failure there.
    """
    return Wish(
        workload=workload_id,
        organization=wanted.organization,
        project=wanted.project,
        kind="endpoint",
        size=size_of(wanted.resources),
        terms=_terms(wanted.residency, wanted.organization),
        group=wanted.endpoint_id,
        apart="node",
        dislike=tuple(failed_on),
    )


def wish_for(resources: Resources, residency: Residency) -> Wish:
    """Return the wish for a replica of this shape, of nobody's."""
    return Wish(
        workload="",
        organization="",
        project="",
        kind="endpoint",
        size=size_of(resources),
        terms=_terms(residency, ""),
    )


def answer_of(outcome: Placed | Refused, resources: Resources, residency: Residency) -> Grant | Refusal:
    """Return what the engine says of one replica, in words."""
    if isinstance(outcome, Refused) and outcome.short is not None:
        return Refusal(survivors=(), reasons=(short_of(outcome.short),))
    left = sum(outcome.why.failed)
    survivors = [Reason(code="known", detail="nodes at this site", count=left)]
    words = _words(resources, residency)
    for name, failed in zip(CONSTRAINTS, outcome.why.failed, strict=False):
        constraint = words.get(name)
        if constraint is None and not failed:
            continue
        constraint = constraint or _OTHERS[name]
        before, left = left, left - failed
        survivors.append(Reason(code=constraint.code, detail=constraint.detail, count=left))
        if not left:
            reason = Reason(
                code=constraint.refused,
                detail=f"{constraint.detail}: 0 of {before} nodes",
                unblock=constraint.unblock,
                count=before,
            )
            return Refusal(survivors=tuple(survivors), reasons=(reason,))
    assert isinstance(outcome, Placed), "what is refused fails a constraint on every node"
    [seat] = outcome.seats
    return Grant(
        workload_id=outcome.workload,
        node_id=seat.node,
        cards=seat.cards,
        milli_each=seat.milli_each,
        memory_mib=resources.memory_mib,
        survivors=tuple(survivors),
    )


def _terms(residency: Residency, tenant: str) -> Terms:
    return Terms(jurisdictions=tuple(sorted(set(residency.jurisdictions))), tenant=tenant)


def _words(resources: Resources, residency: Residency) -> dict[str, _Constraint]:
    """Return in words each constraint that is always told: the others only where they bind."""
    places = ", ".join(sorted(set(residency.jurisdictions)))
    found = {
        "ready": _READY,
        "heard": _HEARD,
        "jurisdiction": _Constraint(
            "jurisdiction",
            f"in {places}",
            "no_node_in_jurisdiction",
            f"add a node in {places}, or widen residency.jurisdictions",
        ),
        "memory": _Constraint(
            "memory",
            f"{resources.memory_mib} MiB of memory free",
            "not_enough_memory",
            "stop another endpoint, add a node, or ask for less resources.memory_mib",
        ),
        "slots": _SLOTS,
    }
    model = resources.gpu_model
    if model is not None:
        found["gpu_model"] = _Constraint(
            "gpu_model",
            f"with a GPU of model {model}",
            "no_such_gpu",
            f"add a node with {model}, or ask for another resources.gpu_model",
        )
    if resources.gpus or resources.gpu_milli:
        size = (
            f"{resources.gpus} whole GPUs"
            if resources.gpus
            else f"{resources.gpu_milli} milli of one GPU"
        )
        found["gpus"] = _Constraint(
            "gpus",
            f"{size} free on one node",
            "not_enough_gpus",
            "stop another endpoint, add a node, or ask for less in resources",
        )
    return found


_READY = _Constraint(
    "ready",
    "checked and taking work",
    "no_ready_node",
    "add a node, or return a cordoned one once it is repaired",
)
_HEARD = _Constraint(
    "heard",
    "heard of lately",
    "no_node_heard",
    "see whether the silent servers, their agents and the network between run",
)
_SLOTS = _Constraint(
    "slots",
    f"with fewer than {WORKLOADS_PER_NODE_MAX} workloads",
    "node_full",
    "stop another endpoint, or add a node",
)
_OTHERS = {
    "assurance": _Constraint(
        "assurance",
        "certified as asked for",
        "no_assured_node",
        "have a node certified, or ask for less",
    ),
    "gpu_model": _Constraint(
        "gpu_model", "with such a GPU", "no_such_gpu", "add such a node, or ask for another GPU"
    ),
    "gpus": _Constraint("gpus", "with GPUs free", "not_enough_gpus", "stop other work, or add a node"),
    "cpu": _Constraint("cpu", "with CPU free", "not_enough_cpu", "stop other work, or add a node"),
    "isolation": _Constraint(
        "isolation",
        "that no other tenant holds alone",
        "node_isolated",
        "wait until the other tenant's work ends, or add a node",
    ),
    "power": _Constraint(
        "power",
        "with room under every power cap above them",
        "no_power",
        "stop other work there, or have a cap raised",
    ),
    "quota": _Constraint(
        "quota",
        "outside what others are guaranteed",
        "quota_domains",
        "wait until others end, or have an operator raise the quota",
    ),
    "reserved": _Constraint(
        "reserved",
        "that nobody has reserved",
        "node_reserved",
        "wait until the reservation ends, or add a node",
    ),
}
"""What binds seldom, and is told where it does."""
