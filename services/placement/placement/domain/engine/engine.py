"""One writer's memory of a site: inputs in, decisions out, and nothing else.

``apply`` is a function of the inputs so far: no clock, no chance, no set's order. The same inputs in the
same order give the same decisions, whether they come one by one, after a restart or in a replay.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from placement.domain.engine.capacity import MEMBERS_MAX
from placement.domain.engine.choose import Choice, Chooser, NoChoice
from placement.domain.engine.ends import Ends
from placement.domain.engine.finding import found_parts
from placement.domain.engine.fit import lacks, short
from placement.domain.engine.gang import Gang, Gangs, NoGang, gathers, told
from placement.domain.engine.knowing import know
from placement.domain.engine.mix import Mix
from placement.domain.engine.power import Power
from placement.domain.engine.prefer import bias, watt_costs
from placement.domain.engine.relax import smallest, smallest_together
from placement.domain.engine.replace import gone, moved, replaced
from placement.domain.engine.roster import Roster
from placement.domain.engine.seating import Seating, seats_of
from placement.domain.engine.site import Ints, Part, Site
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.snapshot import HeldState, SiteState, Snapshot
from placement.domain.engine.tenancy import Tenancy
from placement.domain.engine.views import Views
from placement.domain.engine.wish import (
    Asked,
    Expected,
    Found,
    Input,
    Moved,
    NodesLost,
    Noted,
    Outcome,
    Placed,
    Refused,
    Released,
    Seat,
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
        self.ends, self.roster = Ends(), Roster()
        self.groups: dict[str, dict[int, int]] = {}
        self._together()
        self._expected: list[tuple[Size, int]] = []
        self._known_models = 0
        self.watt_weight = 0

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
        copy._together(self.gangs)
        copy._expected = self._expected.copy()
        copy._known_models, copy.watt_weight = self._known_models, self.watt_weight
        return copy

    def _together(self, known: Gangs | None = None) -> None:
        """Have what seats many at once look at the site that this engine has."""
        parts = (self.site, self.power, self.tenancy)
        self.gangs = known.copy(*parts) if known else Gangs(*parts)
        self.gangs.reserved = self._reserved
        self.seating = Seating(*parts, self.groups)

    def _reserved(self, size: Size, terms: Terms) -> Ints | None:
        return self.chooser.reserved(size, terms)

    def snapshot(self) -> Snapshot:
        """Return all that decisions depend on."""
        return Snapshot(
            site=SiteState.of(self.site),
            power=self.power.state(),
            watt_weight=self.watt_weight,
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
        engine.watt_weight = snapshot.watt_weight
        engine.expect(Expected(sizes=snapshot.expected))
        return engine

    def apply(self, given: Input) -> Outcome:
        """Return what is decided, and have it be so. Raises ``ValueError`` for what cannot be."""
        match given:
            case Asked():
                return self._asked(given)
            case NodesLost():
                return replaced(self, given)
            case Released():
                self.release(given.workload)
            case Moved():
                moved(self, given)
            case Found():
                self._find(given)
            case _:
                know(self, given)
        return Noted()

    def seats(self, parts: tuple[Part, ...]) -> tuple[Seat, ...]:
        """Return where parts are, by the nodes' ids."""
        return tuple(Seat(self.site.specs[one.row].node, one.cards, one.milli_each) for one in parts)

    def _asked(self, given: Asked) -> Outcome:
        wish = given.wish
        if wish.workload in self.holdings:
            raise ValueError(f"{wish.workload} has its seats already")
        if not 1 <= wish.members <= MEMBERS_MAX or wish.near.segment < 1:
            raise ValueError(
                f"{wish.workload} has from one to {MEMBERS_MAX:,} members, in segments of some"
            )
        with gone(self, given.instead_of) as stay_gone:
            parts, last = self.choose(wish)
            if isinstance(last, Choice | Gang):
                stay_gone()
            else:
                self.leave(wish, parts)
        if isinstance(last, NoGang):
            return Refused(workload=wish.workload, why=told(last, smallest_together(self, wish, last)))
        if isinstance(last, NoChoice):
            relaxation = smallest(self, wish, last.fails, len(parts))
            return Refused(workload=wish.workload, why=told(last, relaxation))
        self.hold(Holding(wish, tuple(parts), given.at))
        return Placed(workload=wish.workload, seats=self.seats(tuple(parts)), why=told(last))

    def would(self, wish: Wish) -> Placed | Refused:
        """Return what would be decided; nothing is taken."""
        parts, last = self.choose(wish)
        self.leave(wish, parts)
        if isinstance(last, NoChoice | NoGang):
            return Refused(workload=wish.workload, why=told(last))
        return Placed(workload=wish.workload, seats=self.seats(tuple(parts)), why=told(last))

    @contextmanager
    def without(self, workload: str) -> Iterator[None]:
        """Have it be as if a workload had ended, while this lasts."""
        holding = self.holdings[workload]
        self.leave(holding.wish, holding.parts)
        try:
            yield
        finally:
            for part in holding.parts:
                self.seating.sit(holding.wish, part)

    def choose(self, wish: Wish) -> tuple[Sequence[Part], Choice | NoChoice | Gang | NoGang]:
        """Seat as many members as fit, a gang's all or none; return where they are, and what was found last."""
        if gathers(wish):
            gang = self.gangs.seat(wish, bias=self._bias(wish))
            if isinstance(gang, NoGang):
                return (), gang
            assert not short(self.site, wish.size, np.unique(gang.seats.rows)).any(), (
                "what is applied fits"
            )
            self.seating.enter(wish, gang.seats)
            return gang.seats.parts(), gang
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
        self.hold(holding)
        for part in holding.parts:
            self.seating.sit(holding.wish, part)

    def _find(self, given: Found) -> None:
        if given.wish.workload in self.holdings:
            raise ValueError(f"{given.wish.workload} has its seats already")
        self.resume(Holding(given.wish, found_parts(self.site, given), given.at))

    def hold(self, holding: Holding) -> None:
        """Note that a workload has its seats, now as the last that came to them."""
        if holding.wish.workload in self.holdings:
            self.forget(holding.wish.workload)
        self.holdings[holding.wish.workload] = holding
        self.roster.note(holding.wish.workload, here=True)
        self.ends.note(holding.wish, holding.parts)

    def release(self, workload: str) -> None:
        """Have a workload hold nothing any more."""
        holding = self.holdings.get(workload)
        if holding is not None:
            self.forget(workload)
            self.leave(holding.wish, holding.parts)

    def forget(self, workload: str) -> None:
        """Note that a workload has its seats no more."""
        del self.holdings[workload]
        self.ends.forget(workload)
        self.roster.note(workload, here=False)

    def _enter(self, wish: Wish, part: Part) -> None:
        assert not lacks(self.site, wish.size, part.row), "what is applied fits"
        self.seating.sit(wish, part)

    def leave(self, wish: Wish, parts: Sequence[Part]) -> None:
        """Have members sit there no more."""
        if len(parts) > 1:
            self.seating.leave(wish, seats_of(parts))
            return
        for part in reversed(parts):
            self.seating.stand(wish, part)

    def _bias(self, wish: Wish) -> Ints | None:
        return bias(self.site, wish, self.groups.get(wish.group))

    def _watt_costs(self) -> int:
        return watt_costs(self.site, self.watt_weight)

    def meet_models(self) -> None:
        """Have scores know of models that were not known before."""
        if len(self.site.models) != self._known_models:
            self._score_anew()

    def expect(self, given: Expected) -> None:
        """Have scores count on what is asked for from now on."""
        self._expected = list(given.sizes)
        self._score_anew()

    def _score_anew(self) -> None:
        self._known_models = len(self.site.models)
        self.mix = Mix(self._expected, self.site.models)
        self.views.expect(self.mix)
        for size, _ in sorted(self._expected, key=lambda one: -one[1])[:WARM_MAX]:
            self.views.of(size, Terms())
