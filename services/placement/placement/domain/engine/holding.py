"""What a workload has once it is placed, and what is known of one that could not be."""

from typing import NamedTuple

from placement.domain.engine.choose import NoChoice
from placement.domain.engine.gang import NoGang
from placement.domain.engine.site import Ints, Part
from placement.domain.engine.wish import Told, Wish


class Holding(NamedTuple):
    """A workload that has its seats, since when, and until when where that is known.

    ``borrowed``: it gives way to whoever is guaranteed its seats. ``number`` is when it came to ask.
    """

    wish: Wish
    parts: tuple[Part, ...]
    at: int
    until: int | None = None
    borrowed: bool = False
    number: int = 0


class Seated(NamedTuple):
    """Where all members sit, and why there."""

    parts: tuple[Part, ...]
    why: Told


class Missed(NamedTuple):
    """A member that has no seat: why, and how many others would have had theirs beside what was ``barred``."""

    last: NoChoice | NoGang
    seated: int
    barred: Ints | None = None
