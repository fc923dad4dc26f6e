"""Who is next where more wait than there are places: fair between keys, in three bands, within a bound."""

from bisect import bisect_left, insort
from heapq import nlargest
from typing import Generic, TypeVar

PRIORITY, DEFAULT, FLEX = range(3)
BANDS = {"priority": PRIORITY, "flex": FLEX}
"""Where a ``service_tier`` waits; every other word is the default."""

ROTA = (*(PRIORITY,) * 7, DEFAULT, *(PRIORITY,) * 7, FLEX)
"""Which band has each of sixteen turns. A turn whose band is empty goes to the first that is not:
the priority band is first nearly always, and none starves."""

FLOWS_SPARE = 256
"""Keys remembered beyond one for each request that waits."""

T = TypeVar("T")


class Ticket:
    """A place in the queue, by which it is found again."""

    __slots__ = ("band", "cost", "key", "order")

    def __init__(self, band: int, key: str, cost: int, order: tuple[float, int]) -> None:
        self.band = band
        self.key = key
        self.cost = cost
        self.order = order


class _Band(Generic[T]):
    """One band: start-time fair queueing, where each key's requests are charged by their tokens.

    A request starts where its key's last one finished, or now (in tokens) where that is past.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[float, int, T]] = []
        self._finish: dict[str, float] = {}
        self._now = 0.0

    def add(self, key: str, cost: int, serial: int, item: T) -> tuple[float, int]:
        """Let ``item`` wait; return its order."""
        start = max(self._now, self._finish.get(key, 0.0))
        self._finish[key] = start + cost
        insort(self.waiting, (start, serial, item), key=_order)
        if len(self._finish) > len(self.waiting) + FLOWS_SPARE:
            self._forget()
        return start, serial

    def take(self) -> T:
        """Return the next, which waits no more."""
        start, _, item = self.waiting.pop(0)
        self._now = max(self._now, start)
        self._rest()
        return item

    def remove(self, ticket: Ticket) -> bool:
        """Let one leave: it is not charged. False where it does not wait."""
        at = self.index(ticket.order)
        if at is None:
            return False
        del self.waiting[at]
        self._finish[ticket.key] = self._finish.get(ticket.key, 0.0) - ticket.cost
        self._rest()
        return True

    def index(self, order: tuple[float, int]) -> int | None:
        """Return how many of the band stand before, or nothing where it does not wait."""
        at = bisect_left(self.waiting, order, key=_order)
        return at if at < len(self.waiting) and _order(self.waiting[at]) == order else None

    def _forget(self) -> None:
        """Keep the keys that are furthest ahead, as many as wait: the others lose little by it."""
        ahead = ((at, key) for key, at in self._finish.items() if at > self._now)
        self._finish = {key: at for at, key in nlargest(len(self.waiting), ahead)}

    def _rest(self) -> None:
        if not self.waiting:
            # Nobody waits: what a key took so far was taken from nobody.
            self._finish.clear()


class FairQueue(Generic[T]):
    """What waits for one endpoint. ``len`` counts it; the bound is the caller's."""

    def __init__(self) -> None:
        self._bands: tuple[_Band[T], ...] = (_Band(), _Band(), _Band())
        self._serial = 0
        self._turn = 0

    def __len__(self) -> int:
        return sum(len(band.waiting) for band in self._bands)

    def add(self, item: T, *, key: str, cost: int, tier: str | None = None) -> Ticket:
        """Let ``item`` wait, charged to ``key`` with ``cost`` tokens."""
        band = BANDS.get(tier or "", DEFAULT)
        self._serial += 1
        return Ticket(band, key, cost, self._bands[band].add(key, cost, self._serial, item))

    def first(self) -> T:
        """Return who is next."""
        return self._bands[self._next(self._counts())].waiting[0][2]

    def take(self) -> T:
        """Return who is next, who waits no more."""
        band = self._next(self._counts())
        self._turn = (self._turn + 1) % len(ROTA)
        return self._bands[band].take()

    def remove(self, ticket: Ticket) -> bool:
        """Let one leave; false where it does not wait any more."""
        return self._bands[ticket.band].remove(ticket)

    def items(self) -> list[T]:
        """Return all that wait, band by band."""
        return [item for band in self._bands for _, _, item in band.waiting]

    def position(self, ticket: Ticket) -> int | None:
        """Return when its turn comes, from 1, if nobody comes or leaves; nothing where it does not wait."""
        before = self._bands[ticket.band].index(ticket.order)
        return None if before is None else self._turns(ticket.band, before) + 1

    def _counts(self) -> list[int]:
        return [len(band.waiting) for band in self._bands]

    def _next(self, counts: list[int], ahead: int = 0) -> int:
        band = ROTA[(self._turn + ahead) % len(ROTA)]
        if counts[band]:
            return band
        return next(band for band in (PRIORITY, DEFAULT, FLEX) if counts[band])

    def _turns(self, band: int, before: int) -> int:
        """Return how many are served before the one that has ``before`` others of its band before it."""
        counts = self._counts()
        if counts[band] == sum(counts):
            return before
        turns = 0
        left = before
        while True:
            # Whole rounds at once, as long as none of them empties a band: a queue may be long.
            shares = [0, 0, 0]
            for ahead in range(len(ROTA)):
                shares[self._next(counts, turns + ahead)] += 1
            rounds = min((counts[one] - 1) // share for one, share in enumerate(shares) if share)
            if shares[band]:
                rounds = min(rounds, left // shares[band])
            rounds = max(rounds, 0)
            turns += rounds * len(ROTA)
            counts = [count - rounds * share for count, share in zip(counts, shares, strict=True)]
            left -= rounds * shares[band]
            for _ in range(len(ROTA)):
                served = self._next(counts, turns)
                if served == band and left == 0:
                    return turns
                left -= served == band
                counts[served] -= 1
                turns += 1


def _order(entry: tuple[float, int, T]) -> tuple[float, int]:
    return entry[0], entry[1]
