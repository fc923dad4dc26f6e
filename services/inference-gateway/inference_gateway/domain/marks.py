"""Which batches may be forgotten, and which are wished for again, by what the ledger says it holds."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from mesh_contracts.metering import ProducerMark

from inference_gateway.domain.records import Batched

AGAIN_MAX = 20
"""Batches told again at once; more follow when these stand in the ledger."""


def kept(batches: Sequence[Batched], mark: ProducerMark) -> list[Batched]:
    """Return the batches that the ledger is not known to hold; they stand in the order of their numbers.

    A mark covers the beginning of an epoch, so that a long row of them need not be looked through.
    """
    held = [*mark.earlier, (mark.epoch, mark.sequence)]
    left: list[Batched] = []
    at = 0
    for epoch, sequence in sorted(held):
        begin = bisect_left(batches, (epoch, 0), lo=at, key=_number)
        left += batches[at:begin]
        at = bisect_right(batches, (epoch, sequence), lo=begin, key=_number)
    left += batches[at:]
    return left


def missed(batches: Sequence[Batched], mark: ProducerMark) -> list[Batched]:
    """Return the kept batches that the ledger jumped over, at most ``AGAIN_MAX``."""
    missing = {tuple(number) for number in mark.missing}
    return [batch for batch in batches if (batch.epoch, batch.sequence) in missing][:AGAIN_MAX]


def _number(batch: Batched) -> tuple[int, int]:
    return batch.epoch, batch.sequence
