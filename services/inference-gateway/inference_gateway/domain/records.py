"""What the journal says happened to requests, and what a restart owes: a pure function of the list.

One file, one order: *opened* before the engine is asked, *ended* before the client sees the end, *batch*
before it is told. *Progress* stands in a mapped page before a chunk leaves (``progress``), and in the file where
a long request is written again.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from mesh_contracts.inference import Explained, UsageRow
from mesh_contracts.units import (
    EndpointId,
    KeyId,
    Name,
    NodeId,
    OrganizationId,
    ProjectId,
    RequestId,
    TraceParent,
    WorkloadId,
)

OPENED, PROGRESS, ENDED = 16, 17, 18
"""Kinds of records in the journal; a batch is one of its facts."""

STATUS_CLIENT_LEFT = 499
STATUS_KILLED = 500
_PROGRESS = struct.Struct("<QQq")


class Opening(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All that is known of a request when it is admitted. Who is asked is filled in before it is written."""

    request_id: RequestId
    organization: OrganizationId
    project: ProjectId
    key_id: KeyId
    endpoint_id: EndpointId
    model: Name
    route: str
    streamed: bool
    started_at: datetime
    workload_id: WorkloadId | None = None
    node_id: NodeId | None = None
    attempts: int = 1
    traceparent: TraceParent | None = None
    admitted_epoch: int | None = None


class More(msgspec.Struct, frozen=True, kw_only=True):
    """What else is known of a request once it has ended."""

    first_token_us: int | None = None
    output_token_us: int | None = None
    queue_us: int | None = None
    finish_reason: str | None = None
    explained: Explained | None = None


NOTHING_MORE = More()


class Opened(msgspec.Struct, frozen=True):
    """A request was admitted; one opened again stands for the same request.

    On another replica it begins anew; opened again as it was, it has come as far as before.
    """

    position: int
    opening: Opening


class Progress(msgspec.Struct, frozen=True):
    """So many tokens were read by the time a chunk left; ``prompt`` is -1 where it is not known."""

    opened_at: int
    tokens: int
    prompt: int


class Ended(msgspec.Struct, frozen=True):
    """A request ended so."""

    position: int
    row: UsageRow


class Batched(msgspec.Struct, frozen=True):
    """Rows went into a numbered batch, which stands in the journal at ``position``."""

    position: int
    epoch: int
    sequence: int
    request_ids: Sequence[str]


Heard = Opened | Progress | Ended | Batched


class Unclosed(msgspec.Struct, frozen=True):
    """A request that was cut, and how far it had come."""

    opening: Opening
    tokens: int = 0
    prompt: int | None = None


class Restored(msgspec.Struct, frozen=True):
    """What a restart owes: requests to close, rows to batch; and the batches that are kept."""

    unclosed: list[Unclosed]
    unbatched: list[Ended]
    batches: list[Batched]


def restore(records: Iterable[Heard]) -> Restored:
    """Return what is owed after these records, whichever of them was the last to be written."""
    open_: dict[str, Unclosed] = {}
    by_position: dict[int, str] = {}
    ended: dict[str, Ended] = {}
    batches: list[Batched] = []
    for record in records:
        match record:
            case Opened(position=position, opening=opening):
                known = open_.get(opening.request_id)
                if known is None or known.opening != opening:
                    known = Unclosed(opening)
                if opening.request_id not in ended:
                    open_[opening.request_id] = known
                    by_position[position] = opening.request_id
            case Progress(opened_at=opened_at, tokens=tokens, prompt=prompt):
                known = open_.get(by_position.get(opened_at, ""))
                if known is not None:
                    open_[known.opening.request_id] = Unclosed(
                        known.opening,
                        max(known.tokens, tokens),
                        prompt if prompt >= 0 else known.prompt,
                    )
            case Ended(row=row):
                open_.pop(row.request_id, None)
                ended.setdefault(row.request_id, record)
            case Batched(request_ids=request_ids):
                batches.append(record)
                for request_id in request_ids:
                    ended.pop(request_id, None)
                    open_.pop(request_id, None)
    return Restored(list(open_.values()), list(ended.values()), batches)


def closed_by_restart(unclosed: Unclosed, now: datetime) -> UsageRow:
    """Return the row of a request that a kill of the gateway cut: aborted, with what was counted."""
    return cut(
        unclosed.opening,
        now,
        state="aborted",
        status=STATUS_KILLED,
        reason="gateway_restarted",
        tokens=unclosed.tokens,
        prompt=unclosed.prompt,
    )


def whole(
    opening: Opening,
    now: datetime,
    *,
    prompt_tokens: int,
    completion_tokens: int,
    cached_tokens: int | None,
    more: More = NOTHING_MORE,
) -> UsageRow:
    """Return the row of a request whose whole count the engine gave."""
    return _row(
        opening,
        now,
        state="completed",
        status=200,
        tokens_from="engine",
        counts=(prompt_tokens, completion_tokens, cached_tokens),
        reason=None,
        more=more,
    )


def cut(
    opening: Opening,
    now: datetime,
    *,
    state: str,
    status: int,
    reason: str,
    tokens: int = 0,
    prompt: int | None = None,
    more: More = NOTHING_MORE,
) -> UsageRow:
    """Return the row of a request that ended without the engine's whole count.

    Tokens that left are ``counted``; where none did the counts are null, which differs from zero.
    """
    counted = tokens > 0
    return _row(
        opening,
        now,
        state=state,
        status=status,
        tokens_from="counted" if counted else "none",
        counts=(prompt if counted else None, tokens if counted else None, None),
        reason=reason,
        more=more,
    )


def _row(
    opening: Opening,
    now: datetime,
    *,
    state: str,
    status: int,
    tokens_from: str,
    counts: tuple[int | None, int | None, int | None],
    reason: str | None,
    more: More,
) -> UsageRow:
    # Field by field: every request makes one.
    return UsageRow(
        request_id=opening.request_id,
        organization=opening.organization,
        project=opening.project,
        key_id=opening.key_id,
        endpoint_id=opening.endpoint_id,
        model=opening.model,
        route=opening.route,
        streamed=opening.streamed,
        started_at=opening.started_at,
        ended_at=max(now, opening.started_at),
        state=state,  # type: ignore[arg-type]
        status=status,
        tokens_from=tokens_from,  # type: ignore[arg-type]
        prompt_tokens=counts[0],
        completion_tokens=counts[1],
        cached_tokens=counts[2],
        workload_id=opening.workload_id,
        node_id=opening.node_id,
        attempts=opening.attempts,
        queue_us=more.queue_us,
        first_token_us=more.first_token_us,
        reason=reason,
        traceparent=opening.traceparent,
        output_token_us=more.output_token_us,
        finish_reason=more.finish_reason,
        admitted_epoch=opening.admitted_epoch,
        explained=more.explained,
    )


def progress_bytes(opened_at: int, tokens: int, prompt: int | None) -> bytes:
    """Return a progress record as it is written."""
    return _PROGRESS.pack(opened_at, tokens, -1 if prompt is None else prompt)


def progress_of(raw: bytes) -> Progress:
    """Return a progress record as it was written."""
    return Progress(*_PROGRESS.unpack(raw))
