"""Whose turn it is: who gets seats now, who waits, and who gives way.

Whoever asks is tried at once, behind all who wait and come before it (``queue``): it may take what they
cannot use, or what it gives back before they can. When something has become free the queue is gone
through, first to last (``trying``). For the first few who find no room seats are kept (``promises``) from the
moment at which they will fit (``forecast``): nobody behind them takes these seats for longer than up to
then. Who comes before somebody may take its place, and its start is told anew.

Three rules keep one from holding up all: what can never fit is refused, not queued; what its own quota has
no room for keeps back nobody but those behind it in its own organisation; and who waits for room that
nobody knows to come keeps back nobody until it has waited for long.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace as but

from placement.domain.engine.admission import Admission
from placement.domain.engine.bookings import Bookings
from placement.domain.engine.capacity import MEMBERS_MAX
from placement.domain.engine.finding import found_parts
from placement.domain.engine.holding import Holding, Missed
from placement.domain.engine.notice import (
    Booked,
    Cancelled,
    CarbonForeseen,
    Due,
    Maintained,
    NotBooked,
    Queued,
    QuotaSet,
    Ticked,
)
from placement.domain.engine.queue import Entry, Queue
from placement.domain.engine.share import check
from placement.domain.engine.shed import shed
from placement.domain.engine.topology import domain_in_words
from placement.domain.engine.trying import SEEN_MAX, Trying, told
from placement.domain.engine.turnsstate import TurnsState
from placement.domain.engine.wish import (
    Advanced,
    Asked,
    Capped,
    Curbed,
    Followed,
    Found,
    Known,
    NodePut,
    NodeTurned,
    Noted,
    Placed,
    Refused,
    Released,
    Reserved,
)

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine

DUE_MAX = 1_024
"""Workloads told in one tick that their time is over."""

Heard = Released | Cancelled | QuotaSet | Reserved | Maintained | CarbonForeseen | Ticked


class Turns:
    """The queue of a site, and everything beside room that decides who gets seats."""

    def __init__(self, engine: "Engine", *, counts: bool = True) -> None:
        self._engine, self._counts = engine, counts
        self.admission = Admission(engine)
        self.queue = Queue()
        self.bookings = Bookings(self.admission, self.queue)
        self.trying = Trying(engine, self.admission, self.queue)
        self.now = self.number = 0
        self.still = False
        """Nobody has a turn: what was decided once is had again as it was."""

    def asked(self, given: Asked) -> Placed | Refused | Queued:
        """Give a wish its seats, or have it wait, or refuse it."""
        wish, now = given.wish, self._at(given.at)
        if wish.workload in self._engine.holdings:
            raise ValueError(f"{wish.workload} has its seats already")
        if wish.workload in self.queue.entries:
            raise ValueError(f"{wish.workload} waits already")
        if not 1 <= wish.members <= MEMBERS_MAX or wish.near.segment < 1:
            raise ValueError(
                f"{wish.workload} has from one to {MEMBERS_MAX:,} members, in segments of some"
            )
        number = self.number + 1
        found: Placed | Refused | Queued | Missed | None = None
        if not self.queue.entries and not wish.slack_ms:
            found = self.admission.seat_freely(wish, now, number)
        if found is None or isinstance(found, Missed):
            found = self.trying.ask(Entry(wish, number, now), now, found)
        if not isinstance(found, Refused):
            self.number = number
        return found

    def found(self, given: Found) -> None:
        """Have a workload sit where it does, whatever its quota says: firm where it may be, else borrowed."""
        engine, wish = self._engine, given.wish
        if wish.workload in engine.holdings:
            raise ValueError(f"{wish.workload} has its seats already")
        parts, now = found_parts(engine.site, given), self._at(given.at)
        self.queue.drop(wish.workload)
        self.number += 1
        self.admission.resume(wish, parts, given.at, self.number)
        if self.queue:
            self.trying.promises.give_up(Entry(wish, self.number, now), ())

    def heard(self, given: Heard) -> Advanced | Booked | NotBooked | Noted:
        """Decide what follows from whatever is neither a wish nor a change of the site."""
        now = self._at(given.at)
        found: list[Followed] = []
        match given:
            case Reserved():
                return self.bookings.reserve(given, now)
            case Maintained():
                return self.bookings.maintain(given, now)
            case Released():
                if not self._released(given.workload, now):
                    return Noted()
            case Cancelled():
                if not self._cancelled(given.name, now):
                    return Noted()
            case QuotaSet():
                self.check(given)
                self.admission.quota.set(given)
                self.admission.labels.count_anew(now)
            case CarbonForeseen():
                self.trying.grid.foresee(given, self.queue, now)
            case Ticked():
                self._tick(found, now)
        return self._settle(found)

    def knew(self, given: Known) -> Advanced | Noted:
        """Look anew at what was promised, after the site was built, turned or capped otherwise."""
        found: list[Followed] = []
        match given:
            case NodeTurned():
                row = self._engine.site.row_of[given.node]
                self.trying.promises.forget(row)
                if self._engine.site.closed[row] and not self.still:
                    found += self.bookings.mend(row)
            case NodePut() | Capped():
                self.trying.promises.forget(None)
                if isinstance(given, Capped) and given.sheds and not self.still:
                    found += self._shed(given)
                self.trying.built()
                self.admission.labels.count_domains()
            case _:
                return Noted()
        return self._settle(found)

    def check(self, given: QuotaSet) -> None:
        """Raise ``ValueError`` for a quota that cannot be kept beside the others; nothing changes."""
        built = self.admission.domains.built()
        check(self.admission.quota, given, self.trying.whole.gpu, built)

    def standing(self, workload: str) -> Queued | None:
        """Return how one who waits stands now; ``None`` for who does not wait."""
        entry = self.queue.entries.get(workload)
        if entry is None:
            return None
        order = self.trying.order(self.now)
        for one in order:
            if one is entry:
                return told(entry, order.seen)
            if order.seen == SEEN_MAX:
                break
            order.count(one)
        return told(entry, None)

    @contextmanager
    def keeping(self, holding: Holding) -> Iterator[None]:
        """Have decisions look away from what is kept for others, while members of a workload are moved."""
        self._engine.barred = self.admission.bars(holding, self.now, self.queue.promised())
        try:
            yield
        finally:
            self._engine.barred = None

    def held(self, holding: Holding) -> None:
        """Count what a workload holds."""
        if self._counts:
            self.admission.count(holding, self.now)

    def left(self, holding: Holding) -> None:
        """Count it no more."""
        if self._counts:
            self.admission.discount(holding, self.now)

    def take(self, other: "Turns") -> None:
        """Have it be as another is, for a copy of its engine."""
        self.now, self.number, self._counts = other.now, other.number, True
        self.admission.take(other.admission)
        self.trying.grid.foreseen = other.trying.grid.foreseen
        for entry in other.queue.entries.values():
            self.queue.put(but(entry))

    def state(self) -> TurnsState:
        """Return all of it that does not follow from who sits where."""
        return TurnsState(
            now=self.now,
            number=self.number,
            books=self.admission.quota.books(),
            bookings=tuple(self.admission.calendar.bookings.values()),
            entries=tuple(but(one) for one in self.queue.entries.values()),
            stops=tuple(self.admission.stops),
            grid=self.trying.grid.foreseen,
        )

    def restore(self, state: TurnsState) -> None:
        """Have it be so, with those sitting who sat there then."""
        self.now, self.number, self.trying.grid.foreseen = state.now, state.number, state.grid
        admission = self.admission
        admission.quota.restore(state.books)
        for booking in state.bookings:
            admission.calendar.put(booking)
            if booking.wanted is not None:
                owner = booking.wanted
                admission.quota.book(
                    admission.quota.project(owner.organization, owner.project), booking.milli
                )
        admission.domains.clear()
        admission.labels.count_domains()
        admission.stops = list(state.stops)
        for entry in state.entries:
            self.queue.put(but(entry))

    def _released(self, workload: str, now: int) -> bool:
        holding = self._engine.unseat(workload)
        if holding is None:
            return self.queue.drop(workload) is not None
        self.admission.labels.promote(self.admission.owner(holding.wish), now)
        return True

    def _cancelled(self, name: str, now: int) -> bool:
        # A lease that was booked may wait at its start, too.
        booked = self.bookings.cancel(name, now)
        return self.queue.drop(name) is not None or booked

    def _tick(self, found: list[Followed], now: int) -> None:
        found += [Due(workload=one) for one in self.admission.due(now, DUE_MAX)]
        begun, evicted = self.bookings.begin(now)
        found += [self.trying.gave_way(holding, name, now) for name, holding in evicted]
        found += begun

    def _shed(self, given: Capped) -> Iterator[Followed]:
        """Have jobs make way, and replicas be stopped, so that a cap holds; a lease is its tenant's to end."""
        by = f"the power cap of {domain_in_words(given.level, given.domain)}"
        for workload in shed(self._engine, ("job", "endpoint")).workloads:
            holding = self._engine.holdings[workload]
            if holding.wish.kind == "endpoint":
                yield Curbed(workload=workload, by=by)
                continue
            self._engine.unseat(workload)
            self.admission.labels.promote(self.admission.owner(holding.wish), self.now)
            yield self.trying.gave_way(holding, by, self.now)

    def _settle(self, found: list[Followed]) -> Advanced | Noted:
        """Have the queue move, and return what followed."""
        if not self.still:
            self.trying.settle(self.now, found)
        return Advanced(outcomes=tuple(found)) if found else Noted()

    def _at(self, at: int) -> int:
        """Return what time it is: it does not go back."""
        self.now = max(self.now, at)
        return self.now
