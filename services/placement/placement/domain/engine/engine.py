"""One writer's memory of a site: inputs in, decisions out, and nothing else.

``apply`` is a function of the inputs so far: no clock, no chance, no set's order. The same inputs in the
same order give the same decisions, whether they come one by one, after a restart or in a replay.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from placement.domain.engine.choose import Choice, Chooser, NoChoice
from placement.domain.engine.ends import Ends
from placement.domain.engine.finding import found_parts
from placement.domain.engine.fit import short
from placement.domain.engine.mix import Mix
from placement.domain.engine.power import Power
from placement.domain.engine.prefer import bias, watt_costs
from placement.domain.engine.relax import smallest
from placement.domain.engine.site import Ints, Part, Site
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.snapshot import HeldState, SiteState, Snapshot
from placement.domain.engine.tenancy import Tenancy
from placement.domain.engine.views import Views
from placement.domain.engine.wish import (
    Asked,
    Capped,
    Expected,
    Found,
    Input,
    Measured,
    Moved,
    NodePut,
    NodeTurned,
    Noted,
    Outcome,
    Placed,
    Refused,
    Released,
    Seat,
    Told,
    Weighed,
    Wish,
)

WARM_MAX = 256
"""Sizes whose scores are computed before anybody asks, the most expected first."""


class Holding(NamedTuple):
    """A workload that has its seats, and since when."""

    wish: Wish
    parts: tuple[Part, ...]
    at: int


class Engine:
    """A site, who is where on it, and the decisions about both."""

    def __init__(self) -> None:
        self.site = Site()
        self.mix = Mix((), self.site.models)
        self.views = Views(self.site, self.mix)
        self.power = Power(self.site)
        self.tenancy = Tenancy(self.site)
        self.chooser = Chooser(self.site, self.views, self.power, self.tenancy)
        self.holdings: dict[str, Holding] = {}
        self.ends = Ends()
        self.groups: dict[str, dict[int, int]] = {}
        self._expected: list[tuple[Size, int]] = []
        self._known_models = 0
        self._watt_weight = 0

    def copy(self) -> "Engine":
        """Return an engine that decides as this one would; what becomes of either does not touch the other."""
        copy = Engine()
        copy.site = self.site.copy()
        copy.mix = self.mix
        copy.views = self.views.copy(copy.site)
        copy.power = self.power.copy(copy.site)
        copy.tenancy = self.tenancy.copy(copy.site)
        copy.chooser = Chooser(copy.site, copy.views, copy.power, copy.tenancy)
        copy.holdings, copy.ends = self.holdings.copy(), self.ends.copy()
        copy.groups = {name: group.copy() for name, group in self.groups.items()}
        copy._expected = self._expected.copy()
        copy._known_models, copy._watt_weight = self._known_models, self._watt_weight
        return copy

    def snapshot(self) -> Snapshot:
        """Return all that decisions depend on."""
        return Snapshot(
            site=SiteState.of(self.site),
            power=self.power.state(),
            watt_weight=self._watt_weight,
            expected=self._expected.copy(),
            holdings=[HeldState(*holding) for holding in self.holdings.values()],
        )

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> "Engine":
        """Return an engine that decides as the one did of which this was taken."""
        engine = cls()
        snapshot.site.into(engine.site)
        for held in snapshot.holdings:
            engine.resume(Holding(held.wish, held.parts, held.at))
        engine.power.restore(snapshot.power)
        engine._watt_weight = snapshot.watt_weight
        engine._expect(Expected(sizes=snapshot.expected))
        return engine

    def apply(self, given: Input) -> Outcome:
        """Return what is decided, and have it be so. Raises ``ValueError`` for what cannot be."""
        match given:
            case Asked():
                return self._asked(given)
            case Released():
                self._release(given.workload)
            case Moved():
                self._move(given)
            case Found():
                self._find(given)
            case NodePut():
                self._put(given)
            case NodeTurned():
                self._turn(given)
            case Capped() | Measured():
                self._draw(given)
            case Expected():
                self._expect(given)
            case Weighed():
                self._watt_weight = given.watt
        return Noted()

    def seats(self, parts: tuple[Part, ...]) -> tuple[Seat, ...]:
        """Return where parts are, by the nodes' ids."""
        return tuple(Seat(self.site.specs[one.row].node, one.cards, one.milli_each) for one in parts)

    def _asked(self, given: Asked) -> Outcome:
        wish = given.wish
        if wish.workload in self.holdings:
            raise ValueError(f"{wish.workload} has its seats already")
        parts, last = self._choose(wish)
        if isinstance(last, NoChoice):
            self._leave_all(wish, parts)
            relaxation = smallest(self, wish, last.fails, len(parts))
            return Refused(workload=wish.workload, why=Told(last.failed, relaxation=relaxation))
        self._hold(Holding(wish, tuple(parts), given.at))
        why = Told(last.failed, last.best, last.second)
        return Placed(workload=wish.workload, seats=self.seats(tuple(parts)), why=why)

    def would(self, wish: Wish) -> Placed | Refused:
        """Return what would be decided; nothing is taken."""
        parts, last = self._choose(wish)
        self._leave_all(wish, parts)
        if isinstance(last, NoChoice):
            return Refused(workload=wish.workload, why=Told(last.failed))
        why = Told(last.failed, last.best, last.second)
        return Placed(workload=wish.workload, seats=self.seats(tuple(parts)), why=why)

    @contextmanager
    def without(self, workload: str) -> Iterator[None]:
        """Have it be as if a workload had ended, while this lasts."""
        holding = self.holdings[workload]
        self._leave_all(holding.wish, holding.parts)
        try:
            yield
        finally:
            for part in holding.parts:
                self._sit(holding.wish, part)

    def _choose(self, wish: Wish) -> tuple[list[Part], Choice | NoChoice]:
        """Seat as many members as fit; return where they are, and what was found for the last."""
        parts: list[Part] = []
        while True:
            chosen = self.chooser.choose(
                wish.size, wish.terms, watt_costs=self._watt_costs(), bias=self._bias(wish)
            )
            if isinstance(chosen, NoChoice):
                return parts, chosen
            self._enter(wish, chosen.part)
            parts.append(chosen.part)
            if len(parts) == wish.members:
                return parts, chosen

    def resume(self, holding: Holding) -> None:
        """Have a workload sit where it sat: nothing is asked, its nodes may be closed by now."""
        self._hold(holding)
        for part in holding.parts:
            self._sit(holding.wish, part)

    def _find(self, given: Found) -> None:
        if given.wish.workload in self.holdings:
            raise ValueError(f"{given.wish.workload} has its seats already")
        self.resume(Holding(given.wish, found_parts(self.site, given), given.at))

    def _move(self, given: Moved) -> None:
        """Have a member sit elsewhere: it takes the new seat before it gives back the old one."""
        holding = self.holdings.get(given.workload)
        row = self.site.row_of.get(given.to.node)
        if holding is None or row is None or not 0 <= given.member < len(holding.parts):
            raise ValueError(
                f"{given.workload} has no member {given.member}, or there is no {given.to.node}"
            )
        part = Part(row, given.to.cards, given.to.milli_each)
        if not self.chooser.takes(holding.wish.size, holding.wish.terms, part):
            raise ValueError(f"{given.workload} does not fit on {given.to.node}")
        self._enter(holding.wish, part)
        self._leave(holding.wish, holding.parts[given.member])
        self.ends.forget(given.workload)
        del self.holdings[given.workload]
        parts = (*holding.parts[: given.member], part, *holding.parts[given.member + 1 :])
        self._hold(Holding(holding.wish, parts, holding.at))

    def _hold(self, holding: Holding) -> None:
        self.holdings[holding.wish.workload] = holding
        self.ends.note(holding.wish, holding.parts)

    def _release(self, workload: str) -> None:
        holding = self.holdings.pop(workload, None)
        if holding is None:
            return
        self.ends.forget(workload)
        self._leave_all(holding.wish, holding.parts)

    def _enter(self, wish: Wish, part: Part) -> None:
        assert not short(self.site, wish.size, np.array([part.row]))[0], "what is applied fits"
        self._sit(wish, part)

    def _sit(self, wish: Wish, part: Part) -> None:
        """Have a member be where it is already: its node may be closed by now."""
        site, row = self.site, part.row
        before = int(site.taken[row])
        site.take(wish.size, part)
        self.power.add(row, (int(site.taken[row]) - before) * int(site.gpu_w[row]))
        self.tenancy.enter(row, wish.terms)
        if wish.group:
            group = self.groups.setdefault(wish.group, {})
            group[row] = group.get(row, 0) + 1

    def _leave_all(self, wish: Wish, parts: Sequence[Part]) -> None:
        for part in reversed(parts):
            self._leave(wish, part)

    def _leave(self, wish: Wish, part: Part) -> None:
        site, row = self.site, part.row
        before = int(site.taken[row])
        site.give(wish.size, part)
        self.power.add(row, (int(site.taken[row]) - before) * int(site.gpu_w[row]))
        self.tenancy.leave(row, wish.terms)
        if wish.group:
            group = self.groups[wish.group]
            group[row] -= 1
            if not group[row]:
                del group[row]
            if not group:
                del self.groups[wish.group]

    def _bias(self, wish: Wish) -> Ints | None:
        return bias(self.site, wish, self.groups.get(wish.group))

    def _watt_costs(self) -> int:
        return watt_costs(self.site, self._watt_weight)

    def _put(self, given: NodePut) -> None:
        spec = given.spec
        row = self.site.row_of.get(spec.node)
        if row is not None and self.tenancy.tied(row, spec.place):
            raise ValueError(f"{spec.node} would leave or enter a tenant's own part: drain it first")
        self.site.put(spec)
        self.power.rebuild()
        if len(self.site.models) != self._known_models:
            self._score_anew()

    def _turn(self, given: NodeTurned) -> None:
        row = self.site.row_of.get(given.node)
        if row is None:
            raise ValueError(f"there is no node {given.node}")
        self.site.turn(row, closed=given.closed, silent=given.silent)

    def _draw(self, given: Capped | Measured) -> None:
        if isinstance(given, Capped):
            self.power.cap(given.level, given.domain, given.watts)
        else:
            self.power.measured(given.level, given.domain, given.watts)

    def _expect(self, given: Expected) -> None:
        self._expected = list(given.sizes)
        self._score_anew()

    def _score_anew(self) -> None:
        self._known_models = len(self.site.models)
        self.mix = Mix(self._expected, self.site.models)
        self.views.expect(self.mix)
        for size, _ in sorted(self._expected, key=lambda one: -one[1])[:WARM_MAX]:
            self.views.of(size, Terms())
