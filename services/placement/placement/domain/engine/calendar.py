"""Which nodes are kept for whom and from when: reservations and maintenance windows.

Both keep whole nodes. From a booking's start on nothing of anybody else may be there, so what would not have
left by then is not placed there before: work with a known end may run up to the start, all other work
stays away from the day of the booking. One array, the next start at each node, answers for a whole site.
"""

from collections.abc import Iterable

import msgspec
import numpy as np

from placement.domain.engine.notice import Short
from placement.domain.engine.site import Bools, Ints, Part, Site
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.wish import Kind, Reserved, Wish

BOOKINGS_MAX = 1_024
"""Reservations and maintenance windows that are known at a time."""
FOREVER = 1 << 62
"""Later than anything."""
TURNAROUND_MS: dict[Kind, int] = {"lease": 30 * 60_000, "job": 60_000, "endpoint": 60_000}
"""How long after its end a workload's seats are its own: servers are wiped and attested between tenants."""
TURNAROUND_MAX_MS = max(TURNAROUND_MS.values())


def free_at(wish: Wish, until: int | None) -> int:
    """Return when a workload that stops at ``until`` has left its seats; ``FOREVER`` where nobody knows."""
    return FOREVER if until is None else until + TURNAROUND_MS[wish.kind]


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """These rows are kept from ``start`` to ``end``: for a project, or (no ``wanted``) for maintenance.

    ``clears``: work that can be preempted is there now, and makes way at the start.
    """

    name: str
    rows: tuple[int, ...]
    start: int
    end: int
    wanted: Reserved | None = None
    milli: int = 0
    clears: bool = False
    begun: bool = False

    @property
    def owner(self) -> tuple[str, str] | None:
        """Return the organisation and project that it is for."""
        return (self.wanted.organization, self.wanted.project) if self.wanted else None

    @property
    def free(self) -> int:
        """Return when what was on its rows has left them."""
        return self.end if self.wanted is None else self.end + TURNAROUND_MAX_MS

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the rows as members of nothing: what counts them counts whole nodes."""
        return tuple(Part(row, (), 0) for row in self.rows)


class Calendar:
    """The bookings of one site; none costs nothing."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.bookings: dict[str, Booking] = {}
        self._next: Ints | None = None
        self._next_from = self._next_until = 0

    def put(self, booking: Booking) -> None:
        """Keep a booking, new or changed."""
        self.bookings[booking.name] = booking
        self._next = None

    def drop(self, name: str) -> Booking | None:
        """Keep a booking no more; return it."""
        self._next = None
        return self.bookings.pop(name, None)

    def next_event(self) -> int:
        """Return when the next booking starts or ends."""
        return min(
            (one.end if one.begun else one.start for one in self.bookings.values()), default=FOREVER
        )

    def barred(self, now: int, end: int, reservation: str) -> Bools | None:
        """Return the rows that work may not take which leaves at ``end``; ``None`` for none."""
        booking = self.bookings.get(reservation)
        if booking is not None:
            return self._outside(booking, now, end)
        if not self.bookings:
            return None
        found: Bools = self._starts(now) < end
        return found

    def barred_later(self, start: int, end: int) -> Bools | None:
        """Return the same for work that is to start at a moment to come: what was reserved must be free again."""
        if not self.bookings:
            return None
        found = np.zeros(self._site.rows, bool)
        for one in self.bookings.values():
            if one.start < end and start < one.free:
                found[list(one.rows)] = True
        return found

    def busy(self, start: int, end: int) -> Bools:
        """Return the rows that are kept for others at some time between ``start`` and ``end``.

        Whoever comes next needs what was there before to be gone.
        """
        found = np.zeros(self._site.rows, bool)
        for one in self._during(start, end):
            found[list(one.rows)] = True
        return found

    def drawn(self, start: int, end: int) -> list[Part]:
        """Return what then draws watts of others: all the GPUs that are kept for them."""
        site = self._site
        rows = [row for one in self._during(start, end) if one.wanted is not None for row in one.rows]
        return [Part(row, tuple(range(int(site.cards[row]))), MILLI_PER_GPU) for row in rows]

    def _during(self, start: int, end: int) -> list[Booking]:
        return [
            one
            for one in self.bookings.values()
            if start < one.free and one.start < end + TURNAROUND_MAX_MS
        ]

    def short(self, wish: Wish, now: int) -> Short | None:
        """Return why nothing may sit in the reservation that a wish names, if so."""
        name, booking = wish.reservation, self.bookings.get(wish.reservation)
        if booking is None or booking.owner != (wish.organization, wish.project) or now >= booking.end:
            return Short(code="reservation", name=name, have=0, want=1, ever=False)
        start = max(now, booking.start)
        if wish.run_ms and start + wish.run_ms > booking.end:
            left = booking.end - start
            return Short(code="time", name=name, have=left, want=wish.run_ms, ever=False)
        if not booking.begun:
            return Short(code="reservation", name=name, have=now, want=booking.start)
        return None

    def booked(self, organization: str, project: str, now: int, end: int) -> int:
        """Return how many milli of GPU a project's reservations keep at some time from ``now`` to ``end``."""
        return sum(
            one.milli
            for one in self.bookings.values()
            if one.owner == (organization, project) and one.start < end and one.end > now
        )

    def rows_of(self, nodes: Iterable[str], domains: Iterable[str]) -> tuple[int, ...]:
        """Return the rows that names mean, in order. Raises ``ValueError`` for a name that is not known."""
        site = self._site
        rows: dict[int, None] = {}
        for node in nodes:
            if node not in site.row_of:
                raise ValueError(f"there is no node {node}")
            rows[site.row_of[node]] = None
        for domain in domains:
            code = site.domains["nvlink"].get(domain)
            if code is None:
                raise ValueError(f"there is no NVLink domain {domain}")
            rows |= dict.fromkeys(np.flatnonzero(site.at("nvlink") == code).tolist())
        return tuple(sorted(rows))

    def _starts(self, now: int) -> Ints:
        """Return when the next booking of each row starts that has not ended: int[row]."""
        found = self._next
        kept = self._next_from <= now < self._next_until
        if found is None or not kept or len(found) != self._site.rows:
            found = np.full(self._site.rows, FOREVER + 1, np.int64)
            self._next_from, self._next_until = now, FOREVER
            for one in self.bookings.values():
                if one.end > now:
                    rows = np.array(one.rows)
                    found[rows] = np.minimum(found[rows], one.start)
                    self._next_until = min(self._next_until, one.end)
            self._next = found
        return found

    def _outside(self, booking: Booking, now: int, end: int) -> Bools:
        found = np.ones(self._site.rows, bool)
        found[list(booking.rows)] = False
        for one in self.bookings.values():
            if one is not booking and one.start < end and one.end > now:
                found[list(one.rows)] = True
        return found
