"""Watts: what each part of a site is planned to draw, what it may, and how much room that leaves.

Planned watts of a node are its idle watts and those of each GPU that somebody holds a part of. What
a meter says beyond the plan is added to it (a meter that says less frees nothing). Caps nest: a
member needs room in its rack, PDU, row, hall and site at once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np

from placement.domain.engine.site import NOWHERE, POWER, Ints, Part, Site
from placement.domain.engine.slices import wakes

ENDLESS = 1 << 60
"""The room of a domain without a cap."""


class PowerState(msgspec.Struct, frozen=True, kw_only=True):
    """Of each level: the cap of each domain, and what its meter said beyond the plan, in watts."""

    caps: dict[str, dict[int, int]]
    excess: dict[str, dict[int, int]]


class Power:
    """What each domain draws by plan, and its cap; kept up as members come and go."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._caps: dict[str, dict[int, int]] = {level: {} for level in POWER}
        self._excess: dict[str, dict[int, int]] = {level: {} for level in POWER}
        self._room: dict[str, Ints] = {}
        self._rooms: Ints = np.zeros(0, np.int64)
        self._planned: dict[str, Ints] = {}
        self._stale = True
        # All levels' domains one after the other: watts planned, and 1 for each that has a cap.
        self._plans: Ints = np.zeros(0, np.int64)
        self._bound: Ints = np.zeros(0, np.int64)
        # Rows alike in every domain are one cell: int[level, cell] its domains, int[cell, level] where they
        # stand in what is one after the other.
        self._cells: Ints = np.zeros((len(POWER), 0), np.int64)
        self._where: Ints = np.zeros((0, len(POWER)), np.int64)
        self._cell: Ints = np.zeros(0, np.int64)
        self._puts = -1

    def copy(self, site: Site) -> "Power":
        """Return the same for a copy of the site."""
        copy = Power(site)
        copy.restore(self.state())
        return copy

    def state(self) -> PowerState:
        """Return what does not follow from who is where."""
        return PowerState(
            caps={level: caps.copy() for level, caps in self._caps.items()},
            excess={level: excess.copy() for level, excess in self._excess.items()},
        )

    def restore(self, state: PowerState) -> None:
        """Have it be as it was."""
        self._caps = {level: dict(state.caps.get(level, {})) for level in POWER}
        self._excess = {level: dict(state.excess.get(level, {})) for level in POWER}
        self.rebuild()

    def rebuild(self) -> None:
        """Have all be summed anew, once somebody asks: nodes were added or built otherwise."""
        self._stale = True

    @property
    def planned(self) -> dict[str, Ints]:
        """Watts that each domain of a level is planned to draw."""
        self._sum()
        return self._planned

    def _sum(self) -> None:
        if not self._stale:
            return
        self._stale = False
        site = self._site
        rows = site.rows
        if self._puts != site.puts:
            self._puts = site.puts
            places = np.stack([site.at(level) for level in POWER])
            self._cells, cell = np.unique(places, axis=1, return_inverse=True)
            self._cell = cell.reshape(-1)
        watts = site.idle_w[:rows] + site.taken[:rows] * site.gpu_w[:rows]
        widths = [len(site.domains[level]) + 1 for level in POWER]
        self._rooms = np.full(sum(widths), ENDLESS, np.int64)
        self._plans, self._bound = np.zeros_like(self._rooms), np.zeros_like(self._rooms)
        ends = np.cumsum(widths)
        # What is NOWHERE, -1, is the last of its level.
        at = np.where(self._cells == NOWHERE, np.array(widths)[:, None] - 1, self._cells)
        self._where = np.ascontiguousarray((at + (ends - widths)[:, None]).T)
        for level, end, width in zip(POWER, ends.tolist(), widths, strict=True):
            at = site.at(level)
            known = at != NOWHERE
            # A level's part of the one vector; the last stands for NOWHERE, which has no cap.
            sums = self._plans[end - width : end - 1]
            np.add.at(sums, at[known], watts[known])
            room, bound = self._rooms[end - width : end], self._bound[end - width : end]
            for domain, cap in self._caps[level].items():
                room[domain] = cap - sums[domain] - self._excess[level].get(domain, 0)
                bound[domain] = 1
            self._planned[level], self._room[level] = sums, room

    def cap(self, level: str, domain: str, watts: int | None) -> None:
        """Cap a domain, or (``None``) lift its cap."""
        code = self._domain(level, domain)
        if watts is None:
            self._caps[level].pop(code, None)
        else:
            self._caps[level][code] = watts
        self.rebuild()

    def measured(self, level: str, domain: str, watts: int) -> None:
        """Note what a domain draws: what is beyond its plan counts against its cap."""
        code = self._domain(level, domain)
        self._excess[level][code] = max(0, watts - int(self.planned[level][code]))
        self.rebuild()

    def add(self, row: int, watts: int) -> None:
        """Count watts that a row's node draws more (or, negative, less) by plan."""
        if watts == 0 or self._stale:
            return
        at = self._where[self._cell[row]]
        self._plans[at] += watts
        self._rooms[at] -= watts * self._bound[at]

    def add_all(self, rows: Ints, watts: Ints) -> None:
        """Count watts that the nodes of ``rows`` draw more (or, negative, less) by plan: int[of rows]."""
        if self._stale:
            return
        for level in POWER:
            at = self._site.at(level)[rows]
            known = at != NOWHERE
            at = at[known]
            np.add.at(self._planned[level], at, watts[known])
            room = self._room[level]
            bound = room[at] != ENDLESS
            np.subtract.at(room, at[bound], watts[known][bound])

    @contextmanager
    def drawing(self, parts: Sequence[Part]) -> Iterator[None]:
        """Count what GPUs of ``parts`` would draw that are asleep, while this lasts."""
        self._sum()
        rows, watts = self._asleep(parts)
        self.add_all(rows, watts)
        try:
            yield
        finally:
            self.add_all(rows, -watts)

    def shadow(self, site: Site, rows: Ints, watts: Ints) -> "Power":
        """Return the caps as they would be if ``rows`` drew so much less, to ask what if: int[of rows]."""
        self._sum()
        shadow = Power(site)
        shadow._caps, shadow._excess, shadow._planned = self._caps, self._excess, self._planned
        shadow._room, shadow._stale = dict(self._room), False
        shadow._cells, shadow._cell, shadow._puts = self._cells, self._cell, self._puts
        for level in POWER:
            if self._caps[level]:
                room = self._room[level]
                more = np.bincount(site.at(level)[rows] % len(room), watts, len(room)).astype(np.int64)
                shadow._room[level] = room + more
        return shadow

    def rooms(self) -> dict[str, Ints]:
        """Return, for each level with caps, the watts that each domain may add; the last is for none."""
        self._sum()
        return {level: self._room[level] for level in POWER if self._caps[level]}

    def _domain(self, level: str, domain: str) -> int:
        """Return a domain's number, new where nobody knew it. Raises ``ValueError`` where no power runs."""
        if level not in POWER:
            raise ValueError(f"power has no level {level}: one of {', '.join(POWER)}")
        known = len(self._site.domains[level])
        code = self._site.domains[level].of(domain)
        if code == known:
            self.rebuild()
        return code

    @property
    def capped(self) -> bool:
        """Whether any domain has a cap."""
        return any(self._caps.values())

    def tightest(self) -> int:
        """Return the room of the capped domain that has the least."""
        self._sum()
        return int(self._rooms.min(initial=ENDLESS))

    def room(self, rows: Ints | None = None) -> Ints:
        """Return how many watts each of ``rows`` (of all) may still add: int[row]."""
        self._sum()
        least = np.full(self._cells.shape[1], ENDLESS, np.int64)
        for level, at in zip(POWER, self._cells, strict=True):
            if self._caps[level]:
                np.minimum(least, self._room[level].take(at), out=least)
        return least.take(self._cell if rows is None else self._cell.take(rows))

    def lets(self, parts: Sequence[Part], rows: Ints) -> bool:
        """Return whether GPUs of ``parts`` that are asleep could be woken by all domains that nodes of ``rows`` share."""
        site, (their, watts) = self._site, self._asleep(parts)
        for level, room in self.rooms().items():
            at = site.at(level)
            draw, shared = np.zeros_like(room), np.zeros(len(room), bool)
            np.add.at(draw, at[their], watts)
            shared[at[rows]] = True
            if (shared & (draw > 0) & (draw > room)).any():
                return False
        return True

    def _asleep(self, parts: Sequence[Part]) -> tuple[Ints, Ints]:
        """Return the rows of parts, and what the GPUs of each draw more once somebody holds them."""
        site = self._site
        rows = np.array([part.row for part in parts], np.int64)
        asleep = [wakes(site, part) for part in parts]
        return rows, site.gpu_w[rows] * np.array(asleep, np.int64)

    def room_at(self, level: str, rows: Ints) -> Ints:
        """Return how many watts the domain of each of ``rows`` at one level may still add: int[row]."""
        self._sum()
        return self._room[level][self._site.at(level)[rows]]

    def room_of(self, level: str, domain: str) -> int:
        """Return how many watts a domain may still add: less than none above its cap."""
        self._sum()
        return int(self._room[level][self._site.domains[level][domain]])

    def planned_of(self, level: str, domain: str) -> int | None:
        """Return the watts that a domain is planned to draw; ``None`` for one that no node stands in."""
        code = self._site.domains[level].get(domain)
        return None if code is None else int(self.planned[level][code])

    def caps(self) -> dict[str, dict[int, int]]:
        """Return the watts of each domain that has a cap, by level and number."""
        return {level: caps.copy() for level, caps in self._caps.items() if caps}

    def excess_of(self, level: str, code: int) -> int:
        """Return the watts that a domain draws beyond its plan, as was measured last."""
        return self._excess[level].get(code, 0)

    def cap_of(self, level: str, domain: str) -> int | None:
        """Return a domain's cap; ``None`` where it has none."""
        return self._caps[level].get(self._site.domains[level].get(domain, NOWHERE))

    def breaches(self) -> list[tuple[str, str, int]]:
        """Return each domain above its cap, as level, name and watts beyond: most first."""
        self._sum()
        found = []
        for level in POWER:
            room = self._room[level]
            above = np.flatnonzero(room < 0).tolist()
            if above:
                names = list(self._site.domains[level])
                found += [(level, names[code], -int(room[code])) for code in above]
        return sorted(found, key=lambda one: -one[2])
