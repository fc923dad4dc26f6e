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


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One admitted request, from its admission to its end; content-free.

    ``tokens_from`` says where the token counts come from: ``engine`` (reported, whole),
    ``counted`` (by the gateway, from what it relayed), ``none`` (nothing was made, or unknown:
    the counts are then null, which differs from zero). ``state`` is ``aborted`` where the client
    left or the gateway was killed, ``failed`` where the engine was at fault; ``reason`` says more.
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
