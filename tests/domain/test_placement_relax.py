"""A refusal names the smallest single change that would have admitted it, and doing it does."""

import numpy as np
import pytest
from msgspec.structs import replace
from placement.domain.engine.ends import Ends
from placement.domain.engine.engine import Engine
from placement.domain.engine.fit import BIT
from placement.domain.engine.relax import relaxed, search
from placement.domain.engine.site import Part
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import (
    Asked,
    Capped,
    Expected,
    NodeTurned,
    Placed,
    Refused,
    Relaxation,
    Released,
    Weighed,
    Wish,
)

from tests.domain.placement_draws import Draws, Flavour
from tests.domain.placement_sites import node, placed, refused, site, wish
from tests.domain.placement_twin import Twin

pytestmark = pytest.mark.slow

OPERATORS = ("ready", "heard", "power", "workload")


def relaxation(engine: Engine, wanted: Wish) -> Relaxation | None:
    """Return what a refusal names, after doing it on a copy has admitted the wish."""
    found = refused(engine, wanted).why.relaxation
    if found is not None:
        inputs, less = relaxed(engine, wanted, found)
        trial = engine.copy()
        for given in inputs:
            trial.apply(given)
        assert isinstance(trial.apply(Asked(wish=less, at=0)), Placed)
    return found


def full(nodes: int = 2) -> Engine:
    """Return a site on which every GPU is somebody's, one workload a node, the first of low priority."""
    engine = site(*(node(f"n{number}") for number in range(nodes)))
    for number in range(nodes):
        placed(engine, wish(f"w{number}", Size(gpus=8), priority=number))
    return engine


def test_who_asks_for_more_gpus_than_a_node_has_left_is_told_how_many_fewer() -> None:
    engine = site(node("n0"), node("n1"))
    placed(engine, wish("a", Size(gpus=3)))
    placed(engine, wish("b", Size(gpus=6), avoid=()))
    assert relaxation(engine, wish("c", Size(gpus=8))) == Relaxation("gpus", 3)


def test_less_cpu_is_named_before_fewer_gpus_wherever_it_does() -> None:
    engine = site(node("n0", cpu_milli=10_000), node("n1", gpus=7))
    assert relaxation(engine, wish("a", Size(gpus=8, cpu_milli=12_000))) == Relaxation("cpu", 2_000)


def test_a_whole_gpu_may_be_relaxed_to_the_largest_share_that_is_left() -> None:
    engine = site(node("n0", gpus=1))
    placed(engine, wish("a", Size(gpu_milli=300)))
    assert relaxation(engine, wish("b", Size(gpus=1))) == Relaxation("gpu_milli", 300)


def test_a_node_that_is_closed_is_named_where_nothing_the_asker_gives_up_would_do() -> None:
    engine = full()
    engine.apply(Released(workload="w1", at=0))
    engine.apply(NodeTurned(node="n1", closed=True))
    assert relaxation(engine, wish("a", Size(gpus=1))) == Relaxation("ready", 1, ("n1",))


def test_the_one_cap_that_is_short_is_named_with_the_watts_it_lacks() -> None:
    engine = site(node("n0"), node("n1"))
    engine.apply(Capped(level="rack", domain="rack-of-n0", watts=1_000))
    engine.apply(Capped(level="pdu", domain="p0", watts=1_500))
    found = relaxation(engine, wish("a", Size(gpus=1)))
    assert found == Relaxation("power", 200, ("pdu", "p0"))


def test_the_workload_worth_least_is_named_where_only_an_end_would_do() -> None:
    assert relaxation(full(), wish("a", Size(gpus=8))) == Relaxation("workload", 1, ("w0",))


def test_the_end_of_work_elsewhere_under_both_caps_that_are_short_is_named() -> None:
    nodes = [node(f"n{number}", gpus=2, place={"rack": "r0", "pdu": "p0"}) for number in range(2)]
    engine = site(*nodes)
    placed(engine, wish("a", Size(gpus=2)))
    engine.apply(Capped(level="rack", domain="r0", watts=2_400))
    engine.apply(Capped(level="pdu", domain="p0", watts=2_400))
    engine.apply(NodeTurned(node="n0", closed=True))
    assert relaxation(engine, wish("b", Size(gpus=1))) == Relaxation("workload", 1, ("a",))


