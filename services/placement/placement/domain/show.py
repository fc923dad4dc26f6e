"""What others see: endpoints and nodes for people, routes for the gateway, intents for agents."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

from mesh_contracts.node import Device
from mesh_contracts.placement import (
    Endpoint,
    Intent,
    MemberSpec,
    Node,
    Reason,
    Replica,
    Resources,
    Route,
    Workload,
    WorkloadSpec,
)
from mesh_contracts.placement.nouns import MigInstance
from mesh_contracts.units import derived_id

from placement.domain import limits
from placement.domain.engine.mig import first_of, instances_of
from placement.domain.fleet import Held, Placed, Server, Wanted
from placement.domain.limits import stuck
from placement.domain.plan import CRASH_LOOP_AFTER

WAITING: dict[str, Reason] = {
    "assigned": Reason(code="waiting_for_agent", detail="its node's agent has not started it yet"),
    "starting": Reason(code="engine_starting", detail="its engine runs and does not answer yet"),
    "stopping": Reason(code="engine_stopping", detail="its engine is being stopped"),
}
"""What a workload waits for, where nothing more is known."""
DRAINING = Reason(
    code="draining", detail="it gets no new requests, and stops once those it has are finished"
)
SILENT = Reason(
    code="silent_with_others",
    detail="no heartbeat, as of many others at once: it is not given up, and takes no new work",
    unblock="see whether the server, its agent and the network between run; cordon it to move its work",
)
NOT_JOINED = Reason(
    code="agent_not_joined",
    detail="it has enrolled; its agent has not said yet what the server consists of",
    unblock="start the node's agent",
)


def show_endpoint(wanted: Wanted, workloads: Sequence[Placed], now: datetime) -> Endpoint:
    """Return an endpoint as its owner sees it."""
    return Endpoint(
        id=wanted.endpoint_id,
        name=wanted.name,
        project_id=wanted.project,
        organization_id=wanted.organization,
        model=wanted.model,
        engine=wanted.engine,
        replicas=wanted.replicas,
        resources=wanted.resources,
        residency=wanted.residency,
        site=wanted.site,
        state=wanted.state,
        ready=wanted.ready,
        generation=wanted.generation,
        created_at=wanted.created_at,
        since=wanted.since,
        project=wanted.project_name,
        reasons=[*wanted.reasons, *stuck(limits.ENDPOINT, wanted.state, wanted.since, now)],
        workloads=[_show_workload(item, now) for item in workloads],
        routing=wanted.routing,
        wanted=None if wanted.external else wanted.count,
    )


def show_node(
    server: Server, seen_at: datetime | None, now: datetime, more: Sequence[Reason] = ()
) -> Node:
    """Return a node as an operator sees it; ``seen_at`` is its last heartbeat here, ``more`` what else is known of it."""
    known = server.reasons or ((NOT_JOINED,) if server.state == "enrolled" else ())
    if server.silent and server.state != "lost":
        known = (*known, SILENT)
    return Node(
        id=server.node_id,
        name=server.name,
        site=server.site,
        state=server.state,
        rehearsal=any(card.rehearsal for card in server.cards),
        devices=[
            Device(
                device_id=card.device_id,
                index=card.index,
                model=card.model,
                memory_mib=card.memory_mib,
                rehearsal=card.rehearsal,
                mig=card.mig,
            )
            for card in server.cards
        ],
        gpus=len(server.cards),
        gpu_milli_free=server.free_milli,
        memory_mib=server.memory_mib,
        memory_mib_free=max(0, server.memory_free_mib),
        workloads=server.workloads,
        generation=server.generation,
        since=server.since,
        seen_at=seen_at,
        reasons=[*known, *more, *stuck(limits.NODE, server.state, server.since, now)],
        checks=list(server.checks),
        cpus=server.cpus,
        place=server.place,
        assurances=list(server.assurances),
        idle_w=server.idle_w,
        gpu_w=server.gpu_w,
        mig_free=_mig_free(server),
    )


def _mig_free(server: Server) -> dict[str, int]:
    """Return how many instances of each profile would fit, if no others came."""
    found: Counter[str] = Counter()
    for card in server.cards:
        if card.mig:
            found.update(instances_of(card.model, card.slices))
    return dict(sorted(found.items()))


def instance_of(resources: Resources, held: Sequence[Held]) -> MigInstance | None:
    """Return the MIG instance that a member has, where it has one."""
    if not resources.mig or not held:
        return None
    return MigInstance(profile=resources.mig, start=first_of(held[0].slices))


def route_of(wanted: Wanted, workloads: Sequence[Placed]) -> Route:
    """Return the route of an endpoint: every replica that answers, also on a node that hands over.

    A replica that can only be reached in the clear from elsewhere gets no requests.
    """
    replicas = []
    if wanted.external and not wanted.deleted:
        replicas.append(_external(wanted))
    refused = []
    for item in workloads:
        if item.state != "ready" or item.address is None:
            continue
        trust = _trust(item.scheme, item.address)
        if trust is None:
            detail = f"{item.node} offers its engine without TLS on an address that is not loopback"
            refused.append(Reason(code="insecure_address", detail=detail, unblock="give the node TLS"))
            continue
        replicas.append(
            Replica(
                workload_id=item.workload_id,
                scheme="https" if item.scheme == "https" else "http",
                address=item.address,
                api_key=item.api_key,
                trust="tls" if trust == "tls" else "loopback",
                node_id=item.node_id,
            )
        )
    return Route(
        endpoint_id=wanted.endpoint_id,
        organization=wanted.organization,
        project=wanted.project,
        name=wanted.name,
        engine=wanted.engine.kind,
        model_id=wanted.model.id,
        embedding=wanted.engine.embedding,
        state=wanted.state,
        created_at=wanted.created_at,
        replicas=replicas,
        reasons=[*wanted.reasons, *refused],
        routing=wanted.routing,
        wakes=wakes(wanted, workloads),
    )


def wakes(wanted: Wanted, workloads: Sequence[Placed]) -> bool:
    """Tell whether a request is worth holding though no replica answers.

    It is where the endpoint sleeps (the request wakes it), and where a replica is on its way: not
    where none fits, nor where its engine fails again and again. Then the reasons are told at once.
    """
    if wanted.deleted or wanted.external:
        return False
    if wanted.state == "asleep":
        return True
    comes = any(item.living and item.state != "ready" and not item.leaving for item in workloads)
    tried_again = wanted.retry_at is not None and wanted.missing > 0
    return wanted.failures < CRASH_LOOP_AFTER and (comes or tried_again)


def intent_of(
    node_id: str,
    check: int,
    running: Sequence[tuple[Wanted, Placed]],
    members: Sequence[MemberSpec],
    wished: Mapping[str, int],
    *,
    asked: int = 0,
) -> Intent:
    """Return all that a node should run: what lives there, or finishes the requests it has.

    ``wished`` is the last wish for each replica's log, where there is one.
    """
    return Intent(
        node_id=node_id,
        check=check,
        asked=asked,
        members=list(members),
        workloads=[
            WorkloadSpec(
                workload_id=item.workload_id,
                endpoint_id=item.endpoint_id,
                organization=wanted.organization,
                project=wanted.project,
                name=wanted.name,
                model=wanted.model,
                engine=wanted.engine,
                resources=wanted.resources,
                devices=[held.device_id for held in item.devices],
                api_key=item.api_key,
                mig=instance_of(wanted.resources, item.devices),
                log=wished.get(item.workload_id, 0),
            )
            for wanted, item in running
            if item.living or item.draining
        ],
    )


def _show_workload(item: Placed, now: datetime) -> Workload:
    waits = (WAITING[item.state],) if item.state in WAITING else ()
    waits = (DRAINING,) if item.draining else waits
    late = stuck(limits.WORKLOAD, item.state, item.since, now)
    return Workload(
        id=item.workload_id,
        node=item.node,
        node_id=item.node_id,
        state=item.state,
        since=item.since,
        reasons=[*(item.reasons or waits), *late],
    )


def _external(wanted: Wanted) -> Replica:
    url = urlsplit(wanted.engine.url or "")
    # Callers append /v1/…, so a base URL that ends with it loses it here.
    path = url.path.rstrip("/").removesuffix("/v1")
    return Replica(
        workload_id=derived_id("workload", wanted.created_at, wanted.endpoint_id, "external"),
        scheme="https" if url.scheme == "https" else "http",
        address=f"{url.netloc}{path}",
        api_key="",
        trust="external",
    )


def _trust(scheme: str, address: str) -> str | None:
    if scheme == "https":
        return "tls"
    host = urlsplit(f"//{address}").hostname or ""
    if host == "localhost":
        return "loopback"
    try:
        return "loopback" if ip_address(host).is_loopback else None
    except ValueError:
        return None
