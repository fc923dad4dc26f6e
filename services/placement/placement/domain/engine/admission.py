"""Seats given and taken back under quota, bookings and promises: one wish at a time, all of it or nothing."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from placement.domain.engine.branches import Extra, Project
from placement.domain.engine.calendar import Calendar, free_at
from placement.domain.engine.domains import Domains, takes_domains
from placement.domain.engine.fair import amount
from placement.domain.engine.fit import BIT
from placement.domain.engine.forecast import Start
from placement.domain.engine.gang import NoGang, told
from placement.domain.engine.holding import Holding, Missed, Seated
from placement.domain.engine.labels import Labels
from placement.domain.engine.notice import Short
from placement.domain.engine.queue import Entry, may_wait
from placement.domain.engine.quota import FIRM, NO_EXTRA, Granted, Quota
from placement.domain.engine.relax import KINDS, Kind, smallest, smallest_together
from placement.domain.engine.site import Bools, Ints, Part
from placement.domain.engine.wish import Placed, Refused, Told, Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine

NEARS_MAX = 64
"""Rows of promised seats that are remembered."""
LAST = chr(0x10FFFF)
"""After any name."""


class Admission:
    """Gives seats and takes them back, and counts both."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.quota = Quota()
        self.domains = Domains(engine.site, self.quota)
        self.calendar = Calendar(engine.site)
        self.labels = Labels(engine, self.quota, self.domains, self.calendar)
        self._nears: dict[int, tuple[Start, Bools]] = {}
        self.soft: dict[str, None] = {}
        """The workloads that can be preempted, in the order they got their seats."""
        self.ends: list[tuple[int, str]] = []
        """When each workload with a known end has left its seats, in order."""
        self.stops: list[tuple[int, str]] = []
        """When each of them is to stop, until that was told."""

    def take(self, other: "Admission") -> None:
        """Have it be as another is, for a copy of its engine."""
        self.quota.take(other.quota)
        self.domains.take(other.domains)
        for booking in other.calendar.bookings.values():
            self.calendar.put(booking)
        self.soft, self.ends, self.stops = other.soft.copy(), other.ends.copy(), other.stops.copy()

    def owner(self, wish: Wish) -> Project:
        """Return the project of a wish."""
        return self.quota.project(wish.organization, wish.project)

    def until(self, wish: Wish, now: int) -> int | None:
        """Return when a wish that starts now is to stop; ``None`` where nobody knows."""
        if wish.run_ms:
            return now + wish.run_ms
        booking = self.calendar.bookings.get(wish.reservation)
        return booking.end if booking else None

    def grant(
        self, wish: Wish, now: int, own: Extra = NO_EXTRA, above: Extra = NO_EXTRA
    ) -> Granted | Short:
        """Return on which terms a wish may have seats, or what its quota or its reservation lacks."""
        if not wish.reservation:
            booked = 0
            if self.calendar.bookings and self.quota.active:
                end = free_at(wish, self.until(wish, now))
                booked = self.calendar.booked(wish.organization, wish.project, now, end)
            return self.quota.judge(wish, booked=booked, own=own, above=above)
        # What is kept for it is there; what its owner has beside may leave no room below a limit.
        want = amount(wish.size, wish.members).gpu
        short = self.calendar.short(wish, now)
        return short or self.quota.limited(self.owner(wish), want, own, above) or FIRM

    def barred(
        self, wish: Wish, now: int, before: Iterable[Entry], *, later: bool = False
    ) -> Bools | None:
        """Return the rows kept for others: booked, or promised to those who are ``before``.

        ``later``: ``now`` is a moment to come.
        """
        end = free_at(wish, self.until(wish, now))
        if later and not wish.reservation:
            found = self.calendar.barred_later(now, end)
        else:
            found = self.calendar.barred(now, end, wish.reservation)
        return self._promised(found, now, end, before)

    def _promised(
        self, found: Bools | None, now: int, end: int, before: Iterable[Entry]
    ) -> Bools | None:
        for entry in before:
            if entry.kept is not None and entry.kept.at < end and now < entry.kept.end:
                found = np.zeros(self.engine.site.rows, bool) if found is None else found.copy()
                found |= self._near(entry)
        return found

    def find(self, wish: Wish, granted: Granted, kept: Bools | None) -> Seated | Missed:
        """Have all members sit somewhere, counted by nobody yet; or say why the last who does not fit does not."""
        project, firm = self.owner(wish), self._pins(wish, granted.borrowed)
        missed: Missed | None = None
        for shut in self._shut(project, wish) if firm else (None,):
            chosen = self.engine.seat(wish, bits(kept, shut))
            if isinstance(chosen, Missed):
                missed = chosen
            elif firm and self.domains.breaks(project, chosen.parts):
                self.engine.leave(wish, chosen.parts)
            else:
                return chosen
        assert missed is not None, "the strictest choice breaks nothing"
        return missed

    @contextmanager
    def counting(self, wish: Wish, granted: Granted, parts: tuple[Part, ...]) -> Iterator[None]:
        """Have members that nobody counts yet be counted where they sit, while this lasts."""
        pins = self._pins(wish, granted.borrowed)
        if pins:
            self.domains.enter(self.owner(wish), parts)
        try:
            yield
        finally:
            if pins:
                self.domains.leave(self.owner(wish), parts)

    def _pins(self, wish: Wish, borrowed: bool) -> bool:
        """Return whether members of a wish keep an NVLink domain from being given to others."""
        return self.domains.active and not borrowed and not wish.reservation

    def lacks(self, wish: Wish, now: int, before: Iterable[Entry]) -> Missed | None:
        """Return what keeps a wish from seats now; ``None`` where nothing but quota does. Nobody sits."""
        chosen = self.engine.seat(wish, bits(self.barred(wish, now, before), None))
        if isinstance(chosen, Missed):
            return chosen
        self.engine.leave(wish, chosen.parts)
        return None

    def may_borrow(self, wish: Wish, granted: Granted) -> bool:
        """Return whether a wish that finds no firm seats could borrow some: in a domain owed to others."""
        if granted.borrowed or not self.domains.active or wish.reservation or not wish.preemptible:
            return False
        project = self.owner(wish)
        return bool(project.weight and project.organization.weight)

    def seat_freely(self, wish: Wish, now: int, number: int) -> Placed | Refused | Missed | None:
        """Seat a wish where nobody waits; ``None`` where anything but room could decide.

        Where there is no room but somebody may give way, or it may wait: what it misses.
        """
        if self.quota.active or self.calendar.bookings or wish.reservation:
            return None
        chosen = self.engine.seat(wish)
        if isinstance(chosen, Seated):
            return self.settle(wish, FIRM, now, chosen, number)
        if may_wait(wish) or self.soft:
            return chosen
        return Refused(workload=wish.workload, why=why_not(self.engine, wish, chosen))

    def settle(self, wish: Wish, granted: Granted, now: int, chosen: Seated, number: int) -> Placed:
        """Count members that sit as a workload's."""
        engine, until = self.engine, self.until(wish, now)
        if until is not None:
            insort(self.stops, (until, wish.workload))
        if granted.turns:
            project, want = self.owner(wish), amount(wish.size, wish.members).gpu
            self.labels.make_way(project, want, now, free_at(wish, until))
        engine.hold(Holding(wish, chosen.parts, now, until, granted.borrowed, number))
        return Placed(
            workload=wish.workload,
            seats=engine.seats(chosen.parts),
            why=chosen.why,
            borrowed=granted.borrowed,
            until=until,
        )

    def resume(self, wish: Wish, parts: tuple[Part, ...], at: int, number: int) -> None:
        """Count a workload that sits there already: what its quota has no room for is borrowed where it can be."""
        granted = self.grant(wish, at)
        firm = isinstance(granted, Granted) and not granted.borrowed
        self.sits(Entry(wish, number, at), parts, at, borrowed=wish.preemptible and not firm)

    def sits(self, entry: Entry, parts: tuple[Part, ...], at: int, *, borrowed: bool) -> None:
        """Count a workload that sits there since ``at``, on these terms."""
        until = self.until(entry.wish, at)
        if until is not None:
            insort(self.stops, (until, entry.wish.workload))
        self.engine.resume(Holding(entry.wish, parts, at, until, borrowed, entry.number))

    def restart(self, holding: Holding, parts: tuple[Part, ...], now: int) -> None:
        """Count a workload that begins anew, where its members sit by now."""
        until = self.until(holding.wish, now)
        if until is not None:
            insort(self.stops, (until, holding.wish.workload))
        self.engine.hold(holding._replace(parts=parts, at=now, until=until))

    def bars(self, holding: Holding, now: int, promised: Iterable[Entry]) -> Ints | None:
        """Return why rows are kept from members of a workload that would sit elsewhere."""
        wish = holding.wish
        end = free_at(wish, holding.until)
        kept = self.calendar.barred(now, end, wish.reservation)
        kept = self._promised(kept, now, end, promised)
        firm = self._pins(wish, holding.borrowed)
        return bits(kept, self.domains.barred(self.owner(wish)) if firm else None)

    def due(self, now: int, most: int) -> list[str]:
        """Return who is to stop by now and was not told so; each once."""
        count = min(most, bisect_right(self.stops, (now, LAST)))
        found, self.stops = self.stops[:count], self.stops[count:]
        holdings = self.engine.holdings
        return [name for at, name in found if name in holdings and holdings[name].until == at]

    def count(self, holding: Holding, now: int) -> None:
        """Count what a workload holds against its project's quota."""
        wish = holding.wish
        booked = bool(wish.reservation)
        if wish.preemptible:
            self.soft[wish.workload] = None
        self.quota.charge(wish.workload, wish, now, borrowed=holding.borrowed, booked=booked)
        if self._pins(wish, holding.borrowed):
            self.domains.enter(self.owner(wish), holding.parts)
        if holding.until is not None:
            insort(self.ends, (free_at(wish, holding.until), wish.workload))

    def discount(self, holding: Holding, now: int) -> None:
        """Count it no more."""
        wish = holding.wish
        self.soft.pop(wish.workload, None)
        self.quota.discharge(wish.workload, wish, now)
        if self._pins(wish, holding.borrowed):
            self.domains.leave(self.owner(wish), holding.parts)
        if holding.until is not None:
            self.ends.pop(bisect_left(self.ends, (free_at(wish, holding.until), wish.workload)))

    def _shut(self, project: Project, wish: Wish) -> Iterator[Bools | None]:
        """Return the rows that firm members may not take, the narrowest first."""
        barred = self.domains.barred(project)
        unspent = None if takes_domains(wish) else self.domains.unspent(project)
        if unspent is not None:
            yield unspent if barred is None else unspent | barred
        yield barred
        if wish.members > 1:
            yield self.domains.strict(project)

    def _near(self, entry: Entry) -> Bools:
        """Return the rows of an entry's seats, and all that nobody else may be on while it has them."""
        assert entry.kept is not None
        known = self._nears.get(entry.number)
        if known is not None and known[0] is entry.kept and len(known[1]) == self.engine.site.rows:
            return known[1]
        site = self.engine.site
        found = np.zeros(site.rows, bool)
        found[[part.row for part in entry.kept.parts]] = True
        level = entry.wish.terms.isolation
        if level in {"nvlink", "rack"}:
            at = site.at(level)
            found |= np.isin(at, at[found])
        if len(self._nears) >= NEARS_MAX:
            self._nears.clear()
        self._nears[entry.number] = (entry.kept, found)
        return found


def why_not(engine: "Engine", wish: Wish, missed: Missed, kinds: Sequence[Kind] = KINDS) -> Told:
    """Return why a wish has no seats, and the smallest change of some kinds that would give it some."""
    last, engine.barred = missed.last, missed.barred
    if isinstance(last, NoGang):
        relaxation = smallest_together(engine, wish, last, kinds)
    else:
        relaxation = smallest(engine, wish, last.fails, missed.seated, kinds)
    engine.barred = None
    return told(last, relaxation)


def bits(kept: Bools | None, shut: Bools | None) -> Ints | None:
    """Return why rows are kept from somebody: as booked or promised, as owed to others."""
    found: Ints | None = None
    for rows, name in ((kept, "reserved"), (shut, "quota")):
        if rows is not None:
            bits = np.where(rows, BIT[name], 0)
            found = bits if found is None else found | bits
    return found
