"""One writer's memory of a site: inputs in, decisions out, and nothing else.

``apply`` is a function of the inputs so far: no clock, no chance, no set's order. The same inputs in the
same order give the same decisions, whether they come one by one, after a restart or in a replay.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np

from placement.domain.engine.choose import Choice, Chooser, NoChoice
from placement.domain.engine.ends import Ends
from placement.domain.engine.fit import beside, lacks, short
from placement.domain.engine.gang import Gang, Gangs, NoGang, gathers, told
from placement.domain.engine.holding import Holding, Missed, Seated
from placement.domain.engine.islands import Islands
from placement.domain.engine.knowing import know
from placement.domain.engine.losing import nodes_lost, seats_lost
from placement.domain.engine.mix import Mix
from placement.domain.engine.power import Power
from placement.domain.engine.prefer import bias, watt_costs
from placement.domain.engine.replace import moved
from placement.domain.engine.roster import Roster
from placement.domain.engine.seating import Seating, equal, seats_of
from placement.domain.engine.site import Ints, Part, Site
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.snapshot import HeldState, SiteState, Snapshot
from placement.domain.engine.tenancy import Tenancy
from placement.domain.engine.turns import Turns
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
    NodesLost,
    NodeTurned,
    Noted,
    Outcome,
    Placed,
    Refused,
    Seat,
    SeatsLost,
    Weighed,
    Wish,
)

__all__ = ["Engine", "Holding"]

WARM_MAX = 256
"""Sizes whose scores are computed before anybody asks, the most expected first."""


class Engine:
    """A site, who is where on it, and the decisions about both."""

    def __init__(self) -> None:
        self.site = Site()
        self.mix = Mix((), self.site.models)
        self.views = Views(self.site, self.mix)
        self.power, self.tenancy = Power(self.site), Tenancy(self.site)
        self.holdings, self.ends, self.roster = dict[str, Holding](), Ends(), Roster()
        self.groups: dict[str, dict[int, int]] = {}
        self.barred: Ints | None = None  # what keeps the one decided about from each row: bits int[row]
        self._choosing()
        self.expected: list[tuple[Size, int]] = []
        self._known_models = self.watt_weight = 0
        self.turns = Turns(self)

    def copy(self) -> "Engine":
        """Return an engine that decides as this one would; what becomes of either does not touch the other."""
        copy = self.twin()
        copy.barred = self.barred
        copy.turns.take(self.turns)
        return copy

    def twin(self) -> "Engine":
        """Return an engine with the same seats taken, in which nobody waits and nothing is booked."""
        copy = Engine()
        copy.site, copy.mix = self.site.copy(), self.mix
        copy.views, copy.power = self.views.copy(copy.site), self.power.copy(copy.site)
        copy.tenancy = self.tenancy.copy(copy.site)
        copy.holdings, copy.ends = self.holdings.copy(), self.ends.copy()
        copy.groups = {name: group.copy() for name, group in self.groups.items()}
        copy._choosing(self.gangs)
        copy.expected = self.expected.copy()
        copy._known_models, copy.watt_weight = self._known_models, self.watt_weight
        copy.turns = Turns(copy, counts=False)
        return copy

    def _choosing(self, known: Gangs | None = None) -> None:
        """Have what chooses and takes seats look at the site that this engine has."""
        parts = (self.site, self.power, self.tenancy)
        self.chooser = Chooser(self.site, self.views, self.power, self.tenancy)
        self.gangs = known.copy(*parts) if known else Gangs(*parts)
        self.chooser.reserved = self.gangs.reserved = lambda _size, _terms: self.barred
        self.seating, self.islands = Seating(*parts, self.groups), Islands(self.site)

    def snapshot(self) -> Snapshot:
        """Return all that decisions depend on."""
        return Snapshot(
            site=SiteState.of(self.site),
            power=self.power.state(),
            watt_weight=self.watt_weight,
            expected=self.expected.copy(),
            holdings=[HeldState(*holding) for holding in self.holdings.values()],
            turns=self.turns.state(),
        )

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> "Engine":
        """Return an engine that decides as the one did of which this was taken."""
        engine = cls()
        snapshot.site.into(engine.site)
        for held in snapshot.holdings:
            engine.resume(Holding(*msgspec.structs.astuple(held)))
        engine.power.restore(snapshot.power)
        engine.watt_weight = snapshot.watt_weight
        engine.expect(Expected(sizes=snapshot.expected))
        engine.turns.restore(snapshot.turns)
        return engine

    def apply(self, given: Input) -> Outcome:
        """Return what is decided, and have it be so. Raises ``ValueError`` for what cannot be."""
        match given:
            case Asked():
                return self.turns.asked(given)
            case NodesLost():
                return nodes_lost(self, given)
            case SeatsLost():
                return seats_lost(self, given)
            case Found():
                self.turns.found(given)
            case Moved():
                moved(self, given)
            case NodePut() | NodeTurned() | Capped() | Measured() | Expected() | Weighed():
                know(self, given)
                return self.turns.knew(given)
            case _:
                return self.turns.heard(given)
        return Noted()

    def seats(self, parts: tuple[Part, ...]) -> tuple[Seat, ...]:
        """Return where parts are, by the nodes' ids."""
        specs = self.site.specs
        return tuple(Seat(specs[one.row].node, one.cards, one.milli_each, one.slices) for one in parts)

    def seat(self, wish: Wish, barred: Ints | None = None) -> Seated | Missed:
        """Have all members sit where they sit best beside what is ``barred``; nobody where one does not fit."""
        before, self.barred = self.barred, barred
        parts, last = self.choose(wish)
        self.barred = before
        if isinstance(last, NoChoice | NoGang):
            self.leave(wish, parts)
            return Missed(last, len(parts), beside(self.site, wish.avoid, wish.only, barred))
        return Seated(tuple(parts), told(last))

    def would(self, wish: Wish) -> Placed | Refused:
        """Return what would be decided by room alone; nothing is taken."""
        match self.seat(wish, self.barred):
            case Missed(last=last):
                return Refused(workload=wish.workload, why=told(last))
            case Seated(parts, why):
                self.leave(wish, parts)
                return Placed(workload=wish.workload, seats=self.seats(parts), why=why)

    @contextmanager
    def without(self, workload: str) -> Iterator[None]:
        """Have it be as if a workload had ended, while this lasts."""
        holding = self.holdings[workload]
        self.leave(holding.wish, holding.parts)
        try:
            yield
        finally:
            self.sit(holding.wish, holding.parts)

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
        bars, self.barred = self.barred, beside(self.site, wish.avoid, wish.only, self.barred)
        while True:
            costs, bias = watt_costs(self.site, self.watt_weight), self._bias(wish)
            opens = self.islands.costs()
            if opens is not None:
                bias = opens if bias is None else bias + opens
            chosen = self.chooser.choose(wish.size, wish.terms, watt_costs=costs, bias=bias)
            if isinstance(chosen, NoChoice):
                break
            self._enter(wish, chosen.part)
            parts.append(chosen.part)
            if len(parts) == wish.members:
                break
        self.barred = bars
        return parts, chosen

    def resume(self, holding: Holding) -> None:
        """Have a workload sit where it sat: nothing is asked, its nodes may be closed by now."""
        self.hold(holding)
        self.sit(holding.wish, holding.parts)

    def hold(self, holding: Holding) -> None:
        """Note that a workload has its seats, now as the last that came to them."""
        if holding.wish.workload in self.holdings:
            self.forget(holding.wish.workload)
        self.holdings[holding.wish.workload] = holding
        self.roster.note(holding.wish.workload, here=True)
        self.ends.note(holding.wish, holding.parts)
        self.turns.held(holding)

    def forget(self, workload: str) -> Holding:
        """Note that a workload's members sit nowhere any more."""
        holding = self.holdings.pop(workload)
        self.ends.forget(workload)
        self.roster.note(workload, here=False)
        self.turns.left(holding)
        return holding

    def unseat(self, workload: str) -> Holding | None:
        """Have a workload hold nothing any more; return what it held."""
        if workload not in self.holdings:
            return None
        holding = self.forget(workload)
        self.leave(holding.wish, holding.parts)
        return holding

    def _enter(self, wish: Wish, part: Part) -> None:
        assert not lacks(self.site, wish.size, part.row), "what is applied fits"
        self.seating.sit(wish, part)

    def sit(self, wish: Wish, parts: Sequence[Part]) -> None:
        """Have members sit where they sat."""
        if equal(parts):
            self.seating.enter(wish, seats_of(parts), back=True)
            return
        for part in parts:
            self.seating.sit(wish, part)

    def leave(self, wish: Wish, parts: Sequence[Part]) -> None:
        """Have members sit there no more."""
        if equal(parts):
            self.seating.leave(wish, seats_of(parts))
            return
        for part in reversed(parts):
            self.seating.stand(wish, part)

    def _bias(self, wish: Wish) -> Ints | None:
        return bias(self.site, wish, self.groups.get(wish.group))

    def meet_models(self) -> None:
        """Have scores know of models that were not known before."""
        if len(self.site.models) != self._known_models:
            self._score_anew()

    def expect(self, given: Expected) -> None:
        """Have scores count on what is asked for from now on."""
        self.expected = list(given.sizes)
        self._score_anew()

    def _score_anew(self) -> None:
        self._known_models = len(self.site.models)
        self.mix = Mix(self.expected, self.site.models)
        self.views.expect(self.mix)
        for size, _ in sorted(self.expected, key=lambda one: -one[1])[:WARM_MAX]:
            self.views.of(size, Terms())
