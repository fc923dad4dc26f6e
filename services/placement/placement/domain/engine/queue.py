"""Who waits, and in which order they are tried.

First what its project is guaranteed, then what would borrow. Of these, class by class. In a class the
organisation with the least share, in it the project with the least (``fair``), as if each who was before
had got what it waits for. In a project and class, who came first.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heapreplace

import msgspec

from placement.domain.engine.branches import Branch, Extra, Project
from placement.domain.engine.fair import NOTHING, Amount, amount, share
from placement.domain.engine.forecast import Start
from placement.domain.engine.notice import Short
from placement.domain.engine.quota import FIRM, Granted, Quota
from placement.domain.engine.wish import Wish

PRIORITIES = {"system": 501, "high": 200, "normal": 100, "low": 0}
"""The classes, and the least priority in each: the mesh's own work; what people wait for; most; what can wait."""
LEASTS = sorted(PRIORITIES.values())[1:]
LAST = len(LEASTS)
"""The last class: of whatever is below all others."""
QUEUE_MAX = 10_000
"""So many wait at a time; whoever comes then is refused."""

Key = tuple[int, str, str]


def rank_of(priority: int) -> int:
    """Return how many classes are above that of a priority; what is below all of them is in the last."""
    return LAST - bisect_right(LEASTS, priority)


def may_wait(wish: Wish) -> bool:
    """Return whether a wish waits where it does not fit: who keeps replicas running asks again by itself."""
    return wish.queue and wish.kind != "endpoint"


Level = tuple[bool, int]
"""Whether one borrows, and its class: what decides whether it may take what was promised to another."""


class Entry(msgspec.Struct):
    """One who waits since ``since``; ``number`` counts arrivals.

    ``kept`` are seats that are its own from a moment on, ``level`` what it stood at when it got them.
    ``claimed``: they are its own from now on, though nobody knows when the last of those who are there will
    have left. ``told`` is the start it was last told, ``unheard`` that it was told nothing yet. It does not begin
    before ``after``, for the grid's sake.
    """

    wish: Wish
    number: int
    since: int
    kept: Start | None = None
    level: Level = (True, 0)
    claimed: bool = False
    told: int | None = None
    unheard: bool = True
    short: Short | None = None
    after: int = 0

    @property
    def key(self) -> Key:
        """Return in which line it stands: its class, organisation and project."""
        return rank_of(self.wish.priority), self.wish.organization, self.wish.project

    @property
    def start(self) -> int | None:
        """Return when it starts at the latest, by what is known."""
        return None if self.kept is None or self.claimed else self.kept.at

    @property
    def shape(self) -> Wish:
        """Return what it has in common with those that fit where it does."""
        return msgspec.structs.replace(self.wish, workload="")


class Queue:
    """Those who wait, a line for each class and project."""

    def __init__(self) -> None:
        self.lines: dict[Key, dict[str, Entry]] = {}
        self.entries: dict[str, Entry] = {}
        self._kept: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, entry: Entry) -> None:
        """Have one wait, at the place that its number gives it."""
        line = self.lines.setdefault(entry.key, {})
        last = next(reversed(line.values()), None)
        line[entry.wish.workload] = self.entries[entry.wish.workload] = entry
        if entry.kept is not None:
            self._kept[entry.wish.workload] = entry
        if last is not None and last.number > entry.number:
            self.lines[entry.key] = dict(sorted(line.items(), key=lambda one: one[1].number))

    def drop(self, workload: str) -> Entry | None:
        """Have one wait no more; return it."""
        entry = self.entries.pop(workload, None)
        self._kept.pop(workload, None)
        if entry is not None:
            line = self.lines[entry.key]
            del line[workload]
            if not line:
                del self.lines[entry.key]
        return entry

    def keep(self, entry: Entry, start: Start, *, claimed: bool = False) -> None:
        """Keep seats for one who waits."""
        entry.kept, entry.claimed = start, claimed
        self._kept[entry.wish.workload] = entry

    def lose(self, entry: Entry) -> None:
        """Keep none for it any more."""
        entry.kept, entry.claimed = None, False
        self._kept.pop(entry.wish.workload, None)

    def promised(self) -> list[Entry]:
        """Return those for whom seats are kept."""
        return list(self._kept.values())


Judge = Callable[[Wish, Extra, Extra], Granted | Short]
"""What the quota says of a wish, were so much more held by its project and by its organisation."""