def test_several_members_of_which_some_fit_are_told_how_many_fewer() -> None:
    engine = site(*(node(f"n{number}") for number in range(3)))
    placed(engine, wish("a", Size(gpus=1)))
    found = relaxation(engine, wish("b", Size(gpus=8), members=5))
    assert found == Relaxation("members", 3)


def test_several_members_of_which_none_fits_are_told_what_lets_all_of_them_in() -> None:
    engine = site(*(node(f"n{number}", memory_mib=1_000) for number in range(2)))
    found = relaxation(engine, wish("a", Size(gpus=4, memory_mib=1_200), members=4))
    assert found == Relaxation("memory", 700)


@pytest.mark.parametrize("flavour", ["room", "alone"])
@pytest.mark.parametrize("seed", [0, 2, 3, 4])
def test_for_several_members_no_smaller_change_of_what_is_asked_for_lets_all_of_them_in(
    seed: int, flavour: Flavour
) -> None:
    draws, twin = Draws(seed, flavour), Twin()
    for given in draws.site():
        twin.tell(given)
    named = 0
    for _ in range(15):
        one = draws.wish()
        twin.ask(one)
        wanted = replace(one, workload="gang", members=draws.chance.choice([2, 3]), group="")
        outcome = twin.engine.copy().apply(Asked(wish=wanted, at=0))
        fits = twin.world.seats_all(wanted, wanted.members)
        assert isinstance(outcome, Placed) == fits
        if not isinstance(outcome, Refused):
            continue
        fewer = [n for n in range(1, wanted.members) if twin.world.seats_all(wanted, n)]
        smallest = ("members", wanted.members - max(fewer)) if fewer else None
        for kind, amount, changes in twin.world.changes(wanted) if not smallest else ():
            if kind in OPERATORS:
                break
            if any(world.seats_all(changed, wanted.members) for _, world, changed in changes):
                smallest = (kind, amount)
                break
        found = relaxation(twin.engine, wanted)
        if smallest is None:
            assert found is None or found.kind in OPERATORS
        else:
            named += 1
            assert found is not None
            assert (found.kind, found.amount) == smallest
    assert named


def test_nothing_is_named_where_no_single_change_would_do() -> None:
    engine = site(node("n0", gpus=0, cpu_milli=0))
    assert relaxation(engine, wish("a", Size(gpus=1, cpu_milli=1_000))) is None


def test_a_share_takes_a_card_that_is_awake_where_there_are_no_watts_for_another() -> None:
    engine = site(node("n0", gpus=2))
    placed(engine, wish("a", Size(gpu_milli=500)))
    # Halves are all that is expected: a quarter is best taken from the idle card, and leaves a half whole.
    engine.apply(Expected(sizes=[(Size(gpu_milli=500), 1)]))
    assert placed(engine.copy(), wish("b", Size(gpu_milli=250))).seats[0].cards == (1,)
    engine.apply(Capped(level="site", domain="site", watts=1_200))
    assert placed(engine, wish("b", Size(gpu_milli=250))).seats[0].cards == (0,)
    assert engine.power.breaches() == []


def test_a_node_that_lacks_watts_as_well_is_not_named_where_others_fit_but_are_reserved() -> None:
    engine = site(node("n0"), node("n1", cpu_milli=1_000))
    engine.apply(Capped(level="rack", domain="rack-of-n1", watts=600))
    kept = np.array([BIT["reserved"], 0])
    engine.chooser.reserved = lambda _size, _terms: kept
    found = refused(engine, wish("a", Size(gpus=1, cpu_milli=2_000))).why.relaxation
    assert found is None


def test_a_replica_stands_apart_from_the_others_however_dear_a_watt_is() -> None:
    engine = site(node("n0"), node("n1", gpu_w=100, idle_w=100))
    engine.apply(Weighed(watt=1_000))
    first = placed(engine, wish("a", Size(gpus=1), group="e", kind="endpoint"))
    second = placed(engine, wish("b", Size(gpus=1), group="e", kind="endpoint"))
    assert [first.seats[0].node, second.seats[0].node] == ["n1", "n0"]


