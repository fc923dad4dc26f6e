"""Who tells, who reads, what is kept: the one table from which the bus is declared and closed.

``mesh_contracts.rights`` turns it into permission lists; the ``admin`` step declares it.
"""

from typing import Literal

import msgspec

from mesh_contracts import ask, carbon, identity, inference, metering, node, placement
from mesh_contracts.fact import PARTITION_COUNT, Fact, owner_of, stream_of, tag_of

OWNERS = ("identity", "placement", "agent", "gateway", "metering", "carbon")
"""Wire names. The bus user of each is in ``USERS``; nodes are users of their own account."""

USERS = {
    "identity": "identity",
    "placement": "placement",
    "gateway": "inference-gateway",
    "metering": "metering",
    "carbon": "carbon-accounting",
}

FACTS: tuple[type[Fact], ...] = (
    identity.ProjectAdmitted,
    identity.KeyIssued,
    identity.KeyRevoked,
    identity.NodeEnrolled,
    placement.NodeCordoned,
    placement.NodeDrained,
    placement.NodeReturned,
    placement.NodeLost,
    placement.SilenceSuspected,
    placement.EndpointChanged,
    placement.WorkloadAssigned,
    placement.WorkloadMoved,
    placement.WorkloadRefused,
    placement.LeaseGranted,
    placement.LeaseRefused,
    placement.LeaseActivated,
    placement.LeaseReleased,
    placement.LeaseEnded,
    placement.LeaseFailed,
    placement.JobQueued,
    placement.JobAdmitted,
    placement.JobStarted,
    placement.JobReseated,
    placement.JobPreempted,
    placement.JobSucceeded,
    placement.JobFailed,
    placement.JobCancelled,
    placement.QuotaChanged,
    placement.CapChanged,
    placement.BreakerTripped,
    placement.BreakerRearmed,
    placement.MaintenancePlanned,
    placement.MaintenanceStarted,
    placement.MaintenanceEnded,
    node.NodeJoined,
    node.HealthChanged,
    node.WorkloadStarted,
    node.WorkloadReady,
    node.WorkloadStopped,
    node.WorkloadFailed,
    node.ErasureRecorded,
    node.EnergyMeasured,
    inference.UsageMetered,
    inference.DemandChanged,
    metering.UsageRated,
    metering.UsageRecorded,
    metering.BudgetCrossed,
    metering.HoldingReleased,
    carbon.FootprintSettled,
)

ASKS: tuple[type[ask.Ask], ...] = (
    identity.CreateOrganization,
    identity.ListOrganizations,
    identity.CreateProject,
    identity.ListProjects,
    identity.IssueKey,
    identity.ListKeys,
    identity.RevokeKey,
    identity.CreateJoinToken,
    identity.ListJoinTokens,
    identity.EnrolNode,
    placement.CreateEndpoint,
    placement.ListEndpoints,
    placement.GetEndpoint,
    placement.ChangeEndpoint,
    placement.DeleteEndpoint,
    placement.ListNodes,
    placement.GetNode,
    placement.CordonNode,
    placement.DrainNode,
    placement.ReturnNode,
    placement.CheckNode,
    placement.ExplainPlacement,
    placement.RequestLease,
    placement.ListLeases,
    placement.GetLease,
    placement.ReleaseLease,
    placement.SubmitJob,
    placement.ListJobs,
    placement.GetJob,
    placement.CancelJob,
    placement.WishLog,
    placement.ReadLog,
    placement.SetQuota,
    placement.ListQuotas,
    placement.SetCap,
    placement.ListCaps,
    placement.ListSites,
    placement.GetSite,
    placement.RearmBreaker,
    placement.PlanMoves,
    placement.MakeMoves,
    placement.ListMoves,
    placement.PlanMaintenance,
    placement.ListMaintenance,
    placement.CancelMaintenance,
    metering.ListUsage,
    metering.ListPrices,
    metering.GetRequest,
    metering.RenewLeases,
    metering.SetBudget,
    metering.ListBudgets,
    metering.DeleteBudget,
    metering.SetLimit,
    metering.ListLimits,
    metering.DeleteLimit,
    metering.ListHoldings,
    metering.ReleaseHolding,
    carbon.GetReceipt,
    carbon.GetSigningKey,
    carbon.ListFactors,
    carbon.ListFootprints,
)

SAMPLES: dict[str, type[msgspec.Struct]] = {
    "agent.heartbeat": node.Heartbeat,
    "agent.power": node.Power,
    "agent.log": node.LogTail,
}

HEARS: dict[str, tuple[str, ...]] = {
    "placement": ("agent.heartbeat", "agent.power", "agent.log"),
    "carbon": ("agent.power",),
}
"""Which samples each service hears."""

