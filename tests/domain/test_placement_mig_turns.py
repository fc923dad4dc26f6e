"""MIG instances over time: who waits for one is told when, who loses one gets another, what was decided stands."""

from placement.domain.engine.engine import Engine
from placement.domain.engine.redo import Decided, have
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size
from placement.domain.engine.whatif import more_like, what_if
from placement.domain.engine.wish import (
    Advanced,
    Asked,
    Input,
    NodesLost,
    NodeTurned,
    Placed,
    Queued,
    Released,
    Reseated,
    Seat,
    SeatsLost,
    Ticked,
)

from tests.domain.placement_sites import ask, node, placed, site, wish

THREE, FOUR, SEVEN = Size(mig="3g.40gb"), Size(mig="4g.40gb"), Size(mig="7g.80gb")


def cut(name: str) -> NodeSpec:
    """Return a node of one GPU in MIG mode."""
    return node(name, gpus=1, mig=(0,))


def test_who_waits_for_an_instance_is_told_its_start_and_begins_then() -> None:
    engine = site(cut("n0"))
    placed(engine, wish("small", THREE, run_ms=5_000), at=0)
    placed(engine, wish("half", FOUR, run_ms=9_000), at=0)
    waits = ask(engine, wish("waits", SEVEN, queue=True, run_ms=1_000), at=0)
    assert isinstance(waits, Queued)
    assert waits.start is not None
    assert waits.start >= 9_000
    later = ask(engine, wish("later", THREE, queue=True, run_ms=600_000), at=1)
    assert isinstance(later, Queued)
    engine.apply(Released(workload="small", at=5_000))
    assert "later" not in engine.holdings
    outcome = engine.apply(Released(workload="half", at=9_000))
    assert isinstance(outcome, Advanced)
    assert [one.workload for one in outcome.outcomes if isinstance(one, Placed)] == ["waits"]
    engine.apply(Ticked(at=9_500))
    outcome = engine.apply(Released(workload="waits", at=10_000))
    assert isinstance(outcome, Advanced)
    assert [one.workload for one in outcome.outcomes if isinstance(one, Placed)] == ["later"]


def test_what_is_on_a_lost_node_gets_another_instance_and_the_lost_one_is_free() -> None:
    engine = site(cut("n0"), cut("n1"))
    first = placed(engine, wish("job", THREE, members=2, elastic=True))
    assert {seat.node for seat in first.seats} == {"n0"}
    outcome = engine.apply(SeatsLost(workload="job", members=(1,), at=1))
    assert isinstance(outcome, Advanced)
    [moved] = [one for one in outcome.outcomes if isinstance(one, Reseated)]
    assert moved.seats[0] == first.seats[0]
    assert moved.seats[1].node == "n1"
    outcome = engine.apply(NodesLost(nodes=("n0",), at=2))
    assert isinstance(outcome, Advanced)
    [moved] = [one for one in outcome.outcomes if isinstance(one, Reseated)]
    assert {seat.node for seat in moved.seats} == {"n1"}
    assert engine.site.slices[0, 0] == engine.site.mig[0, 0] == 255
    assert engine.site.slices[1, 0] == 0


def test_what_was_decided_about_instances_is_had_again_as_it_was() -> None:
    given: list[Input] = [
        Asked(wish=wish("a", THREE), at=0),
        Asked(wish=wish("b", THREE, queue=True), at=1),
        Released(workload="a", at=2),
        Asked(wish=wish("c", SEVEN, queue=True), at=3),
    ]
    engine, again = site(cut("n0")), site(cut("n0"))
    for one in given:
        have(again, Decided(one, engine.apply(one)))
    assert again.snapshot().holdings == engine.snapshot().holdings
    assert again.site.slices.tolist() == engine.site.slices.tolist()


def test_what_if_a_node_is_lost_or_more_are_added_is_asked_of_instances_too() -> None:
    engine = site(cut("n0"))
    placed(engine, wish("a", FOUR))
    before = engine.snapshot()
    answer = what_if(engine, more_like(engine, "n0", 1), (wish("b", SEVEN),))
    [decision] = answer.decisions
    assert isinstance(decision, Placed)
    assert decision.seats == (Seat("n0+1", (0,), 0, 255),)
    lost = what_if(engine, (*more_like(engine, "n0", 1), NodeTurned(node="n0", closed=True)))
    [displaced] = lost.displaced
    assert isinstance(displaced.outcome, Placed)
    assert displaced.outcome.seats == (Seat("n0+1", (0,), 0, 15),)
    assert engine.snapshot() == before == Engine.from_snapshot(before).snapshot()
