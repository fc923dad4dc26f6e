"""The engine against a small world in which everything is tried: whatever comes in, in whatever order."""

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from placement.domain.engine.engine import Engine
from placement.domain.engine.relax import relaxed
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.wish import (
    Asked,
    Capped,
    Expected,
    Input,
    Measured,
    NodePut,
    NodeTurned,
    Outcome,
    Placed,
    Refused,
    Released,
    Wish,
)

from tests.domain.placement_world import World

NODES = [f"n{number}" for number in range(6)]
MODELS = st.sampled_from(["", "H100", "L40S"])
PLACES = st.sampled_from(["FR", "FR", "DE"])
ASSURANCES = st.lists(st.sampled_from(["hds", "secnumcloud"]), unique=True, max_size=2).map(tuple)
DOMAINS = {"rack": ["r0", "r1", "r2"], "pdu": ["p0", "p1"], "nvlink": ["v0", "v1"], "site": ["site"]}
LEVEL_DOMAINS = st.sampled_from(
    [(level, name) for level in ("rack", "pdu", "site") for name in DOMAINS[level]]
)
WATTS = st.sampled_from([100, 150, 200, 300, 450, 700, 1_000])

places = st.fixed_dictionaries(
    {"rack": st.sampled_from(DOMAINS["rack"]), "pdu": st.sampled_from(DOMAINS["pdu"])},
    optional={"nvlink": st.sampled_from(DOMAINS["nvlink"])},
)
specs = st.builds(
    NodeSpec,
    node=st.sampled_from(NODES),
    model=MODELS,
    gpus=st.sampled_from([0, 1, 2, 3, 4, 4]),
    cpu_milli=st.sampled_from([0, 3, 7, 12]),
    memory_mib=st.sampled_from([0, 3, 7, 12]),
    jurisdiction=PLACES,
    assurances=ASSURANCES,
    slots=st.sampled_from([1, 3, 9, 9]),
    place=places,
    idle_w=st.sampled_from([0, 20]),
    gpu_w=st.sampled_from([0, 50, 100]),
)
gpus = st.one_of(
    st.sampled_from([0, 1, 1, 2, 3, 4]).map(lambda count: {"gpus": count}),
    st.sampled_from([100, 250, 400, 500, 750, 999]).map(lambda milli: {"gpu_milli": milli}),
)
sizes = st.builds(
    lambda cards, cpu, memory, models: Size(**cards, cpu_milli=cpu, memory_mib=memory, models=models),
    gpus,
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([(), (), (), ("H100",), ("L40S",), ("H100", "B200")]),
)
tenants = st.sampled_from(["ada", "bob"])
plain = st.builds(Terms, tenant=tenants)
strict = st.builds(
    Terms,
    jurisdictions=st.sampled_from([(), ("FR",), ("DE",), ("FR", "IT")]),
    assurances=st.sampled_from([(), ("hds",), ("hds", "secnumcloud"), ("c5",)]),
    tenant=tenants,
    isolation=st.sampled_from(["", "", "node", "nvlink", "rack"]),
)
wishes = st.builds(
    lambda size, on, group, priority: Wish(
        workload="",
        organization=on.tenant,
        project="p",
        kind="job",
        size=size,
        terms=on,
        group=group,
        priority=priority,
    ),
    sizes,
    st.one_of(plain, plain, strict),
    st.sampled_from(["", "", "e1"]),
    st.integers(0, 2),
)


def columns(engine: Engine) -> dict[str, list[int]]:
    """Return all that an engine has computed from what it was told, in a form that compares."""
    site, found = engine.site, {}
    for name in ("free", "cards", "cpu", "memory", "slots", "closed", "silent", "taken", "tenant"):
        found[name] = getattr(site, name)[: site.rows].tolist()
    for level, watts in engine.power.planned.items():
        found[f"planned_{level}"] = watts.tolist()
        found[f"room_{level}"] = engine.power.room_at(level, site.every).tolist()
    return found


def seen(engine: Engine, size: Size, on: Terms) -> tuple[list[int], ...]:
    """Return the scores of a view as they count: of nodes that fit."""
    view = engine.views.of(size, on)
    parts = [view.fails, view.counts, view.needs, view.scored.score]
    parts += [np.where(view.fails == 0, part, 0) for part in view.scored[1:4]]
    parts += [view.awake.score] if view.awake else []
    return tuple(part.tolist() for part in parts)


