"""Who holds what, one array a column: what plans are computed on that ask what if somebody were gone."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from placement.domain.engine.site import Bools, Ints, Part
from placement.domain.engine.tenancy import ISOLATING
from placement.domain.engine.wish import Wish

CHANGES_MAX = 1 << 14
"""Changes noted one by one; of more, all is read anew."""
ROOM_FIRST = 256
COLUMNS = ("cpu", "memory", "tenant", "alone", "priority", "preemptible", "cost", "until")


class Held(Protocol):
    """A workload that has its seats, and since when."""

    @property
    def wish(self) -> Wish: ...  # noqa: D102
    @property
    def parts(self) -> tuple[Part, ...]: ...  # noqa: D102
    @property
    def at(self) -> int: ...  # noqa: D102


class Column:
    """Numbers that are added at the end; what is behind the last is room for more."""

    def __init__(self) -> None:
        self._all: Ints = np.zeros(ROOM_FIRST, np.int64)
        self.length = 0

    def add(self, values: list[int]) -> None:
        """Add numbers."""
        while self.length + len(values) > len(self._all):
            self._all = np.concatenate((self._all, np.zeros_like(self._all)))
        self._all[self.length : self.length + len(values)] = values
        self.length += len(values)

    @property
    def values(self) -> Ints:
        """The numbers."""
        return self._all[: self.length]

    def keep(self, which: Bools) -> None:
        """Have only some of them."""
        kept = self.values[which]
        self._all[: len(kept)] = kept
        self.length = len(kept)


class Members(NamedTuple):
    """Who sits where, each holder once on each of its rows: how many members, and what they hold of GPUs."""

    row: Ints
    many: Ints
    milli: Ints
    holder: Ints


class Cards(NamedTuple):
    """What they hold of which card: int[card held]."""

    row: Ints
    card: Ints
    milli: Ints
    holder: Ints


class Instances(NamedTuple):
    """Which MIG instances they hold: the card, its memory slices as bits."""

    row: Ints
    card: Ints
    slices: Ints
    holder: Ints


class Roster:
    """Holders by number, in the order in which they came; kept up when it is asked.

    ``of`` by name: CPU and memory of one member, tenant, the level it must be alone at (-1: none),
    priority, whether it is preemptible, what a restart costs, until when it may not be preempted.
    """

    def __init__(self) -> None:
        self._changes: list[tuple[str, bool]] | None = None
        self._clear()

    def _clear(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._here = Column()
        self._of = {name: Column() for name in COLUMNS}
        self._members = tuple(Column() for _ in Members._fields)
        self._cards = tuple(Column() for _ in Cards._fields)
        self._instances = tuple(Column() for _ in Instances._fields)

    def note(self, workload: str, *, here: bool) -> None:
        """Note that a workload has come or gone."""
        if self._changes is not None:
            self._changes.append((workload, here))
            if len(self._changes) > CHANGES_MAX:
                self._changes = None

    def sync(self, holdings: Mapping[str, Held], tenants: Mapping[str, int]) -> "Roster":
        """Have it be as the holdings are; return the roster."""
        changes, self._changes = self._changes, []
        if changes is None:
            self._clear()
            changes = [(workload, True) for workload in holdings]
        gone = 0
        latest = {workload: number for number, (workload, _) in enumerate(changes)}
        for number, (workload, here) in enumerate(changes):
            if workload in self._numbers:
                gone += 1
                self._here.values[self._numbers.pop(workload)] = 0
            if here and latest[workload] == number and workload in holdings:
                self._add(workload, holdings[workload], tenants)
        if 2 * len(self._numbers) < len(self.names) - ROOM_FIRST:
            self._compact()
        return self

    def _add(self, workload: str, held: Held, tenants: Mapping[str, int]) -> None:
        number, wish = len(self.names), held.wish
        self.names.append(workload)
        self._numbers[workload] = number
        self._here.add([1])
        alone = ISOLATING.index(wish.terms.isolation) if wish.terms.isolation else -1
        values = (
            *(wish.size.cpu_milli, wish.size.memory_mib, tenants[wish.terms.tenant], alone),
            *(wish.priority, int(wish.preemptible), wish.restart_cost, held.at + wish.min_run_ms),
        )
        for column, value in zip(self._of.values(), values, strict=True):
            column.add([value])
        counts = Counter(part.row for part in held.parts)
        milli: Counter[int] = Counter()
        for part in held.parts:
            milli[part.row] += len(part.cards) * part.milli_each
        for column, new in zip(
            self._members,
            (list(counts), list(counts.values()), list(milli.values()), [number] * len(counts)),
            strict=True,
        ):
            column.add(new)
        cards = [(part.row, card, part.milli_each) for part in held.parts for card in part.cards]
        columns = self._cards
        if held.parts[0].slices:
            cards = [(part.row, part.cards[0], part.slices) for part in held.parts]
            columns = self._instances
        for at, column in enumerate(columns):
            column.add([card[at] for card in cards] if at < 3 else [number] * len(cards))

    def _compact(self) -> None:
        """Forget those who are gone."""
        here = self.here
        number = here.cumsum() - 1
        for columns in (self._members, self._cards, self._instances):
            holder = columns[-1]
            kept = here[holder.values]
            for column in columns:
                column.keep(kept)
            holder.values[:] = number[holder.values]
        for column in (*self._of.values(), self._here):
            column.keep(here)
        self.names = [name for name, there in zip(self.names, here.tolist(), strict=True) if there]
        self._numbers = {name: at for at, name in enumerate(self.names)}

    @property
    def here(self) -> Bools:
        """Which holders are there: bool[holder]."""
        found: Bools = self._here.values != 0
        return found

    def of(self, name: str) -> Ints:
        """Return one thing of each holder: int[holder]."""
        return self._of[name].values

    @property
    def members(self) -> Members:
        """All members, of those who are gone too."""
        return Members(*(column.values for column in self._members))

    @property
    def cards(self) -> Cards:
        """All cards held, by those who are gone too."""
        return Cards(*(column.values for column in self._cards))

    @property
    def instances(self) -> Instances:
        """All instances held, by those who are gone too."""
        return Instances(*(column.values for column in self._instances))

    def number(self, workload: str) -> int:
        """Return the number of a holder."""
        return self._numbers[workload]

    def those(self, which: Bools) -> Iterator[str]:
        """Yield the names of some holders, in order."""
        for number in np.flatnonzero(which).tolist():
            yield self.names[number]
