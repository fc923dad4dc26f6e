"""Seats that are kept for the first who wait: from when on, whether that still holds, and what can never be."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from placement.domain.engine.admission import Admission
from placement.domain.engine.calendar import FOREVER, free_at
from placement.domain.engine.forecast import Kept, Start, earliest, emptiest, seats_without
from placement.domain.engine.holding import Holding
from placement.domain.engine.queue import Entry, Level, Queue, rank_of
from placement.domain.engine.quota import Granted
from placement.domain.engine.site import Bools, Ints, Part
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.twin import bare, would_sit
from placement.domain.engine.wish import Near, Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine

PROMISED_MAX = 4
"""The first so many who wait for room have seats kept for them."""
KEPT_MAX = 16
"""So many may have some in all, with those who were among the first once."""
PATIENCE_MS = 3_600_000
"""After so long the first who waits for what nobody knows the end of has nodes cleared for it."""
POSSIBLE_MAX = 1_024
"""Remembered: whether what was asked for fits an empty site."""


class Promises:
    """Keeps seats for those who wait.

    What is kept for one is taken by nobody but who is guaranteed what the other borrows, or of a higher
    class: not by whoever has a smaller share by now, nor by who waited longer for what nobody knew to come.
    """

    def __init__(self, admission: Admission, queue: Queue) -> None:
        self._admission, self._queue = admission, queue
        self._possible: dict[tuple[Size, int, Terms, Near, tuple[str, ...]], bool] = {}
        self._bare: Engine | None = None

    def over(self, entry: Entry, granted: Granted) -> list[Entry]:
        """Return those whose seats one may not take: never those of an equal that came later.

        Nobody's are in the way of work in a reservation: what is reserved is promised to nobody.
        """
        if entry.wish.reservation:
            return []
        level = level_of(entry, granted)
        return [
            one
            for one in self._queue.promised()
            if one is not entry
            and one.level <= level
            and not (one.number > entry.number and one.shape == entry.shape)
        ]

    def keep(self, entry: Entry, granted: Granted, ahead: int, now: int) -> None:
        """Keep seats for one that does not fit now, from when on it will; what it has stays, if it can be.

        So many are ``ahead`` of it that wait for room as well.
        """
        if entry.kept is not None and (entry.claimed or entry.kept.at > now):
            return
        self._queue.lose(entry)
        if ahead >= PROMISED_MAX or len(self._queue.promised()) >= KEPT_MAX:
            return
        admission, wish = self._admission, entry.wish
        before = self.over(entry, granted)
        ends = self._ends(before, now)
        always: Bools | None = None
        if ends and admission.until(wish, now) is None:
            # Nobody who comes to stay fits in before what begins later: by the last moment all else has ended.
            always = self._barred(wish, granted, ends[-1][0], before)
        found = earliest(
            admission.engine,
            wish,
            ends,
            lambda at: self._kept(wish, granted, at, before),
            always,
        )
        if found is not None:
            at, parts = found
            self._queue.keep(entry, Start(at, free_at(wish, admission.until(wish, at)), parts))
        elif not ahead and now - entry.since >= PATIENCE_MS:
            parts = emptiest(admission.engine, wish, self._barred(wish, granted, now, before))
            if parts:
                self._queue.keep(entry, Start(now, FOREVER, parts), claimed=True)
        entry.level = level_of(entry, granted)

    def hold(
        self,
        wish: Wish,
        parts: Sequence[Part],
        before: Sequence[Entry],
        gone: Sequence[Holding],
        now: int,
    ) -> bool:
        """Return whether what was promised holds, now that another sits, and those who gave way do not.

        Nobody sits on promised nodes; but watts and whole NVLink domains are shared with other nodes.
        """
        admission, rows = self._admission, np.array([part.row for part in parts])
        end = free_at(wish, admission.until(wish, now))
        left = {one.wish.workload for one in gone}
        lit = admission.engine.power.lets(_kept_beside(before, now, end), rows)
        for entry in before:
            if entry.kept is None or entry.claimed or end <= entry.kept.at:
                continue
            if lit and self._untouched(entry, wish, rows):
                continue
            at = entry.kept.at
            ended = [name for ends, name in admission.ends if ends <= at and name not in left]
            # Who is tried here was granted what it waits for: firm, unless it must borrow.
            granted = Granted(borrowed=entry.level[0])
            others = self.over(entry, granted)
            kept = self._kept(entry.wish, granted, at, others)
            found = seats_without(admission.engine, entry.wish, ended, kept)
            if not found:
                return False
            self._queue.keep(entry, entry.kept._replace(parts=found))
        return True

    def _untouched(self, entry: Entry, wish: Wish, rows: Ints) -> bool:
        """Return whether one who sits in ``rows`` has no domain to itself, nor a promised one, that an entry needs."""
        engine, domains = self._admission.engine, self._admission.domains
        assert entry.kept is not None
        parts, level = entry.kept.parts, wish.terms.isolation
        if level in {"nvlink", "rack"}:
            at = engine.site.at(level)
            if np.isin(at[[part.row for part in parts]], at[rows]).any():
                return False
        if not domains.active or entry.level[0] or entry.wish.reservation:
            return True
        shut = domains.barred(self._admission.owner(entry.wish))
        return shut is None or not shut[[part.row for part in parts]].any()

    def give_up(self, entry: Entry, before: Sequence[Entry]) -> None:
        """Have those keep their seats no more of which one has taken some, rightly: all but ``before``."""
        holding = self._admission.engine.holdings[entry.wish.workload]
        rows = {part.row for part in holding.parts}
        end = free_at(holding.wish, holding.until)
        for other in self._queue.promised():
            if other is entry or other.kept is None or any(one is other for one in before):
                continue
            if end > other.kept.at and any(part.row in rows for part in other.kept.parts):
                self._queue.lose(other)

    def forget(self, row: int | None) -> None:
        """Forget what a changed row (``None``: a changed site) bears on."""
        if row is None:
            self._possible.clear()
            self._bare = None
        for entry in self._queue.entries.values():
            if entry.kept is None:
                continue
            if row is None or any(part.row == row for part in entry.kept.parts):
                self._queue.lose(entry)

    def possible(self, wish: Wish) -> bool:
        """Return whether a wish would fit, were the site empty and all of it in service."""
        key = (wish.size, wish.members, wish.terms, wish.near, wish.avoid)
        found = self._possible.get(key)
        if found is None:
            if len(self._possible) >= POSSIBLE_MAX:
                self._possible.clear()
            if self._bare is None:
                self._bare = bare(self._admission.engine)
            found = self._possible[key] = bool(would_sit(self._bare, wish, None))
        return found

    def _ends(self, before: Sequence[Entry], now: int) -> list[tuple[int, str]]:
        """Return all moments at which something is known to end, in order."""
        admission = self._admission
        ends = [one for one in admission.ends if one[0] > now]
        ends += [(one.free, "") for one in admission.calendar.bookings.values() if one.end < FOREVER]
        ends += [(one.kept.end, "") for one in before if one.kept and one.kept.end < FOREVER]
        return sorted(ends)

    def _kept(self, wish: Wish, granted: Granted, at: int, before: Sequence[Entry]) -> Kept:
        end = free_at(wish, self._admission.until(wish, at))
        return Kept(self._barred(wish, granted, at, before), _kept_beside(before, at, end))

    def _barred(self, wish: Wish, granted: Granted, at: int, before: Sequence[Entry]) -> Bools | None:
        admission = self._admission
        kept = admission.barred(wish, at, before, later=True)
        if not admission.domains.active or granted.borrowed or wish.reservation:
            return kept
        shut = admission.domains.barred(admission.quota.project(wish.organization, wish.project))
        if shut is None or kept is None:
            return shut if kept is None else kept
        return shut | kept


def _kept_beside(others: Sequence[Entry], at: int, end: int) -> list[Part]:
    """Return the seats that are kept for others at any time between a moment and another."""
    kept = [one.kept for one in others if one.kept is not None]
    return [part for one in kept if one.at < end and at < one.end for part in one.parts]


def level_of(entry: Entry, granted: Granted) -> Level:
    """Return what one stands at."""
    return granted.borrowed, rank_of(entry.wish.priority)
