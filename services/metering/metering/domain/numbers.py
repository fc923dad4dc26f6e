"""Which batches of a producer stand in the ledger: numbers as ranges, and what is missing between.

``Ranges`` are closed, sorted, and never touch each other: ``((1, 7), (9, 9))`` lacks 8.
"""

from collections.abc import Iterator, Mapping
from itertools import islice, pairwise

from mesh_contracts.metering import EARLIER_SHOWN_MAX, MISSING_SHOWN_MAX, ProducerMark

Ranges = tuple[tuple[int, int], ...]


def added(held: Ranges, number: int) -> Ranges:
    """Return the ranges with ``number`` among them; the same ranges where it is already."""
    before = [one for one in held if one[1] < number - 1]
    after = [one for one in held if one[0] > number + 1]
    touched = held[len(before) : len(held) - len(after)]
    low = min([number, *(one[0] for one in touched)])
    high = max([number, *(one[1] for one in touched)])
    together = (*before, (low, high), *after)
    assert all(left[1] + 1 < right[0] for left, right in pairwise(together)), "ranges stay apart"
    return together


def up_to(held: Ranges) -> int:
    """Return the number up to which all from 1 on are held; 0 where the first is missing."""
    return held[0][1] if held and held[0][0] <= 1 else 0


def gaps(held: Ranges) -> Iterator[int]:
    """Yield the numbers from 1 on that were jumped over, the lowest first."""
    whole = up_to(held)
    for low, high in held:
        yield from range(whole + 1, low)
        whole = max(whole, high)


def gap_count(held: Ranges) -> int:
    """Return how many numbers were jumped over."""
    return sum(
        right[0] - left[1] - 1 for left, right in pairwise(((0, 0), *held)) if right[0] > left[1]
    )


def mark(producer: str, epochs: Mapping[int, Ranges]) -> ProducerMark:
    """Return what a producer is told of what the ledger holds of it.

    ``epochs`` are the newest ones that told anything, and at least one; what is older is not told of.
    """
    assert epochs, "a producer is marked once it has told something"
    newest, *earlier = sorted(epochs, reverse=True)[: EARLIER_SHOWN_MAX + 1]
    missing = (
        (epoch, number) for epoch in sorted([newest, *earlier]) for number in gaps(epochs[epoch])
    )
    return ProducerMark(
        producer=producer,
        epoch=newest,
        sequence=up_to(epochs[newest]),
        missing=list(islice(missing, MISSING_SHOWN_MAX)),
        earlier=[(epoch, up_to(epochs[epoch])) for epoch in earlier],
    )
