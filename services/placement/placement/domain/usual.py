"""What is usually asked for: the sizes of late, by how often; what a fragment is depends on it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from placement.domain.engine.size import Size
from placement.domain.engine.wish import Expected

ASKED_LEAST: Final = 1_000
"""So many members were asked for since the mix was told last, before it is told anew."""
SIZES_MAX: Final = 256
"""The most frequent sizes that are told."""


def usual(before: Iterable[tuple[Size, int]], asked: Mapping[Size, int]) -> Expected:
    """Return the mix of late: what counted before counts half, what was ``asked`` for since whole."""
    mix = Counter({size: count // 2 for size, count in before})
    mix.update(asked)
    sizes = sorted((one for one in mix.items() if one[1] > 0), key=lambda one: (-one[1], one[0]))
    return Expected(sizes=sizes[:SIZES_MAX])
