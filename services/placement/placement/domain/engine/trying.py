"""Tries those who wait, and whoever asks, in their order: who gets seats, who waits on, who gives way."""

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace as but

from placement.domain.engine import fair
from placement.domain.engine.admission import Admission, why_not
from placement.domain.engine.grid import Grid
from placement.domain.engine.holding import Holding, Missed, Seated
from placement.domain.engine.notice import Preempted, Queued, Short
from placement.domain.engine.promises import Promises
from placement.domain.engine.queue import QUEUE_MAX, Entry, Order, Queue, may_wait
from placement.domain.engine.quota import Granted
from placement.domain.engine.reclaim import reclaim
from placement.domain.engine.relax import KINDS
from placement.domain.engine.site import Bools, Ints
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.twin import enough, room
from placement.domain.engine.wish import Followed, Placed, Refused, Told, Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine

SEEN_MAX = 256
"""Who wait that are looked at in one pass, and positions that are told."""
TRIED_MAX = 64
"""Of these, how many are tried."""
PLANS_MAX = 4
"""Of these, how many may ask whom to preempt."""

OWN = tuple(
    kind for kind in KINDS if kind.name not in {"ready", "heard", "power", "mig_mode", "workload"}
)
"""What one who asks can change: of itself."""

Gone = tuple[Holding, ...]


Found = tuple[Granted, Seated, Gone]
"""On which terms one sits, where, and in place of whom."""
LENT = Granted(borrowed=True)


class Place(NamedTuple):
    """Where one stands: what its quota says, its position, how many before it wait for room as well."""

    granted: Granted | Short
    position: int | None
    ahead: int


class Left:
    """How much one pass may still try."""

    def __init__(self) -> None:
        self.tries, self.plans = TRIED_MAX, PLANS_MAX
        self.rooms: dict[tuple[Size, Terms, int], Ints] = {}
        self.failed: set[Wish] = set()
        """What has found no seat in spite of room, with whoever may give way to it."""

    def room(self, engine: "Engine", wish: Wish) -> Ints:
        """Return what each node has room for, as long as nobody was given a seat since."""
        key = (wish.size, wish.terms, wish.members)
        found = self.rooms.get(key)
        if found is None:
            found = self.rooms[key] = room(engine, wish)
        return found