class _Sum:
    """What those before somebody wait for, of one branch; and what that has had, firm and borrowed."""

    __slots__ = ("beyond", "branch", "extra", "shares", "within")

    def __init__(self, branch: Branch, at: int, half_life: int) -> None:
        self.branch, self.extra = branch, Extra()
        self.within = self.beyond = NOTHING
        self.shares = (
            (branch.within.base(at, half_life), max(1, branch.guarantee)),
            (branch.beyond.base(at, half_life), max(1, branch.weight)),
        )

    def share(self, wanted: Amount, whole: Amount, *, borrows: bool) -> int:
        """Return the share it would have with half of what is wanted: that favours neither great nor small."""
        base, weight = self.shares[borrows]
        more = self.beyond if borrows else self.within
        half = Amount(wanted.gpu // 2, wanted.cpu // 2, wanted.memory // 2)
        return share(base, _added(more, half), whole, weight)

    def add(self, took: Amount, *, borrows: bool) -> None:
        if borrows:
            self.beyond = _added(self.beyond, took)
        else:
            self.within = _added(self.within, took)


class _Line(msgspec.Struct):
    """One line, as far as it was gone through, and where its first stands in its organisation."""

    project: Project
    own: _Sum
    entries: list[Entry]
    at: int = 0
    version: int = -1
    granted: Granted | Short = FIRM


Inner = tuple[bool, int, int, int]
"""Where a line stands in its organisation: borrows, class, share, number."""


class _House:
    """The lines of one organisation. ``version`` counts what was counted: all of it bears on all lines."""

    def __init__(self, above: _Sum) -> None:
        self.above, self.version = above, 0
        self.lines: list[tuple[Inner, _Line]] = []


class Order:
    """Goes through those who wait, first to last. ``grant`` is what the quota says of the one just given.

    Who goes on waiting, or has got seats, must be counted (``count``): those behind come after it with that.
    """

    def __init__(self, queue: Queue, quota: Quota, judge: Judge, whole: Amount, at: int) -> None:
        self._judge, self._whole = judge, whole
        self.grant: Granted | Short = FIRM
        self.seen = 0
        half_life = quota.half_life_ms
        houses: dict[str, _House] = {}
        owns: dict[tuple[str, str], _Sum] = {}
        for (_, organization, name), entries in queue.lines.items():
            project = quota.project(organization, name)
            house = houses.get(organization)
            if house is None:
                house = houses[organization] = _House(_Sum(project.organization, at, half_life))
            own = owns.get((organization, name))
            if own is None:
                own = owns[organization, name] = _Sum(project, at, half_life)
            line = _Line(project, own, list(entries.values()))
            house.lines.append((self._inner(house, line), line))
        self._now: tuple[_House, _Line] | None = None
        for house in houses.values():
            heapify(house.lines)
        self._houses = [(self._outer(house), house) for house in houses.values()]
        heapify(self._houses)

    def __iter__(self) -> Iterator[Entry]:
        while self._houses:
            house = self._houses[0][1]
            line = house.lines[0][1]
            self.grant, self._now = line.granted, (house, line)
            self.seen += 1
            yield line.entries[line.at]
            line.at += 1
            if line.at < len(line.entries):
                heapreplace(house.lines, (self._inner(house, line), line))
            else:
                heappop(house.lines)
            if house.lines:
                heapreplace(self._houses, (self._outer(house), house))
            else:
                heappop(self._houses)

    def count(self, entry: Entry, *, seated: bool = False) -> None:
        """Count what one waits for, or has got now (``seated``), as had by it, for those behind.

        Its quota is kept for it where that is what it waits for, or where seats are kept for it. Who waits
        for room that nobody knows to come keeps quota from nobody; who is seated has it already.
        """
        assert self._now is not None
        house, line = self._now
        wish, granted = entry.wish, self.grant
        house.version += 1
        if wish.reservation or (isinstance(granted, Short) and not granted.ever):
            return
        took = amount(wish.size, wish.members)
        borrows = isinstance(granted, Granted) and granted.borrowed
        keeps = not seated and (isinstance(granted, Short) or entry.kept is not None)
        project, own, above = line.project, line.own, house.above
        for one in (own, above):
            one.add(took, borrows=borrows)
            if keeps:
                one.extra.held += took.gpu
                one.extra.firm += 0 if borrows else took.gpu
                one.extra.stuck += 0 if wish.preemptible else took.gpu
        over = max(0, project.firm + project.booked + own.extra.firm - project.guarantee) - project.over
        above.extra.over += over - own.extra.over
        own.extra.over = over

    def _inner(self, house: _House, line: _Line) -> Inner:
        """Return where a line's first stands in its organisation, as all who were counted leave it."""
        entry = line.entries[line.at]
        wish = entry.wish
        granted = line.granted = self._judge(wish, line.own.extra, house.above.extra)
        line.version = house.version
        borrows = granted.borrowed if isinstance(granted, Granted) else wish.preemptible
        wanted = amount(wish.size, wish.members)
        own = line.own.share(wanted, self._whole, borrows=borrows)
        return borrows, rank_of(wish.priority), own, entry.number

    def _outer(self, house: _House) -> Inner:
        """Return where an organisation's first stands among all; have its lines be in order."""
        lines = house.lines
        while lines[0][1].version != house.version:
            # What is counted moves nobody forward: who is first once looked at anew is first.
            heapreplace(lines, (self._inner(house, lines[0][1]), lines[0][1]))
        (borrows, rank, _, number), line = lines[0]
        wish = line.entries[line.at].wish
        wanted = amount(wish.size, wish.members)
        return borrows, rank, house.above.share(wanted, self._whole, borrows=borrows), number


def _added(one: Amount, other: Amount) -> Amount:
    return Amount(one.gpu + other.gpu, one.cpu + other.cpu, one.memory + other.memory)
