"""What the meter keeps of a request in memory, what it tells of many, and what the journal said of them."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from mesh_contracts import wire
from mesh_contracts.inference import UsageMetered, UsageRow
from mesh_contracts.units import Site, derived_id
from meshkit.journal import Journal
from meshkit.telemetry import traceparent

from inference_gateway.domain import records
from inference_gateway.domain.records import Batched, Ended, Heard, Opened, Opening


class Open(msgspec.Struct):
    """An admitted request: where in the journal it stands now, and how far it has come."""

    opening: Opening
    position: int
    tokens: int = 0
    prompt: int | None = None
    slot: int | None = None


class Waiting(msgspec.Struct, frozen=True):
    """A row that is not in a batch yet: where it stands in the journal, and as it is written."""

    position: int
    row: msgspec.Raw


def batched(
    rows: Sequence[Waiting], journal: Journal, sequence: int, site: Site, now: datetime
) -> UsageMetered:
    """Return the fact that tells of ``rows``; its id follows from the journal, its epoch and ``sequence``."""
    producer, epoch = journal.producer, journal.epoch
    # They go into the batch as they were encoded already.
    as_written: Any = [waiting.row for waiting in rows]
    return UsageMetered(
        fact_id=derived_id("fact", now, producer, str(epoch), str(sequence)),
        key=producer,
        site=site,
        occurred_at=now,
        traceparent=traceparent(),
        producer=producer,
        epoch=epoch,
        sequence=sequence,
        rows=as_written,
    )


def heard(journal: Journal) -> Iterator[Heard]:
    """Yield what the journal's records say, in the domain's words."""
    for record in journal.replay():
        if record.kind == records.OPENED:
            yield Opened(record.position, wire.decode(record.payload, Opening))
        elif record.kind == records.PROGRESS:
            yield records.progress_of(record.payload)
        elif record.kind == records.ENDED:
            yield Ended(record.position, wire.decode(record.payload, UsageRow))
        else:
            fact = journal.fact_at(record.position)
            if isinstance(fact, UsageMetered):
                ids = [row.request_id for row in fact.rows]
                yield Batched(record.position, fact.epoch, fact.sequence, ids)
