"""Leases: whole servers, or whole NVLink domains, given to one tenant and wiped after it."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.ask import Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.placement.nouns import Reason, Residency, Workload
from mesh_contracts.placement.shapes import MEMBERS_MAX, Names, Near, Priority
from mesh_contracts.units import (
    Count,
    LeaseId,
    Name,
    NodeId,
    OrganizationId,
    ProjectId,
    Sequence,
    Site,
    Text,
    Time,
)

LeaseState = Literal[
    "requested",
    "reserved",
    "provisioning",
    "active",
    "releasing",
    "erasing",
    "attesting",
    "ended",
    "refused",
    "failed",
]

LeaseSize = Annotated[int, Meta(ge=0, le=MEMBERS_MAX)]


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``nodes`` whole servers, or all of ``domains`` NVLink domains, of ``gpus_per_node`` GPUs each.

    Nobody else has anything on them from ``reserved`` until ``ended``. One that waits for room has a
    ``position`` (1 is next) and, where that can be known, ``expected_start_at``. A ``rehearsal`` is of servers
    that are not there: nothing was powered, erased or attested. ``workloads`` are its servers, ``workloads_left``
    how many more there are than one answer takes.
    """

    id: LeaseId
    name: Name
    project_id: ProjectId
    organization_id: OrganizationId
    site: Site
    nodes: LeaseSize
    domains: LeaseSize
    residency: Residency
    state: LeaseState
    generation: Sequence
    created_at: Time
    since: Time
    project: str | None = None
    gpu_model: str | None = None
    gpus_per_node: Count | None = None
    near: Near = Near()
    assurances: Names = []
    priority: Priority = 100
    wait_s: Count = 0
    starts_at: Time | None = None
    ends_at: Time | None = None
    reasons: list[Reason] = []
    position: Count | None = None
    expected_start_at: Time | None = None
    active_at: Time | None = None
    ended_at: Time | None = None
    rehearsal: bool = False
    workloads: list[Workload] = []
    workloads_left: Count = 0


class Leases(msgspec.Struct, frozen=True, kw_only=True):
    """Leases by name."""

    items: list[Lease]
    next: str | None = None


class RequestLease(Ask, frozen=True, kw_only=True, tag="placement.lease.request"):
    """Wish for whole ``nodes`` or whole NVLink ``domains``, one of the two.

    Without ``gpus_per_node``, of the kind of server that most are. It is refused where there is no
    room within ``wait_s``. It is asked for at ``starts_at`` (until then it holds nothing), and ends
    at ``ends_at`` where nobody releases it before. A name that a lease of the project has, which has
    not ended, is a problem ``name_taken``.
    """

    permission: ClassVar[str] = "lease.write"
    reply: ClassVar[Any] = Lease
    changes: ClassVar[bool] = True

    name: Name
    project: Text
    nodes: LeaseSize = 0
    domains: LeaseSize = 0
    gpu_model: Text | None = None
    gpus_per_node: Count | None = None
    residency: Residency = Residency()
    near: Near = Near()
    assurances: Names = msgspec.field(default_factory=list)
    priority: Priority = 100
    wait_s: Count = 0
    starts_at: Time | None = None
    ends_at: Time | None = None


class ListLeases(Ask, frozen=True, kw_only=True, tag="placement.lease.list"):
    """Ask for the leases the principal sees that have not ended; ``ended``: for those that have, too."""

    permission: ClassVar[str] = "lease.read"
    reply: ClassVar[Any] = Leases

    page: Page = Page()
    ended: bool = False


class GetLease(Ask, frozen=True, kw_only=True, tag="placement.lease.get"):
    """Ask for one lease (its id, or the name of the newest in the principal's project)."""

    permission: ClassVar[str] = "lease.read"
    reply: ClassVar[Any] = Lease

    lease: Text


class ReleaseLease(Ask, frozen=True, kw_only=True, tag="placement.lease.release"):
    """Wish that a lease ends: its servers are taken back, erased and attested. ``generation`` as in a change."""

    permission: ClassVar[str] = "lease.write"
    reply: ClassVar[Any] = Lease
    changes: ClassVar[bool] = True

    lease: Text
    generation: Sequence | None = None


class LeaseGranted(Fact, frozen=True, kw_only=True, tag="placement.lease.granted/1"):
    """These nodes are the lease's alone. The key of each fact of a lease is its id."""

    per_tenant: ClassVar[bool] = True

    lease_id: LeaseId
    name: Name
    node_ids: list[NodeId]
    gpus: Count


class LeaseRefused(Fact, frozen=True, kw_only=True, tag="placement.lease.refused/1"):
    """There was no room for a lease in time; it holds nothing."""

    per_tenant: ClassVar[bool] = True

    lease_id: LeaseId
    name: Name
    reasons: list[Reason]


class LeaseActivated(Fact, frozen=True, kw_only=True, tag="placement.lease.activated/1"):
    """Every server of a lease was handed over."""

    per_tenant: ClassVar[bool] = True

    lease_id: LeaseId
    name: Name


class LeaseReleased(Fact, frozen=True, kw_only=True, tag="placement.lease.released/1"):
    """A lease's servers are being taken back."""

    per_tenant: ClassVar[bool] = True

    lease_id: LeaseId
    name: Name
    reasons: list[Reason] = msgspec.field(default_factory=list)


class LeaseEnded(Fact, frozen=True, kw_only=True, tag="placement.lease.ended/1"):
    """A lease's servers were erased and attested, and are free."""

    per_tenant: ClassVar[bool] = True

    lease_id: LeaseId
    name: Name


class LeaseFailed(Fact, frozen=True, kw_only=True, tag="placement.lease.failed/1"):
    """A lease ended otherwise than it should; servers that may hold its data are cordoned."""

    per_tenant: ClassVar[bool] = True

    lease_id: LeaseId
    name: Name
    reasons: list[Reason]
