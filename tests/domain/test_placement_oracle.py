"""The engine against a small world in which everything is tried: whatever comes in, in whatever order."""

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from placement.domain.engine.defrag import plan
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.wish import Input, NodePut, NodeTurned, Placed, Released, Wish

from tests.domain.placement_draws import FLAVOURS, Draws, Flavour
from tests.domain.placement_twin import Twin

pytestmark = pytest.mark.slow

SEEDS, SEEDS_LONG = 4, 2_000
STEPS = 40


def befall(twin: Twin, given: Input) -> None:
    """Tell both what befalls the site, if it can: work stays what it was promised to be on."""
    if isinstance(given, NodeTurned) and given.node not in twin.world.nodes:
        return
    if isinstance(given, NodePut):
        given = NodePut(spec=as_promised(twin, given.spec))
    try:
        twin.tell(given)
    except ValueError:
        assert isinstance(given, NodePut)


def as_promised(twin: Twin, spec: NodeSpec) -> NodeSpec:
    """Return a node built otherwise, but for what the work on it asked for."""
    if not any(seat.node == spec.node for _, seat in twin.world.seats()):
        return spec
    old = twin.world.nodes[spec.node]
    kept = {field: getattr(old, field) for field in ("model", "jurisdiction", "assurances")}
    return msgspec.structs.replace(spec, **kept)


def run(seed: int, flavour: Flavour) -> None:
    """Let a site of a flavour live for a while, and compare at each step."""
    draws, twin = Draws(seed, flavour), Twin()
    for given in draws.site():
        twin.tell(given)
    for step in range(STEPS):
        draw = draws.chance.random()
        if draw < 0.15:
            befall(twin, draws.happens())
        elif draw < 0.25 and twin.world.held:
            workload = draws.chance.choice(list(twin.world.held))
            twin.tell(Released(workload=workload, at=twin.number))
        elif draw < 0.28:
            twin.keep()
        elif draw < 0.33:
            for move in plan(twin.engine, draws.size(), moves_max=3).moves:
                twin.tell(move)
        else:
            twin.ask(draws.wish())
        if step % 8 == 0:
            twin.check_counts()
            twin.check_promises()
    twin.check_counts()
    twin.check_promises()
    twin.check_replay()


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_the_engine_decides_is_what_trying_everything_says(seed: int, flavour: Flavour) -> None:
    run(seed, flavour)


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_thousands_of_small_sites_decide_what_trying_everything_says(flavour: Flavour) -> None:
    for seed in range(SEEDS, SEEDS_LONG):
        run(seed, flavour)


class SmallSite(RuleBasedStateMachine):
    """The same, where Hypothesis says in which order, so that it can say what little of it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin()

    @initialize(seed=st.integers(0, 2**16), flavour=st.sampled_from(FLAVOURS))
    def build(self, seed: int, flavour: Flavour) -> None:
        self.draws = Draws(seed, flavour)
        for given in self.draws.site():
            self.twin.tell(given)

    @rule()
    def happen(self) -> None:
        befall(self.twin, self.draws.happens())

    @rule(times=st.integers(1, 4))
    def fill(self, times: int) -> None:
        wish: Wish = self.draws.wish()
        for _ in range(times):
            self.twin.ask(wish)

    @rule()
    def ask(self) -> None:
        self.twin.ask(self.draws.wish())

    @precondition(lambda self: self.twin.world.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        workload = data.draw(st.sampled_from(list(self.twin.world.held)))
        self.twin.tell(Released(workload=workload, at=self.twin.number))

    @precondition(lambda self: self.twin.kept is None)
    @rule()
    def keep(self) -> None:
        self.twin.keep()

    @invariant()
    def what_is_counted_up_is_what_would_be_counted_anew(self) -> None:
        self.twin.check_counts()

    @invariant()
    def nothing_is_given_twice_and_nobody_is_where_it_must_not_be(self) -> None:
        self.twin.check_promises()

    def teardown(self) -> None:
        self.twin.check_replay()


# Drawing a step is slow where the machine is busy; each step is bounded.
FEW = settings(max_examples=10, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow])
TestSmallSite = SmallSite.TestCase
TestSmallSite.settings = FEW


def test_a_site_that_is_drawn_is_neither_empty_nor_idle() -> None:
    placed = refused = 0
    for flavour in FLAVOURS:
        draws, twin = Draws(0, flavour), Twin()
        for given in draws.site():
            twin.tell(given)
        outcomes = [twin.ask(draws.wish()) for _ in range(STEPS)]
        placed += sum(isinstance(outcome, Placed) for outcome in outcomes)
        refused += sum(not isinstance(outcome, Placed) for outcome in outcomes)
    assert min(placed, refused) > len(FLAVOURS)
