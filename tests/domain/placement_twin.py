"""An engine and the small world beside it: both hear the same, and after each step are compared."""

import msgspec
import numpy as np
from placement.domain.engine.engine import Engine
from placement.domain.engine.relax import relaxed
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.wish import Asked, Input, NodePut, Outcome, Placed, Refused, Wish

from tests.domain.placement_world import World


def columns(engine: Engine) -> dict[str, list[int]]:
    """Return all that an engine has computed from what it was told, in a form that compares."""
    site, found = engine.site, {}
    found["slices"], found["mig"] = (
        np.where(site.any_mig, one[: site.rows], 0).sum(1).tolist() for one in (site.slices, site.mig)
    )
    for name in ("free", "cards", "cpu", "memory", "slots", "closed", "silent", "taken", "tenant"):
        found[name] = getattr(site, name)[: site.rows].tolist()
    for level, watts in engine.power.planned.items():
        found[f"planned_{level}"] = watts.tolist()
        found[f"room_{level}"] = engine.power.room_at(level, site.every).tolist()
    return found


def seen(engine: Engine, size: Size, on: Terms) -> tuple[list[int], ...]:
    """Return the scores of a view as far as they count: of nodes that fit."""
    view = engine.views.of(size, on)
    parts = [view.fails, view.counts, view.needs, view.scored.score]
    parts += [np.where(view.fails == 0, part, 0) for part in view.scored[1:4]]
    parts += [view.awake.score] if view.awake else []
    return tuple(part.tolist() for part in parts)


class Twin:
    """The engine, the world, and the log of both."""

    def __init__(self) -> None:
        self.engine, self.world = Engine(), World()
        self.log: list[tuple[Input, Outcome]] = []
        self.kept: tuple[bytes, int] | None = None
        self.asked: dict[tuple[Size, Terms], None] = {}
        self.number = 0

    def tell(self, given: Input) -> Outcome:
        """Tell both. A node that cannot be built so is told to neither, and changes nothing."""
        before = columns(self.engine)
        try:
            outcome = self.engine.apply(given)
        except ValueError:
            assert isinstance(given, NodePut)
            assert any(seat.node == given.spec.node for _, seat in self.world.seats())
            assert columns(self.engine) == before
            raise
        self.log.append((given, outcome))
        self.world.hear(given, outcome)
        return outcome

    def ask(self, wish: Wish) -> Placed | Refused:
        """Ask for one member, and hold the answer to what trying everything says."""
        self.number += 1
        wish = msgspec.structs.replace(wish, workload=f"w{self.number}")
        self.asked[wish.size, wish.terms] = None
        fits, before = self.world.where(wish), columns(self.engine)
        lacks = self.engine.chooser.lacks(wish.size, wish.terms, self.engine.site.every)
        outcome = self.tell(Asked(wish=wish, at=self.number))
        assert isinstance(outcome, Placed | Refused)
        assert [
            node for node, lack in zip(self.world.nodes, lacks.tolist(), strict=True) if not lack
        ] == fits
        assert sum(outcome.why.failed) == len(self.world.nodes)
        assert outcome.why.failed[-1] == len(fits)
        if isinstance(outcome, Placed):
            assert outcome.seats[0].node in fits
            assert self.world.short(outcome.seats[0].node, 0) == {}
        else:
            assert fits == []
            assert columns(self.engine) == before
            self.check_relaxation(wish, outcome)
        return outcome

    def check_relaxation(self, wish: Wish, outcome: Refused) -> None:
        """Hold the smallest relaxation to the definition, and do it: it admits."""
        found, smallest = outcome.why.relaxation, self.world.smallest(wish)
        if found is None or smallest is None:
            assert (found, smallest) == (None, None)
            return
        assert (found.kind, found.amount) == smallest[:2]
        assert found.names in smallest[2]
        inputs, less = relaxed(self.engine, wish, found)
        trial = self.engine.copy()
        for given in inputs:
            trial.apply(given)
        assert isinstance(trial.apply(Asked(wish=less, at=self.number)), Placed)

    def keep(self) -> None:
        """Write the engine down, as it is now."""
        self.kept = (msgspec.msgpack.encode(self.engine.snapshot()), len(self.log))

    def check_counts(self) -> None:
        """What is counted up is what would be counted anew."""
        anew = Engine.from_snapshot(self.engine.snapshot())
        assert columns(anew) == columns(self.engine)
        assert anew.groups == self.engine.groups
        for size, on in self.asked:
            assert seen(anew, size, on) == seen(self.engine, size, on)

    def check_promises(self) -> None:
        """Nothing is given twice, and nobody is where it must not be."""
        world = self.world
        for row, node in enumerate(world.nodes):
            free = world.free(node)
            assert all(0 <= left <= 1_000 for left in free)
            assert self.engine.site.free[row, : len(free)].tolist() == free
            for card, taken in world.cut(node).items():
                assert len(taken) == len(set(taken)), "no slice is given twice"
                full = int(self.engine.site.mig[row, card])
                assert int(self.engine.site.slices[row, card]) == full - sum(1 << one for one in taken)
        for wish, seat in world.seats():
            spec = world.nodes[seat.node]
            assert not wish.size.models or spec.model in wish.size.models
            assert not wish.terms.jurisdictions or spec.jurisdiction in wish.terms.jurisdictions
            assert set(wish.terms.assurances) <= set(spec.assurances)
            assert world.apart(seat.node, wish.terms)

    def check_replay(self) -> None:
        """What came in gives the same again, bit for bit: from nothing, and from what was kept."""
        self._replay(Engine(), self.log)
        if self.kept is not None:
            kept, at = self.kept
            self._replay(
                Engine.from_snapshot(msgspec.msgpack.decode(kept, type=Snapshot)), self.log[at:]
            )

    def _replay(self, engine: Engine, log: list[tuple[Input, Outcome]]) -> None:
        for given, outcome in log:
            assert msgspec.msgpack.encode(engine.apply(given)) == msgspec.msgpack.encode(outcome)
        assert engine.snapshot() == self.engine.snapshot()