class Trying:
    """Decides about those who wait."""

    def __init__(self, engine: "Engine", admission: Admission, queue: Queue) -> None:
        self._engine, self._admission, self._queue = engine, admission, queue
        self.promises = Promises(admission, queue)
        self._whole: fair.Amount | None = None
        self.grid = Grid()

    @property
    def whole(self) -> fair.Amount:
        """What the site has in all."""
        if self._whole is None:
            self._whole = fair.capacity(self._engine.site)
        return self._whole

    def built(self) -> None:
        """Look anew at what the site has in all."""
        self._whole = None

    def order(self, now: int) -> Order:
        """Return those who wait, first to last."""
        admission = self._admission
        return Order(
            self._queue,
            admission.quota,
            lambda wish, own, above: admission.grant(wish, now, own, above),
            self.whole,
            now,
        )

    def ask(self, entry: Entry, now: int, known: Missed | None = None) -> Placed | Refused | Queued:
        """Decide about one who comes; ``known`` is what it misses of what is free, where that was tried already."""
        wish, queue = entry.wish, self._queue
        place = Place(self._admission.grant(wish, now), 1, 0)
        twin = False
        if queue:
            twin = any(one.shape == entry.shape for one in queue.lines.get(entry.key, {}).values())
            place = self._place(entry, now) or Place(place.granted, None, SEEN_MAX)
        self.grid.came(entry, now)
        granted = self.grid.weigh(entry, place.granted, now)
        if isinstance(granted, Short):
            waits = self._wait(entry, place.position, granted)
            entry.unheard = False
            if isinstance(waits, Queued):
                return waits
            return Refused(workload=wish.workload, why=Told(()), short=waits)
        missed: Missed | None = None
        # What waits in the same line for the same does so because it does not fit.
        if not twin and (place.position or not may_wait(wish)):
            placed, gone = self._try(entry, granted, Left(), now, known)
            if isinstance(placed, Placed):
                for holding in gone:
                    self.gave_way(holding, wish.workload, now)
                return placed
            missed = placed
        stands = place.position is not None or not may_wait(wish)
        why, short = self._lacking(entry, granted, missed, now) if stands else (None, None)
        waits = self._wait(entry, place.position, None)
        if isinstance(waits, Queued):
            self.promises.keep(entry, granted, place.ahead, now)
            entry.told, entry.unheard = entry.start, False
            return but(told(entry, place.position), short=short, why=why)
        return Refused(workload=wish.workload, why=why or Told(()), short=waits or short)

    def settle(self, now: int, found: list[Followed]) -> None:
        """Go through those who wait; add to ``found`` who got seats, gave way, and has other prospects.

        Who has but moved up has not: where each stands is told to who asks.
        """
        left = Left()
        while self._queue and not self._pass(found, left, now):
            pass

    def gave_way(self, holding: Holding, by: str, now: int) -> Preempted:
        """Have a workload that was preempted wait where it stood, if it is one that waits."""
        return Preempted(workload=holding.wish.workload, by=by, queued=self.waits(holding, now))

    def waits(self, holding: Holding, now: int) -> bool:
        """Have a workload that sits no more wait where it stood; return whether it does."""
        waits = may_wait(holding.wish) and len(self._queue) < QUEUE_MAX
        if waits:
            self._queue.put(Entry(holding.wish, holding.number, now))
        return waits

    def _place(self, entry: Entry, now: int) -> "Place | None":
        """Return where one who comes stands; ``None`` beyond what is looked at."""
        self._queue.put(entry)
        order, ahead = self.order(now), 0
        found: Place | None = None
        for one in order:
            if one is entry:
                found = Place(order.grant, order.seen, ahead)
                break
            ahead += isinstance(order.grant, Granted)
            if order.seen == SEEN_MAX:
                break
            order.count(one)
        self._queue.drop(entry.wish.workload)
        return found

    def _pass(self, found: list[Followed], left: Left, now: int) -> bool:
        """Go through the queue once; return whether it was gone through, or somebody gave way and joined it."""
        order, ahead, seated = self.order(now), 0, 0
        news: list[tuple[Entry, int]] = []
        for entry in order:
            if order.seen > SEEN_MAX or left.tries <= 0:
                break
            granted = self.grid.weigh(entry, order.grant, now)
            before, entry.short = entry.short, granted if isinstance(granted, Short) else None
            if isinstance(granted, Short):
                self._queue.lose(entry)
            else:
                placed, gone = self._try(entry, granted, left, now)
                if isinstance(placed, Placed):
                    self._queue.drop(entry.wish.workload)
                    found += [self.gave_way(one, entry.wish.workload, now) for one in gone]
                    found.append(placed)
                    if gone:
                        return False
                    order.count(entry, seated=True)
                    seated += 1
                    continue
                self.promises.keep(entry, granted, ahead, now)
                ahead += 1
            position = order.seen - seated
            other = (before and before.code) != (entry.short and entry.short.code)
            if entry.start != entry.told or entry.unheard or other:
                news.append((entry, position))
            order.count(entry)
        for entry, position in news:
            entry.told, entry.unheard = entry.start, False
            found.append(told(entry, position))
        return True

    def _try(
        self, entry: Entry, granted: Granted, left: Left, now: int, known: Missed | None = None
    ) -> tuple[Placed | Missed | None, Gone]:
        """Seat one, if need be in place of those who must give way; what is promised to others holds."""
        admission, engine, wish = self._admission, self._engine, entry.wish
        before = self.promises.over(entry, granted)
        kept = admission.barred(wish, now, before)
        fits = known is None and enough(left.room(engine, wish), wish.members, kept)
        shape = entry.shape if fits or admission.soft else None
        if shape in left.failed:
            return None, ()
        left.tries -= fits
        found, missed = self._find(wish, granted, kept, left, now, fits=fits, known=known)
        if found is None:
            if shape is not None:
                left.failed.add(shape)
            return missed, ()
        granted, chosen, gone = found
        if self._queue:
            with admission.counting(wish, granted, chosen.parts):
                holds = self.promises.hold(wish, chosen.parts, before, gone, now)
            if not holds:
                engine.leave(wish, chosen.parts)
                for one in reversed(gone):
                    engine.sit(one.wish, one.parts)
                return None, ()
        left.rooms.clear()
        victims = tuple(engine.forget(one.wish.workload).wish.workload for one in gone)
        placed = admission.settle(wish, granted, now, chosen, entry.number)
        if self._queue:
            self.promises.give_up(entry, before)
        return (but(placed, preempted=victims) if gone else placed), gone

    def _find(
        self,
        wish: Wish,
        granted: Granted,
        kept: Bools | None,
        left: Left,
        now: int,
        *,
        fits: bool,
        known: Missed | None,
    ) -> tuple[Found | None, Missed | None]:
        """Have one sit: among what is free (if it ``fits``, and misses nothing ``known``), else in place of others."""
        admission, missed = self._admission, known
        tries = (granted, LENT) if admission.may_borrow(wish, granted) else (granted,)
        for terms in tries if fits else ():
            chosen = admission.find(wish, terms, kept)
            if isinstance(chosen, Seated):
                return (terms, chosen, ()), None
            missed = chosen
        if not admission.soft or not left.plans or wish.only:
            return None, missed
        left.plans -= 1
        left.rooms.clear()
        full = known is not None
        instead = reclaim(admission, wish, granted, kept=kept, now=now, missed=full)
        if instead is None:
            return None, missed
        left.failed.clear()
        return (granted, *instead), None

    def _wait(self, entry: Entry, position: int | None, short: Short | None) -> Queued | Short | None:
        """Have one wait where that is wished for, and of use; else return what it lacks, if not room."""
        wish = entry.wish
        if not may_wait(wish) or (short is not None and not short.ever):
            return short
        if len(self._queue) >= QUEUE_MAX:
            return Short(code="queue", name="queue", have=0, want=1)
        if not self.promises.possible(wish):
            want = fair.amount(wish.size, wish.members).gpu
            return Short(code="capacity", name="site", have=self.whole.gpu, want=want, ever=False)
        entry.short = short
        self._queue.put(entry)
        return told(entry, position)

    def _lacking(
        self, entry: Entry, granted: Granted, missed: Missed | None, now: int
    ) -> tuple[Told, Short | None]:
        """Return why there is no seat; while others wait, whatever comes free may be theirs."""
        wish = entry.wish
        if missed is None:
            missed = self._admission.lacks(wish, now, self.promises.over(entry, granted))
        if missed is None:
            want = fair.amount(wish.size, wish.members).gpu
            return Told(()), Short(code="promised", name="queue", have=0, want=want)
        return why_not(self._engine, wish, missed, OWN if self._queue else KINDS), None


def told(entry: Entry, position: int | None) -> Queued:
    """Return how one who waits stands."""
    return Queued(workload=entry.wish.workload, position=position, start=entry.start, short=entry.short)
