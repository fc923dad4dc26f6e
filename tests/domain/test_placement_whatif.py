"""A question about what is not so is answered on the site as it is, and leaves it as it was."""

import msgspec
import pytest
from placement.domain.engine.engine import Engine
from placement.domain.engine.size import Size
from placement.domain.engine.whatif import NODES_MAX, lost, more_like, what_if
from placement.domain.engine.wish import Asked, Capped, NodeTurned, Placed, Refused, Released

from tests.domain.placement_draws import FLAVOURS, Draws, Flavour
from tests.domain.placement_sites import node, placed, refused, site, wish
from tests.domain.placement_twin import columns
from tests.domain.test_placement_same import lived

pytestmark = pytest.mark.slow

ALL = Size(gpus=8)


def full() -> Engine:
    """Return two racks of two nodes, every GPU in use."""
    places = [
        {"rack": f"r{number // 2}", "nvlink": f"v{number // 2}", "hall": "h1"} for number in range(4)
    ]
    engine = site(*(node(f"n{number}", place=place) for number, place in enumerate(places)))
    for number in range(4):
        placed(engine, wish(f"w{number}", ALL, priority=number))
    return engine


def test_more_nodes_like_one_take_what_did_not_fit() -> None:
    engine = full()
    refused(engine, wish("a", ALL))
    answer = what_if(
        engine, more_like(engine, "n0", 5), [wish(f"a{number}", ALL) for number in range(6)]
    )
    assert [isinstance(outcome, Placed) for outcome in answer.decisions] == [True] * 5 + [False]
    assert answer.shed.workloads == ()
    assert answer.displaced == ()
    refused(engine, wish("a", ALL))


def test_nodes_that_are_added_stand_in_new_racks_as_full_as_the_one_they_are_like() -> None:
    engine = full()
    answer = what_if(engine, more_like(engine, "n0", 5))
    added = [spec.place for spec in answer.engine.site.specs[4:]]
    assert [place["rack"] for place in added] == ["r0+1", "r0+1", "r0+2", "r0+2", "r0+3"]
    assert [place["nvlink"] for place in added] == ["v0+1", "v0+1", "v0+2", "v0+2", "v0+3"]
    assert {place["hall"] for place in added} == {"h1"}


def test_a_rack_that_is_lost_displaces_its_work_and_the_highest_priority_is_seated_first() -> None:
    engine = full()
    engine.apply(Released(workload="w0", at=0))
    answer = what_if(engine, lost(engine, "rack", "r1"))
    assert [displaced.workload for displaced in answer.displaced] == ["w3", "w2"]
    first, second = (displaced.outcome for displaced in answer.displaced)
    assert isinstance(first, Placed)
    assert first.seats[0].node == "n0"
    assert isinstance(second, Refused)


def test_a_cap_that_is_lowered_says_what_would_be_shed() -> None:
    engine = full()
    answer = what_if(engine, [Capped(level="rack", domain="r0", watts=1_000 + 8 * 700)])
    assert answer.shed.workloads == ("w0",)
    assert answer.engine.power.breaches() == []
    assert engine.power.cap_of("rack", "r0") is None


def test_a_node_that_is_returned_takes_what_did_not_fit() -> None:
    engine = full()
    engine.apply(Released(workload="w2", at=0))
    engine.apply(NodeTurned(node="n2", closed=True))
    refused(engine, wish("a", ALL))
    (outcome,) = what_if(engine, [NodeTurned(node="n2", closed=False)], [wish("a", ALL)]).decisions
    assert isinstance(outcome, Placed)


def test_more_nodes_than_a_question_may_add_are_refused_and_so_is_a_node_nobody_knows() -> None:
    engine = full()
    for name, count in (("n0", 0), ("n0", NODES_MAX + 1), ("n9", 1)):
        with pytest.raises(ValueError, match=r"more|no node"):
            more_like(engine, name, count)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_is_tried_on_a_copy_reaches_the_site(seed: int, flavour: Flavour) -> None:
    twin, draws = lived(seed, flavour), Draws(seed + 77, flavour)
    engine = twin.engine
    snapshot, counted, seen = (
        msgspec.msgpack.encode(engine.snapshot()),
        columns(engine),
        engine.site.seen,
    )
    first = next(iter(twin.world.nodes))
    changes = [*more_like(engine, first, 3), NodeTurned(node=first, closed=True)]
    changes += [Capped(level="site", domain="site", watts=300)]
    what_if(engine, changes, [msgspec.structs.replace(draws.wish(), workload="new")])
    assert msgspec.msgpack.encode(engine.snapshot()) == snapshot
    assert columns(engine) == counted
    assert engine.site.seen == seen
    twin.check_counts()
    twin.check_replay()


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_decides_as_the_site_would_whichever_of_the_two_goes_on_first(seed: int) -> None:
    twin, draws = lived(seed, "room"), Draws(seed + 5, "room")
    asked = [
        Asked(wish=msgspec.structs.replace(draws.wish(), workload=f"new-{number}"), at=0)
        for number in range(12)
    ]
    early, late = twin.engine.copy(), twin.engine.copy()
    first = [early.apply(one) for one in asked]
    live = [twin.engine.apply(one) for one in asked]
    last = [late.apply(one) for one in asked]
    assert first == live == last