def test_trying_one_by_one_finds_what_is_computed() -> None:
    engine = full()
    engine.apply(Released(workload="w1", at=0))
    placed(engine, wish("b", Size(gpus=3, cpu_milli=60_000)))
    for wanted in (
        wish("c", Size(gpus=8)),
        wish("c", Size(gpus=2, cpu_milli=5_000)),
        wish("c", Size(gpus=1, memory_mib=70_000)),
        wish("c", Size(gpus=1), Terms(jurisdictions=("DE",))),
        wish("c", Size(gpus=1), Terms(assurances=("hds",))),
        wish("c", Size(gpus=1), Terms(tenant="x", isolation="node")),
    ):
        assert relaxation(engine, wanted) == search(engine, wanted)


def test_the_end_of_who_is_alone_in_a_rack_is_found_however_many_share_its_other_parts() -> None:
    engine = site(
        node("n0", place={"rack": "r0", "nvlink": "v0"}),
        node("n1", place={"rack": "r1", "nvlink": "v0"}),
    )
    placed(engine, wish("alone", Size(gpus=4), Terms(tenant="ada", isolation="rack")))
    for number in range(24):
        assert placed(engine, wish(f"s{number}", Size(gpu_milli=300))).seats[0].node == "n1"
    found = relaxation(engine, wish("b", Size(gpus=3), Terms(tenant="bob")))
    assert found == Relaxation("workload", 1, ("alone",))


def test_an_ask_that_is_only_weighed_takes_nothing() -> None:
    engine = full()
    before = engine.snapshot()
    engine.would(wish("a", Size(gpus=8)))
    refused(engine, wish("b", Size(gpus=8)))
    assert engine.snapshot() == before


def test_what_was_tried_for_several_members_is_undone() -> None:
    engine = full()
    engine.apply(NodeTurned(node="n0", closed=True))
    engine.apply(Capped(level="site", domain="site", watts=1_000))
    engine.apply(Released(workload="w1", at=0))
    for size, members in ((Size(gpus=8), 2), (Size(gpus=1), 2), (Size(gpus=4), 4)):
        before = engine.snapshot()
        refused(engine, wish("a", size, members=members))
        assert engine.snapshot() == before
    engine.apply(Capped(level="site", domain="site", watts=1_000 + 12 * 700))
    engine.apply(NodeTurned(node="n1", closed=True, silent=True))
    found = relaxation(engine, wish("a", Size(gpu_milli=500), members=2))
    assert found is None
    engine.apply(NodeTurned(node="n1", closed=False, silent=True))
    before = engine.snapshot()
    found = relaxation(engine, wish("a", Size(gpus=2), members=2))
    assert found == Relaxation("heard", 1, ("n1",))
    assert engine.snapshot() == before


@pytest.mark.parametrize("ended", [10, 400, 499])
def test_what_ends_would_free_is_known_however_many_have_ended(
    ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Ends()
    monkeypatch.setattr("placement.domain.engine.ends.UNSORTED_MAX", 100)
    for number in range(500):
        if number in {50, 300}:
            list(ends.by_worth(lambda some: some < 0))
        parts = [Part(number, (0, 1), 1_000), Part(number + 1, (0, 1), 1_000)]
        ends.note(wish(f"w{number}", Size(gpus=2), members=2, priority=number % 7), parts)
    for number in range(ended):
        ends.forget(f"w{number}")
    lines = ends.lines()
    assert sorted(set(lines.row[lines.row >= 0])) == list(range(ended, 501))
    found = list(
        dict.fromkeys(workload for _, workload in ends.by_worth(lambda some: lines.row[some] >= 0))
    )
    by_worth = sorted(range(ended, 500), key=lambda number: (number % 7, -number))
    assert found == [f"w{number}" for number in by_worth]
    assert ends.on(np.arange(501) == 500) == ["w499"]
