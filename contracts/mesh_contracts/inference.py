"""What the gateway tells: who used which model, how much; one row a request, in numbered batches."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.fact import Fact
from mesh_contracts.units import (
    Count,
    EndpointId,
    KeyId,
    Name,
    NodeId,
    OrganizationId,
    ProjectId,
    RequestId,
    Sequence,
    Time,
    TraceParent,
    WorkloadId,
)

ROWS_MAX = 500


CONSIDERED_MAX = 8
"""Replicas listed in an explanation: the chosen one, and the best of the others."""


class Considered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A replica as it stood when one was chosen. ``load`` is what the choice compared."""

    workload_id: WorkloadId
    load: Count = 0
    in_flight: Count = 0
    passed_over: str | None = None
    """Why it could not be chosen at all: ``tried``, ``ejected``, ``circuit_open``, ``full``."""


class Tried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A replica that was asked and gave nothing that could be relayed."""

    workload_id: WorkloadId
    reason: str


class Counted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limit that the request was counted against, and what this gateway had left of it then."""

    scope: str
    requests_left: Count | None = None
    tokens_left: Count | None = None
    parallel_left: Count | None = None
    microeur_left: Count | None = None


class Explained(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request went the way it went; ids and numbers, never content.

    ``chosen_by`` names the rule that decided: ``only``, ``least_load``, ``prefix``, ``session``,
    ``lora``, ``canary``, ``round_robin``, ``probe``, ``retry``.
    """

    chosen_by: str | None = None
    considered: list[Considered] = []
    tried: list[Tried] = []
    counted: list[Counted] = []
    asked_as: Name | None = None
    """The name the client used, where an alias or a fallback led to this model."""
    queue_position: Count | None = None
    """Where it stood in the queue when it came, from 1; absent where it did not wait."""
    reserved_tokens: Count | None = None


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One admitted request, from its admission to its end; content-free.

    ``tokens_from`` says where the token counts come from: ``engine`` (reported, whole),
    ``counted`` (by the gateway, from what it relayed), ``none`` (nothing was made, or unknown:
    the counts are then null, which differs from zero). ``state`` is ``aborted`` where the client
    left or the gateway was killed, ``failed`` where the engine was at fault; ``reason`` says more.
    ``attempts`` is 0 where no replica was asked: its client left the line, or was refused after signs of life.
    ``queue_us`` is the wait for a free replica, ``output_token_us`` the mean time between output
    tokens, ``finish_reason`` the engine's own reason of the end, ``admitted_epoch`` the gateway's
    epoch (see ``metering.Lease``) whose leases the request was counted against.
    """

    request_id: RequestId
    organization: OrganizationId
    project: ProjectId
    key_id: KeyId
    endpoint_id: EndpointId
    model: Name
    route: str
    streamed: bool
    started_at: Time
    ended_at: Time
    state: Literal["completed", "aborted", "failed"]
    status: Count
    tokens_from: Literal["engine", "counted", "none"]
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    cached_tokens: Count | None = None
    workload_id: WorkloadId | None = None
    node_id: NodeId | None = None
    attempts: Count = 1
    queue_us: Count | None = None
    first_token_us: Count | None = None
    reason: str | None = None
    traceparent: TraceParent | None = None
    output_token_us: Count | None = None
    finish_reason: str | None = None
    admitted_epoch: Sequence | None = None
    explained: Explained | None = None


class UsageMetered(Fact, frozen=True, kw_only=True, tag="gateway.usage.metered/1"):
    """Rows of requests that ended. ``producer``, ``epoch`` and ``sequence`` number the batches.

    Sequences rise by one within an epoch, from 1; a new epoch starts with each start of the
    producer. The key is the producer's id. The same numbers always carry the same rows.
    """

    ordered: ClassVar[bool] = False

    producer: str
    epoch: Sequence
    sequence: Sequence
    rows: Annotated[list[UsageRow], Meta(min_length=1, max_length=ROWS_MAX)]


DEMANDS_MAX = 500


class Demand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one gateway sees of one endpoint now.

    ``in_flight`` requests are at replicas, ``queued`` wait for one; ``in_flight_tokens`` is what
    those in flight may still take at most. ``idle_ms`` is the time since the last request ended,
    0 while there is one. ``waking`` is true while a request waits and no replica serves.
    """

    endpoint_id: EndpointId
    in_flight: Count = 0
    queued: Count = 0
    in_flight_tokens: Count = 0
    tokens_per_s: Count = 0
    idle_ms: Count = 0
    waking: bool = False


class DemandChanged(Fact, frozen=True, kw_only=True, tag="gateway.demand.changed/1"):
    """What a gateway sees of its endpoints has changed. The key is the gateway's producer id.

    ``sequence`` rises with each, over all epochs: of two the higher is the truth. An endpoint that
    is not listed stands as it was last told; one that is told stands for ``stands_ms``, unless told anew.
    """

    ordered: ClassVar[bool] = False

    producer: str
    sequence: Sequence
    stands_ms: Count
    demands: Annotated[list[Demand], Meta(min_length=1, max_length=DEMANDS_MAX)]