READS: dict[str, tuple[type[Fact], ...]] = {
    "placement": (
        identity.ProjectAdmitted,
        identity.NodeEnrolled,
        node.NodeJoined,
        node.HealthChanged,
        node.WorkloadStarted,
        node.WorkloadReady,
        node.WorkloadStopped,
        node.WorkloadFailed,
        node.ErasureRecorded,
        inference.DemandChanged,
    ),
    "metering": (identity.ProjectAdmitted, inference.UsageMetered),
    "carbon": (identity.ProjectAdmitted, node.EnergyMeasured, node.NodeJoined, metering.UsageRated),
}
"""Which facts each service handles: one consumer a stream and partition."""

DAY_S = 24 * 3600


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One owner's facts. ``fsync`` ``always`` marks streams that belong on an fsync-each server.

    Of one with retention ``interest`` a fact is gone once all its readers have acknowledged it. It
    cannot feed ``EVENTS``, whose place in a stream is nothing that the server waits for.
    """

    name: str
    owner: str
    retention: Literal["limits", "interest"] = "limits"
    max_age_s: int = 7 * DAY_S
    max_bytes: int = 1024**3
    replicas: int = 1
    fsync: str = "interval"
    max_consumers: int = 64
    duplicate_window_s: int = 120


class BucketSpec(msgspec.Struct, frozen=True, kw_only=True):
    """State that others must see at once; one writer. ``readers`` watch it whole.

    ``value`` is what stands under each key; or, by the first token of the key, what stands under those.
    """

    name: str
    writer: str
    value: type[msgspec.Struct] | dict[str, type[msgspec.Struct]]
    readers: tuple[str, ...] = ()
    republish_to: str | None = None
    max_bytes: int = 256 * 1024**2
    max_consumers: int = 128


class ConsumerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One reader's place in one partition of one stream."""

    name: str
    stream: str
    reader: str
    filters: tuple[str, ...]
    ack_wait_s: float = 10.0
    max_ack_pending: int = 2_000


STREAMS: tuple[StreamSpec, ...] = (
    StreamSpec(name="IDENTITY", owner="identity"),
    StreamSpec(name="PLACEMENT", owner="placement"),
    StreamSpec(name="AGENT", owner="agent", retention="interest"),
    StreamSpec(name="GATEWAY", owner="gateway", retention="interest", fsync="always"),
    StreamSpec(name="METERING", owner="metering", fsync="always"),
    StreamSpec(name="CARBON", owner="carbon"),
)

EVENTS = StreamSpec(name="EVENTS", owner="events", max_bytes=1024**3)
"""Sources every per-tenant fact; republished as ``event.>``. Only the gateway reads it."""

BUCKETS: tuple[BucketSpec, ...] = (
    BucketSpec(name="access", writer="identity", value=identity.AccessEntry, readers=("gateway",)),
    BucketSpec(name="intents", writer="placement", value=placement.Intent, republish_to="intent"),
    BucketSpec(name="routes", writer="placement", value=placement.Route, readers=("gateway",)),
    BucketSpec(
        name="limits",
        writer="metering",
        value={"producer": metering.ProducerMark, "ceiling": metering.Ceiling},
        readers=("gateway",),
    ),
    BucketSpec(name="signals", writer="carbon", value=carbon.Signal, readers=("placement",)),
)


def consumers() -> list[ConsumerSpec]:
    """Return every consumer to declare, named ``<reader>_<STREAM>_<partition>``."""
    declared = []
    for reader, kinds in READS.items():
        for stream in sorted({stream_of(kind) for kind in kinds}):
            tags = sorted(tag_of(kind) for kind in kinds if stream_of(kind) == stream)
            for partition in range(PARTITION_COUNT):
                filters = tuple(f"{tag.partition('/')[0]}.*.{partition:02d}.>" for tag in tags)
                name = f"{reader}_{stream}_{partition:02d}"
                declared.append(ConsumerSpec(name=name, stream=stream, reader=reader, filters=filters))
    return declared


def event_filters() -> list[tuple[str, str]]:
    """Return (stream, subject filter) of every fact that belongs to one tenant."""
    return [
        (stream_of(kind), f"{tag_of(kind).partition('/')[0]}.>") for kind in FACTS if kind.per_tenant
    ]


def bucket(name: str) -> BucketSpec:
    """Return a bucket's spec. Raises ``KeyError`` for one that is not in the table."""
    return {spec.name: spec for spec in BUCKETS}[name]


FACT_BY_TAG: dict[str, type[Fact]] = {tag_of(kind): kind for kind in FACTS}
"""Every fact's type by its tag."""

TRIMMED: tuple[StreamSpec, ...] = tuple(
    spec for spec in STREAMS if spec.retention == "limits" and spec.owner in USERS
)
"""Streams that their owner makes room in: of what every reader, and ``EVENTS``, has."""

assert all(owner_of(kind) in OWNERS for kind in FACTS)
assert not {stream for stream, _ in event_filters()} & {
    spec.name for spec in STREAMS if spec.retention == "interest"
}
