"""What stands in the bucket ``intents``: all that a node should run, and be."""

from typing import Literal

import msgspec

from mesh_contracts.placement.jobs import Command
from mesh_contracts.placement.nouns import Engine, MigInstance, Model, Resources
from mesh_contracts.units import (
    Count,
    DeviceId,
    EndpointId,
    Id,
    Name,
    NodeId,
    OrganizationId,
    ProjectId,
    Sequence,
    WorkloadId,
)


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing a node should run. ``api_key`` opens its engine; it travels in buckets only.

    With ``mig`` it runs on that instance of its one device.
    ``log`` rises when the end of what it prints is wished for.
    """

    workload_id: WorkloadId
    endpoint_id: EndpointId
    organization: OrganizationId
    project: ProjectId
    name: Name
    model: Model
    engine: Engine
    resources: Resources
    devices: list[DeviceId]
    api_key: str
    mig: MigInstance | None = None
    log: Count = 0


class MemberSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One member of a job, or one server of a lease: the ``number``-th of ``members``.

    Of a job the node runs ``command`` on ``devices`` (on the instance ``mig`` of its one device, where it has one); ``attempt`` counts from 1, and above it the job
    goes on from its last checkpoint. Its members meet at ``rendezvous`` (``host:port``), where member 0 runs. Of a lease (``kind``) the whole server is the tenant's, and is
    to be, by ``step`` (``log`` as of a workload): handed over (``hold``), erased (``erase``), shown to be as it should (``attest``).
    """

    workload_id: WorkloadId
    kind: Literal["job", "lease"]
    owner_id: Id
    organization: OrganizationId
    project: ProjectId
    name: Name
    number: Count
    members: Count
    devices: list[DeviceId]
    attempt: Count = 1
    resources: Resources | None = None
    command: Command | None = None
    rendezvous: str | None = None
    step: Literal["hold", "erase", "attest"] = "hold"
    mig: MigInstance | None = None
    log: Count = 0


class Intent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bucket ``intents``, key ``<node id>``: all that the node should run and do, level-triggered.

    ``check`` rises when a health check is wished for; the node runs one when it is above the
    last it ran. ``asked`` is the last of them that a person asked for: what a check takes (a leased
    server's disks are erased) nothing else brings about. A workload, or a member of a job, that is
    no longer listed is stopped.
    """

    node_id: NodeId
    workloads: list[WorkloadSpec] = []
    check: Sequence = 0
    asked: Sequence = 0
    members: list[MemberSpec] = []
