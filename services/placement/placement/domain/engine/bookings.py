"""Reservations and maintenance windows as they come, begin and go."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from placement.domain.engine.admission import Admission
from placement.domain.engine.calendar import (
    BOOKINGS_MAX,
    FOREVER,
    TURNAROUND_MAX_MS,
    Booking,
    free_at,
)
from placement.domain.engine.forecast import Kept, seats_without
from placement.domain.engine.notice import Booked, Maintained, NotBooked, Short
from placement.domain.engine.queue import Queue
from placement.domain.engine.site import Bools
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.wish import Input, Reserved, Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Holding

Found = tuple[tuple[int, ...], bool]
"""Rows for a reservation, and whether work that can be preempted is there now."""


class Bookings:
    """What is booked on a site, and who is in the way of it."""

    def __init__(self, admission: Admission, queue: Queue) -> None:
        self._admission, self._queue = admission, queue
        self._calendar, self._engine = admission.calendar, admission.engine

    def reserve(self, given: Reserved, now: int) -> Booked | NotBooked:
        """Keep nodes for a project. Raises ``ValueError`` for what cannot be meant."""
        if not now <= given.start < given.end:
            raise ValueError(f"{given.reservation} is to start after now and before it ends")
        if given.reservation in self._calendar.bookings:
            raise ValueError(f"{given.reservation} is booked already")
        found = self._find(given, self._held(given.start, given.end))
        if isinstance(found, Short):
            return NotBooked(name=given.reservation, short=found)
        rows, clears = found
        milli = int(self._engine.site.cards[list(rows)].sum()) * MILLI_PER_GPU
        booking = Booking(
            name=given.reservation,
            rows=rows,
            start=given.start,
            end=given.end,
            wanted=given,
            milli=milli,
            clears=clears,
        )
        short = self._short(booking)
        if short is not None:
            return NotBooked(name=given.reservation, short=short)
        self._put(booking)
        return self._booked(booking)

    def maintain(self, given: Maintained, now: int) -> Booked | NotBooked:
        """Keep nodes free for those who work on them; what is there at the start is for others to move."""
        end = FOREVER if given.end is None else given.end
        if not max(now, given.start) < end:
            raise ValueError(f"{given.window} is to start before it ends, and end after now")
        if given.window in self._calendar.bookings:
            raise ValueError(f"{given.window} is known already")
        if len(self._calendar.bookings) >= BOOKINGS_MAX:
            return NotBooked(name=given.window, short=_full())
        rows = self._calendar.rows_of(given.nodes, given.domains)
        booking = Booking(name=given.window, rows=rows, start=given.start, end=end)
        self._calendar.put(booking)
        for entry in self._queue.promised():
            if entry.kept is not None and any(part.row in rows for part in entry.kept.parts):
                self._queue.lose(entry)
        return self._booked(booking)

    def begin(self, now: int) -> tuple[list[Booked], list[tuple[str, "Holding"]]]:
        """Begin and end what is due; return what has begun, and who made way for which reservation."""
        begun: list[Booked] = []
        evicted: list[tuple[str, Holding]] = []
        if now < self._calendar.next_event():
            return begun, evicted
        due = sorted(self._calendar.bookings.values(), key=lambda one: (one.start, one.name))
        for booking in due:
            if booking.end <= now:
                self._drop(booking, now)
            elif booking.start <= now and not booking.begun:
                self._calendar.put(msgspec.structs.replace(booking, begun=True))
                if booking.wanted is None:
                    continue
                for holding in self._there(booking.rows, FOREVER) if booking.clears else ():
                    if holding.wish.preemptible and not holding.wish.reservation:
                        self._engine.unseat(holding.wish.workload)
                        evicted.append((booking.name, holding))
                owner = booking.wanted
                project = self._admission.quota.project(owner.organization, owner.project)
                self._admission.labels.make_way(project, 0, now, now + 1)
                begun.append(self._booked(booking))
        return begun, evicted

    def cancel(self, name: str, now: int) -> bool:
        """Keep nodes no more. Raises ``ValueError`` for a reservation that has work on it."""
        booking = self._calendar.bookings.get(name)
        if booking is None:
            return False
        inside = [one for one in self._engine.holdings.values() if one.wish.reservation == name]
        if inside:
            raise ValueError(f"{name} has {inside[0].wish.workload} on it: end that first")
        self._drop(booking, now)
        return True

    def mend(self, row: int) -> list[Booked | NotBooked]:
        """Find other nodes for reservations to come that a node went out of; say what came of it."""
        told: list[Booked | NotBooked] = []
        for booking in list(self._calendar.bookings.values()):
            given = booking.wanted
            if given is None or given.size is None or booking.begun or row not in booking.rows:
                continue
            self._take_back(booking)
            found = self._find(given, self._held(given.start, given.end))
            if isinstance(found, Short):
                told.append(NotBooked(name=booking.name, short=found))
                self._put(booking)
                continue
            milli = int(self._engine.site.cards[list(found[0])].sum()) * MILLI_PER_GPU
            other = msgspec.structs.replace(booking, rows=found[0], clears=found[1], milli=milli)
            self._put(other)
            told.append(self._booked(other))
        return told

    def have(self, told: Booked, given: Input) -> None:
        """Have what is booked be as it was told once."""
        rows = self._calendar.rows_of(told.nodes, ())
        booking = self._calendar.bookings.get(told.name)
        if booking is not None:
            self._take_back(booking)
        elif isinstance(given, Reserved):
            booking = Booking(name=told.name, rows=rows, start=given.start, end=given.end, wanted=given)
        if booking is not None:
            milli = int(self._engine.site.cards[list(rows)].sum()) * MILLI_PER_GPU
            milli = 0 if booking.wanted is None else milli
            self._put(msgspec.structs.replace(booking, rows=rows, milli=milli, clears=told.clears))

    def _find(self, given: Reserved, held: Bools) -> Found | Short:
        if len(self._calendar.bookings) >= BOOKINGS_MAX:
            return _full()
        if given.size is not None:
            return self._sized(given, held)
        rows = self._calendar.rows_of(given.nodes, given.domains)
        free = [row for row in rows if not held[row]]
        if len(free) < len(rows) or not rows:
            return Short(
                code="nodes", name=given.reservation, have=len(free), want=len(rows), ever=False
            )
        stay = self._there(rows, given.start)
        fixed = [one for one in stay if not one.wish.preemptible]
        if not fixed:
            return rows, bool(stay)
        last = fixed[0]
        leaves = free_at(last.wish, last.until)
        return Short(
            code="time",
            name=given.reservation,
            have=given.start,
            want=leaves,
            ever=leaves < FOREVER,
            holders=tuple((one.wish.workload, free_at(one.wish, one.until)) for one in fixed[:3]),
        )

    def _sized(self, given: Reserved, held: Bools) -> Found | Short:
        """Find nodes where so many members will fit: if need be in place of work that can be preempted."""
        assert given.size is not None
        wish = Wish(
            workload=given.reservation,
            organization=given.organization,
            project=given.project,
            kind="lease",
            size=given.size,
            members=given.members,
            near=given.near,
            terms=given.terms,
        )
        holdings = self._engine.holdings
        gone = [name for at, name in self._admission.ends if at <= given.start]
        kept = Kept(held, self._calendar.drawn(given.start, given.end))
        parts = seats_without(self._engine, wish, gone, kept)
        clears = not parts
        if clears:
            soft = [
                name
                for name, one in holdings.items()
                if one.wish.preemptible and not one.wish.reservation and name not in set(gone)
            ]
            parts = seats_without(self._engine, wish, [*gone, *soft], kept)
        if parts:
            return tuple(sorted({part.row for part in parts})), clears
        idle = sum(int(self._engine.site.free[row].sum()) for row in np.flatnonzero(~held))
        for name in gone:
            idle += sum(len(one.cards) * one.milli_each for one in holdings[name].parts)
        want = given.members * given.size.milli
        return Short(code="capacity", name=given.reservation, have=idle, want=want)

    def _short(self, booking: Booking) -> Short | None:
        """Return what the owner's quota lacks for a reservation, which nobody may preempt."""
        given = booking.wanted
        quota, domains = self._admission.quota, self._admission.domains
        if given is None or not quota.active:
            return None
        project = quota.project(given.organization, given.project)
        stay = [
            one
            for name, one in self._engine.holdings.items()
            if name in project.held_by
            and not one.wish.preemptible
            and not one.wish.reservation
            and free_at(one.wish, one.until) > booking.start
        ]
        stuck = sum(project.held_by[one.wish.workload].amount.gpu for one in stay)
        kept = self._calendar.booked(
            given.organization, given.project, booking.start, booking.end + TURNAROUND_MAX_MS
        )
        left = quota.bookable(project, stuck, kept)
        if booking.milli > left:
            return Short(code="guarantee", name=project.name, have=max(0, left), want=booking.milli)
        for branch in (project, project.organization):
            if branch.limit is not None and booking.milli > branch.limit:
                return Short(
                    code="limit", name=branch.name, have=branch.limit, want=booking.milli, ever=False
                )
        if domains.active and domains.breaks(project, booking.parts):
            return Short(code="domains", name=project.name, have=0, want=1)
        return None

    def _held(self, start: int, end: int) -> Bools:
        """Return the rows that others have from ``start`` to ``end``, booked or promised."""
        found = self._calendar.busy(start, end)
        for entry in self._queue.promised():
            if entry.kept is not None and entry.kept.at < end and start < entry.kept.end:
                found[[part.row for part in entry.kept.parts]] = True
        return found

    def _there(self, rows: Iterable[int], start: int) -> list["Holding"]:
        """Return who sits on some of ``rows`` and is not known to have left by ``start``, last to leave first."""
        kept = set(rows)
        found = [
            one
            for one in self._engine.holdings.values()
            if any(part.row in kept for part in one.parts)
            and (start == FOREVER or free_at(one.wish, one.until) > start)
        ]
        return sorted(found, key=lambda one: (-free_at(one.wish, one.until), one.wish.workload))

    def _booked(self, booking: Booking) -> Booked:
        there = self._there(booking.rows, booking.start)
        names = tuple(one.wish.workload for one in there if one.wish.reservation != booking.name)
        nodes = tuple(self._engine.site.specs[row].node for row in booking.rows)
        return Booked(name=booking.name, nodes=nodes, remain=names, clears=booking.clears)

    def _put(self, booking: Booking) -> None:
        self._calendar.put(booking)
        self._owned(booking, 1)

    def _drop(self, booking: Booking, now: int) -> None:
        self._take_back(booking)
        for entry in self._queue.promised():
            if entry.wish.reservation == booking.name:
                self._queue.lose(entry)
        if booking.wanted is not None:
            owner = booking.wanted
            self._admission.labels.promote(
                self._admission.quota.project(owner.organization, owner.project), now
            )

    def _take_back(self, booking: Booking) -> None:
        self._calendar.drop(booking.name)
        self._owned(booking, -1)

    def _owned(self, booking: Booking, sign: int) -> None:
        """Count what a reservation keeps of its project's guarantee, or count it no more."""
        if booking.wanted is None:
            return
        quota, domains = self._admission.quota, self._admission.domains
        project = quota.project(booking.wanted.organization, booking.wanted.project)
        quota.book(project, sign * booking.milli)
        if domains.active:
            (domains.enter if sign > 0 else domains.leave)(project, booking.parts)


def _full() -> Short:
    return Short(code="queue", name="bookings", have=0, want=1)
