"""What is kept of turns between two starts."""

import msgspec

from placement.domain.engine.calendar import Booking
from placement.domain.engine.notice import CarbonForeseen
from placement.domain.engine.queue import Entry
from placement.domain.engine.quota import Books


class TurnsState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that decides about turns and does not follow from who sits where."""

    now: int = 0
    number: int = 0
    books: Books = Books()
    bookings: tuple[Booking, ...] = ()
    entries: tuple[Entry, ...] = ()
    stops: tuple[tuple[int, str], ...] = ()
    grid: CarbonForeseen | None = None
