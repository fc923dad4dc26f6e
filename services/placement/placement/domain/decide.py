"""The decision: on which node one more replica goes, or why on none."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from mesh_contracts.placement import Reason, Residency, Resources

from placement.domain.fleet import MILLI_PER_GPU, Card, Held, Server

WORKLOADS_PER_NODE_MAX = 256
"""Whatever their size: all that a node should run is one message, and so is its heartbeat."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Run it on ``server``, provided it is still at this generation, with these devices."""

    server: Server
    devices: tuple[Held, ...]
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
    holds: Callable[[Server], bool]


def decide(
    resources: Resources,
    residency: Residency,
    fleet: Sequence[Server],
    crowd: Mapping[str, int] | None = None,
) -> Grant | Refusal:
    """Choose the node with the fewest replicas of this endpoint; among equals the fullest that fits.

    Then the first by id. ``crowd`` counts the endpoint's replicas by node id. ``fleet`` may come
    in any order. A full fleet is an answer, not an error.
    """
    crowd = crowd or {}
    left = list(fleet)
    survivors = [Reason(code="known", detail="nodes at this site", count=len(left))]
    for constraint in _constraints(resources, residency):
        before, left = left, [server for server in left if constraint.holds(server)]
        survivors.append(Reason(code=constraint.code, detail=constraint.detail, count=len(left)))
        if not left:
            reason = Reason(
                code=constraint.refused,
                detail=f"{constraint.detail}: 0 of {len(before)} nodes",
                unblock=constraint.unblock,
                count=len(before),
            )
            return Refusal(survivors=tuple(survivors), reasons=(reason,))
    best = min(
        left,
        key=lambda server: (
            crowd.get(server.node_id, 0),
            free_milli(server),
            server.memory_free_mib,
            server.node_id,
        ),
    )
    devices = _devices(resources, best)
    assert devices is not None
    assert best.memory_free_mib >= resources.memory_mib
    assert best.workloads < WORKLOADS_PER_NODE_MAX
    return Grant(
        server=best, devices=devices, memory_mib=resources.memory_mib, survivors=tuple(survivors)
    )


def take(server: Server, grant: Grant) -> Server:
    """Return ``server`` as it is once the grant has been applied."""
    held = {item.device_id: item.milli for item in grant.devices}
    cards = tuple(
        msgspec.structs.replace(card, free_milli=card.free_milli - held.get(card.device_id, 0))
        for card in server.cards
    )
    assert all(card.free_milli >= 0 for card in cards)
    return msgspec.structs.replace(
        server,
        generation=server.generation + 1,
        memory_free_mib=server.memory_free_mib - grant.memory_mib,
        cards=cards,
        workloads=server.workloads + 1,
    )


def free_milli(server: Server) -> int:
    """Return the thousandths of GPUs that are free on a node, over all its devices."""
    return sum(card.free_milli for card in server.cards)


def _constraints(resources: Resources, residency: Residency) -> list[_Constraint]:
    allowed = frozenset(residency.jurisdictions)
    places = ", ".join(sorted(allowed))
    found = [
        _Constraint(
            "ready",
            "checked and taking work",
            "no_ready_node",
            "add a node, or return a cordoned one once it is repaired",
            lambda server: server.state == "ready",
        ),
        _Constraint(
            "heard",
            "heard of lately",
            "no_node_heard",
            "see whether the silent servers, their agents and the network between run",
            lambda server: not server.silent,
        ),
        _Constraint(
            "jurisdiction",
            f"in {places}",
            "no_node_in_jurisdiction",
            f"add a node in {places}, or widen residency.jurisdictions",
            lambda server: server.jurisdiction in allowed,
        ),
    ]
    model = resources.gpu_model
    if model is not None:
        found.append(
            _Constraint(
                "gpu_model",
                f"with a GPU of model {model}",
                "no_such_gpu",
                f"add a node with {model}, or ask for another resources.gpu_model",
                lambda server: any(card.model == model for card in server.cards),
            )
        )
    if resources.gpus or resources.gpu_milli:
        size = (
            f"{resources.gpus} whole GPUs"
            if resources.gpus
            else f"{resources.gpu_milli} milli of one GPU"
        )
        found.append(
            _Constraint(
                "gpus",
                f"{size} free on one node",
                "not_enough_gpus",
                "stop another endpoint, add a node, or ask for less in resources",
                lambda server: _devices(resources, server) is not None,
            )
        )
    found.append(
        _Constraint(
            "memory",
            f"{resources.memory_mib} MiB of memory free",
            "not_enough_memory",
            "stop another endpoint, add a node, or ask for less resources.memory_mib",
            lambda server: server.memory_free_mib >= resources.memory_mib,
        )
    )
    found.append(
        _Constraint(
            "slots",
            f"with fewer than {WORKLOADS_PER_NODE_MAX} workloads",
            "node_full",
            "stop another endpoint, or add a node",
            lambda server: server.workloads < WORKLOADS_PER_NODE_MAX,
        )
    )
    return found


def _devices(resources: Resources, server: Server) -> tuple[Held, ...] | None:
    """Return what the replica would hold on this node, or nothing where it does not fit.

    Whole GPUs are the first free ones by index; a fraction goes to the fullest device that fits.
    """
    if not resources.gpus and not resources.gpu_milli:
        return ()
    cards = [card for card in server.cards if resources.gpu_model in {None, card.model}]
    if resources.gpus:
        whole = sorted((c for c in cards if c.free_milli == MILLI_PER_GPU), key=_by_index)
        if len(whole) < resources.gpus:
            return None
        return tuple(Held(card.device_id, MILLI_PER_GPU) for card in whole[: resources.gpus])
    fits = [card for card in cards if card.free_milli >= resources.gpu_milli]
    if not fits:
        return None
    fullest = min(fits, key=lambda card: (card.free_milli, *_by_index(card)))
    return (Held(fullest.device_id, resources.gpu_milli),)


def _by_index(card: Card) -> tuple[int, str]:
    return (card.index, card.device_id)
