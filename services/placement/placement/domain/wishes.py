"""What the engine is asked for: a replica's, a job's or a lease's wish in its words, and what a lease's servers are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from mesh_contracts.placement import MEMBERS_MAX, Isolation, Near, Reason, Resources

from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Near as Nearness
from placement.domain.engine.wish import Reserved, Wish
from placement.domain.fleet import Wanted
from placement.domain.jobs import WantedJob
from placement.domain.leases import WantedLease

DOMAIN = "nvlink"
SERVING = 200
"""The priority of a replica: people wait for its answers."""


def milliseconds(at: datetime) -> int:
    """Return a moment as the engine counts time."""
    return int(at.timestamp() * 1_000)


def at_of(moment: int | None) -> datetime | None:
    """Return a moment that the engine told, if it did."""
    return None if moment is None else datetime.fromtimestamp(moment / 1_000, UTC)


def in_words(at: datetime) -> str:
    """Return a moment as people are told it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def power_domain(level: str, domain: str) -> str:
    """Return what the engine calls a part of a site: the site itself has one name there, whatever it is called."""
    return level if level == "site" else domain


def size_of(resources: Resources) -> Size:
    """Return what one member takes of its node."""
    return Size(
        gpus=resources.gpus,
        gpu_milli=resources.gpu_milli,
        mig=resources.mig or "",
        cpu_milli=resources.cpu_milli,
        memory_mib=resources.memory_mib,
        models=() if resources.gpu_model is None else (resources.gpu_model,),
    )


def terms_of(
    jurisdictions: Sequence[str], assurances: Sequence[str], tenant: str, isolation: Isolation
) -> Terms:
    """Return on which terms a member is placed."""
    return Terms(
        jurisdictions=tuple(sorted(set(jurisdictions))),
        assurances=tuple(sorted(set(assurances))),
        tenant=tenant,
        isolation="" if isolation == "none" else isolation,
    )


def near_of(near: Near) -> Nearness:
    """Return how near to each other members must be."""
    return Nearness(level=near.level or "", required=near.required, segment=near.segment)


def wish_of(wanted: Wanted, workload_id: str, failed_on: Sequence[str] = (), only: str = "") -> Wish:
    """Return the wish for one replica of an endpoint: beside no other, and not where one just failed.

    Both give way where nothing else fits. ``failed_on`` names a node once for each failure there; ``only`` is
    the one node that will do, if there is one.
    """
    return Wish(
        workload=workload_id,
        organization=wanted.organization,
        project=wanted.project,
        kind="endpoint",
        size=size_of(wanted.resources),
        terms=terms_of(wanted.residency.jurisdictions, (), wanted.organization, "none"),
        group=wanted.endpoint_id,
        apart="node",
        priority=SERVING,
        only=only,
        dislike=tuple(failed_on),
    )


def wish_of_job(job: WantedJob) -> Wish:
    """Return the wish for all members of a job."""
    wished = job.wished
    each = wished.resources
    gpus = wished.members * (each.gpus or int(each.gpu_milli > 0 or each.mig is not None))
    return Wish(
        workload=job.job_id,
        organization=job.organization,
        project=job.project,
        kind="job",
        size=size_of(wished.resources),
        members=wished.members,
        terms=terms_of(
            wished.residency.jurisdictions, wished.assurances, job.organization, wished.isolation
        ),
        near=near_of(wished.near),
        apart="",
        priority=job.priority,
        preemptible=wished.preemptible,
        min_run_ms=wished.min_run_s * 1_000,
        restart_cost=gpus * wished.restart_loses_s,
        elastic=wished.elastic,
        queue=True,
        run_ms=wished.run_max_s * 1_000,
        slack_ms=wished.slack_s * 1_000,
    )


def wish_of_lease(lease: WantedLease, fleet: Sequence[NodeSpec]) -> Wish | Reason:
    """Return the wish for all servers of a lease; or why there is no such server, however full they are.

    A lease's servers are nobody else's, also not its own project's: the tenant it is alone with is itself.
    """
    wished = lease.wished
    kind = _kind(lease, fleet)
    if isinstance(kind, Reason):
        return kind
    model, gpus, alike = kind
    near, members = near_of(wished.near), wished.nodes
    if wished.domains:
        each = _usual(Counter(one.place[DOMAIN] for one in alike if DOMAIN in one.place))
        if each is None:
            return Reason(
                code="no_such_domain",
                detail="no such servers stand in an NVLink domain",
                unblock="lease single servers (nodes), or set AGENT_PLACE where the servers stand in one",
            )
        members = wished.domains * each
        if members > MEMBERS_MAX:
            return Reason(
                code="too_many_servers",
                detail=f"{wished.domains} domains are {members} servers, more than {MEMBERS_MAX}",
                unblock="ask for fewer domains",
            )
        near = msgspec.structs.replace(near, segment=each)
    due = lease.due_at
    run_ms = 0 if due is None else max(1, milliseconds(due) - milliseconds(lease.starts_at))
    return Wish(
        workload=lease.lease_id,
        organization=lease.organization,
        project=lease.project,
        kind="lease",
        size=Size(gpus=gpus, models=(model,) if model else ()),
        members=members,
        terms=terms_of(
            wished.residency.jurisdictions,
            wished.assurances,
            lease.lease_id,
            "nvlink" if wished.domains else "node",
        ),
        near=near,
        apart="",
        priority=lease.priority,
        queue=wished.wait_s > 0,
        run_ms=0 if lease.place == "booked" else run_ms,
        reservation=lease.lease_id if lease.place == "booked" else "",
    )


def reserved(lease: WantedLease, wish: Wish, now: datetime, *, since: int = 0) -> Reserved:
    """Return what has a lease's servers be kept for it from its start on, ``since`` then at the earliest."""
    assert lease.due_at is not None, "what is kept has an end"
    return Reserved(
        reservation=lease.lease_id,
        organization=lease.organization,
        project=lease.project,
        start=max(milliseconds(lease.starts_at), since),
        end=milliseconds(lease.due_at),
        size=wish.size,
        members=wish.members,
        near=wish.near,
        terms=wish.terms,
        at=milliseconds(now),
    )


def _kind(lease: WantedLease, fleet: Sequence[NodeSpec]) -> tuple[str, int, list[NodeSpec]] | Reason:
    """Return the model and the number of GPUs of the servers that are meant, and all such servers.

    Of several kinds that would do the one that most are; of equals the one with more GPUs, then by name.
    """
    wished = lease.wished
    kinds: dict[tuple[str, int], list[NodeSpec]] = {}
    # A lease is of whole GPUs.
    for server in (one for one in fleet if not one.mig):
        if wished.gpu_model in {None, server.model} and wished.gpus_per_node in {None, server.gpus}:
            kinds.setdefault((server.model, server.gpus), []).append(server)
    if not kinds:
        with_model = f" of model {wished.gpu_model}" if wished.gpu_model else ""
        asked = "" if wished.gpus_per_node is None else f"{wished.gpus_per_node} "
        return Reason(
            code="no_such_server",
            detail=f"no server has {asked}GPUs{with_model}",
            unblock="ask for another gpu_model or gpus_per_node; GET /api/v1/sites names the models",
        )
    (model, gpus), alike = min(kinds.items(), key=lambda kind: (-len(kind[1]), -kind[0][1], kind[0][0]))
    return model, gpus, alike


def _usual(sizes: Mapping[str, int]) -> int | None:
    """Return how many servers most domains have; of equals the larger."""
    many = Counter(sizes.values())
    return max(many, key=lambda size: (many[size], size), default=None)
