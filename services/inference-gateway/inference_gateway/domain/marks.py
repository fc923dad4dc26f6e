"""Which batches may be forgotten, and which are wished for again, by what the ledger says it holds."""

from collections.abc import Sequence

from mesh_contracts.metering import ProducerMark

from inference_gateway.domain.records import Batched

AGAIN_MAX = 20
"""Batches told again at once; more follow when these stand in the ledger."""


def kept(batches: Sequence[Batched], mark: ProducerMark) -> list[Batched]:
    """Return the batches that the ledger is not known to hold."""
    return [batch for batch in batches if not mark.covers(batch.epoch, batch.sequence)]


def missed(batches: Sequence[Batched], mark: ProducerMark) -> list[Batched]:
    """Return the kept batches that the ledger jumped over, at most ``AGAIN_MAX``."""
    missing = {tuple(number) for number in mark.missing}
    return [batch for batch in batches if (batch.epoch, batch.sequence) in missing][:AGAIN_MAX]
