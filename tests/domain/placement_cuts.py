"""GPUs in MIG mode as anybody would write them down: which slices are taken, where an instance could be cut."""

from collections.abc import Iterable, Iterator, Mapping

from placement.domain.engine.wish import Seat

H100 = {
    "1g.10gb": (1, (0, 1, 2, 3, 4, 5, 6)),
    "1g.20gb": (2, (0, 2, 4, 6)),
    "2g.20gb": (2, (0, 2, 4)),
    "3g.40gb": (4, (0, 4)),
    "4g.40gb": (4, (0,)),
    "7g.80gb": (8, (0,)),
}
A100 = {
    "1g.5gb": (1, (0, 1, 2, 3, 4, 5, 6)),
    "1g.10gb": (2, (0, 2, 4, 6)),
    "2g.10gb": (2, (0, 2, 4)),
    "3g.20gb": (4, (0, 4)),
    "4g.20gb": (4, (0,)),
    "7g.40gb": (8, (0,)),
}
A30 = {"1g.6gb": (1, (0, 1, 2, 3)), "2g.12gb": (2, (0, 2)), "4g.24gb": (4, (0,))}
"""Instances of some GPU models: how many memory slices each takes, and where it may begin."""
MODELS = {"H100": H100, "A100-40GB": A100, "A30": A30}


def taken(cards: Iterable[int], seats: Iterable[Seat]) -> dict[int, list[int]]:
    """Return the memory slices that those who sit there have of each GPU in MIG mode."""
    found: dict[int, list[int]] = {card: [] for card in cards}
    for seat in seats:
        found[seat.cards[0]] += [one for one in range(8) if seat.slices >> one & 1]
    return found


def instances(model: str, profile: str, cut: Mapping[int, list[int]]) -> Iterator[tuple[int, int]]:
    """Yield each GPU and the slices (as bits) where an instance could be cut now."""
    length, starts = MODELS.get(model, {}).get(profile, (0, ()))
    for card, gone in cut.items():
        for start in starts:
            there = range(start, start + length)
            if not set(there) & set(gone):
                yield card, sum(1 << one for one in there)


def smaller(profile: str) -> dict[int, list[str]]:
    """Return the profiles that are smaller, by how many compute slices and GB: the largest first."""
    (compute, memory), found = _weight(profile), dict[int, list[str]]()
    for other in {*H100, *A100, *A30} - {profile}:
        less, gb = _weight(other)
        if less <= compute and gb <= memory:
            found.setdefault(compute - less + memory - gb, []).append(other)
    return dict(sorted(found.items()))


def _weight(name: str) -> tuple[int, int]:
    compute, _, memory = name.removesuffix("gb").partition("g.")
    return int(compute), int(memory)
