"""Bodies of requests for jobs, leases, quota and caps, and of what would be."""

import msgspec
from mesh_contracts.placement import (
    Changes,
    Command,
    Isolation,
    Members,
    MovesIsolation,
    MovesMax,
    MovesToMake,
    Names,
    Near,
    NvlinkDomains,
    PowerDomain,
    Priority,
    QuotaScope,
    Residency,
    Resources,
    WindowNodes,
)
from mesh_contracts.units import Count, Name, Text, Time


class NewJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A gang of ``members`` times ``resources``; without a ``project``, in that of the caller's key."""

    name: Name
    command: Command
    project: Text | None = None
    members: Members = 1
    resources: Resources = msgspec.field(default_factory=Resources)
    residency: Residency = msgspec.field(default_factory=Residency)
    near: Near = msgspec.field(default_factory=Near)
    isolation: Isolation = "none"
    assurances: Names = []
    priority: Priority = 100
    preemptible: bool = True
    min_run_s: Count = 0
    restart_loses_s: Count = 3_600
    restarts_max: Count = 3
    run_max_s: Count = 0
    slack_s: Count = 0
    elastic: bool = False


class NewLease(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whole ``nodes`` or whole NVLink ``domains``; without a ``project``, in that of the caller's key."""

    name: Name
    project: Text | None = None
    nodes: Count = 0
    domains: Count = 0
    gpu_model: Text | None = None
    gpus_per_node: Count | None = None
    residency: Residency = msgspec.field(default_factory=Residency)
    near: Near = msgspec.field(default_factory=Near)
    assurances: Names = []
    priority: Priority = 100
    wait_s: Count = 0
    starts_at: Time | None = None
    ends_at: Time | None = None


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose quota: a project or an organization, by its id or its name."""

    kind: QuotaScope
    id: Text


class NewQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A guaranteed share of the GPUs, the weight with which more is lent, and a bound of all."""

    scope: Scope
    gpus: Count = 0
    nvlink_domains: NvlinkDomains = {}
    weight: Count = 100
    gpus_max: Count | None = None


class NewCap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many watts a part of the site may draw; null lifts its cap."""

    level: PowerDomain
    domain: Name
    watts: Count | None


class Room(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of which shape more members are to fit, and how many moves that may take."""

    resources: Resources = msgspec.field(default_factory=Resources)
    residency: Residency = msgspec.field(default_factory=Residency)
    isolation: MovesIsolation = "none"
    moves_max: MovesMax = 8


class Moved(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which replicas are to sit where: as a plan of moves names them."""

    moves: MovesToMake


class Rearm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person found before health checks may take nodes out again."""

    reason: Text


class NewMaintenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which nodes are worked on, from when until when (null: until it is cancelled), and why."""

    nodes: WindowNodes
    starts_at: Time
    ends_at: Time | None = None
    reason: Text


class Drain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why a node is to be emptied, and how long what cannot be preempted may go on."""

    reason: Text = "an operator's wish"
    grace_s: Count = 3_600


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a replica, or each of several members, would take, and on which terms; what might change before."""

    resources: Resources = msgspec.field(default_factory=Resources)
    residency: Residency = msgspec.field(default_factory=Residency)
    members: Members = 1
    near: Near = msgspec.field(default_factory=Near)
    isolation: Isolation = "none"
    assurances: Names = []
    priority: Priority = 100
    changes: Changes = []