class SmallSite(RuleBasedStateMachine):
    """Everything that can come to a site, each step compared with a world in which everything is tried."""

    def __init__(self) -> None:
        super().__init__()
        self.engine, self.world = Engine(), World()
        self.log: list[tuple[Input, Outcome]] = []
        self.kept: tuple[bytes, int] | None = None
        self.asked: dict[tuple[Size, Terms], None] = {}
        self.number = 0

    def tell(self, given: Input) -> Outcome:
        outcome = self.engine.apply(given)
        self.log.append((given, outcome))
        self.world.hear(given, outcome)
        return outcome

    @initialize(first=st.lists(specs, min_size=1, max_size=6, unique_by=lambda spec: spec.node))
    def build(self, first: list[NodeSpec]) -> None:
        for spec in first:
            self.tell(NodePut(spec=spec))

    @rule(spec=specs)
    def put(self, spec: NodeSpec) -> None:
        """A node that runs work keeps what that work was promised: see the next test but one."""
        there = any(seat.node == spec.node for _, seat in self.world.seats())
        if there:
            old = self.world.nodes[spec.node]
            kept = {f: getattr(old, f) for f in ("model", "jurisdiction", "assurances")}
            spec = msgspec.structs.replace(spec, **kept)
        before = columns(self.engine)
        try:
            self.tell(NodePut(spec=spec))
        except ValueError:
            assert there
            assert columns(self.engine) == before

    @rule(node=st.sampled_from(NODES), closed=st.booleans(), silent=st.booleans())
    def turn(self, node: str, closed: bool, silent: bool) -> None:
        if node in self.world.nodes:
            self.tell(NodeTurned(node=node, closed=closed, silent=silent and not closed))

    @rule(at=LEVEL_DOMAINS, watts=st.none() | WATTS, told=st.sampled_from([Capped, Measured]))
    def watts(self, at: tuple[str, str], watts: int | None, told: type[Capped | Measured]) -> None:
        if told is Capped:
            self.tell(Capped(level=at[0], domain=at[1], watts=watts))
        else:
            self.tell(Measured(level=at[0], domain=at[1], watts=watts or 0))

    @rule(expected=st.lists(st.tuples(sizes, st.integers(0, 5)), max_size=4))
    def expect(self, expected: list[tuple[Size, int]]) -> None:
        self.tell(Expected(sizes=expected))

    @rule(few=st.lists(wishes, min_size=1, max_size=4))
    def ask(self, few: list[Wish]) -> None:
        for wish in few:
            self.wish_for(wish)

    @rule(wish=wishes, times=st.integers(2, 6))
    def fill(self, wish: Wish, times: int) -> None:
        for _ in range(times):
            self.wish_for(wish)

    def wish_for(self, wish: Wish) -> None:
        self.number += 1
        wish = msgspec.structs.replace(wish, workload=f"w{self.number}", restart_cost=self.number % 2)
        self.asked[wish.size, wish.terms] = None
        fits, world = self.world.where(wish), self.world
        before = columns(self.engine)
        outcome = self.tell(Asked(wish=wish, at=self.number))
        assert isinstance(outcome, Placed | Refused)
        assert sum(outcome.why.failed) == len(world.nodes)
        assert outcome.why.failed[-1] == len(fits)
        if isinstance(outcome, Placed):
            assert outcome.seats[0].node in fits
            return
        assert fits == []
        assert columns(self.engine) == before
        self.check_relaxation(world, wish, outcome)

    def check_relaxation(self, world: World, wish: Wish, outcome: Refused) -> None:
        found, smallest = outcome.why.relaxation, world.smallest(wish)
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

    @precondition(lambda self: self.world.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        workload = data.draw(st.sampled_from(sorted(self.world.held)))
        self.tell(Released(workload=workload, at=self.number))

    @precondition(lambda self: self.kept is None)
    @rule()
    def keep(self) -> None:
        """Write the engine down, as it is now."""
        self.kept = (msgspec.msgpack.encode(self.engine.snapshot()), len(self.log))

    @invariant()
    def what_it_counts_up_is_what_it_would_count_anew(self) -> None:
        anew = Engine.from_snapshot(self.engine.snapshot())
        assert columns(anew) == columns(self.engine)
        assert anew.groups == self.engine.groups
        for size, on in self.asked:
            assert seen(anew, size, on) == seen(self.engine, size, on)

    @invariant()
    def nothing_is_given_twice_and_nobody_is_where_it_must_not_be(self) -> None:
        world = self.world
        for number, node in enumerate(world.nodes):
            free = world.free(node)
            assert all(0 <= left <= 1_000 for left in free)
            assert self.engine.site.free[number, : len(free)].tolist() == free
        for wish, seat in world.seats():
            spec = world.nodes[seat.node]
            assert not wish.size.models or spec.model in wish.size.models
            assert not wish.terms.jurisdictions or spec.jurisdiction in wish.terms.jurisdictions
            assert set(wish.terms.assurances) <= set(spec.assurances)
            assert world.apart(seat.node, wish.terms)

    def teardown(self) -> None:
        """Replay what came in, from nothing and from what was kept: the same comes out, bit for bit."""
        self.replay(Engine(), self.log)
        if self.kept is not None:
            kept, at = self.kept
            self.replay(
                Engine.from_snapshot(msgspec.msgpack.decode(kept, type=Snapshot)), self.log[at:]
            )

    def replay(self, engine: Engine, log: list[tuple[Input, Outcome]]) -> None:
        for given, outcome in log:
            again = engine.apply(given)
            assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(outcome)
        assert engine.snapshot() == self.engine.snapshot()


class LargeSearch(SmallSite):
    """The same, for as long as it takes to be sure."""


# Drawing a step is slow where the machine is busy; each step is bounded.
FEW = settings(max_examples=15, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow])
TestSmallSite = SmallSite.TestCase
TestSmallSite.settings = FEW
TestLargeSearch = pytest.mark.timeout(3_600)(pytest.mark.long(LargeSearch.TestCase))
TestLargeSearch.settings = settings(FEW, max_examples=2_000)
