"""Moves that make room are few, possible one after the other, and break nothing on the way."""

import pytest
from placement.domain.engine.defrag import plan
from placement.domain.engine.engine import Engine
from placement.domain.engine.room import members
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Asked, Capped, Moved, Placed, Released, Seat

from tests.domain.placement_draws import FLAVOURS, Draws, Flavour
from tests.domain.placement_sites import node, placed, refused, site, wish
from tests.domain.placement_twin import Twin

WHOLE = Size(gpus=8)
ALONE = Terms(tenant="explained", isolation="node")


def _fit(engine: Engine, size: Size, terms: Terms) -> int:
    """Count the members that the nodes take: with ``ALONE`` those that are empty."""
    found = members(engine.site, size, terms)
    taken = {part.row for held in engine.holdings.values() for part in held.parts}
    return sum(int(count) for row, count in enumerate(found) if not (terms.isolation and row in taken))


def test_one_replica_that_stands_alone_moves_so_that_a_whole_node_comes_free() -> None:
    engine = site(node("n0"), node("n1"))
    placed(engine, wish("a", Size(gpus=6)))
    placed(engine, wish("b", Size(gpus=5)))
    placed(engine, wish("c", Size(gpus=1), kind="endpoint", dislike=("n0",)))
    engine.apply(Released(workload="b", at=0))
    refused(engine, wish("d", WHOLE))
    found = plan(engine, WHOLE)
    assert found.moves == (Moved(workload="c", member=0, to=Seat("n0", (6,), 1_000)),)
    assert (found.before, found.after, found.gain_milli) == (0, 1, 8_000)
    engine.apply(found.moves[0])
    placed(engine, wish("d", WHOLE))


def test_leases_and_jobs_stay_where_they_are() -> None:
    for fields in (
        {"kind": "lease"},
        {"kind": "job"},
        {"kind": "job", "preemptible": True},
        {"kind": "job", "preemptible": True, "members": 2},
    ):
        engine = site(node("n0"), node("n1"))
        placed(engine, wish("a", Size(gpus=1), **fields))
        placed(engine, wish("b", Size(gpus=1), dislike=("n0",)))
        assert plan(engine, WHOLE).moves == ()


def test_who_may_sit_on_one_node_only_sits_there_or_nowhere_and_in_nobodys_stead() -> None:
    engine = site(node("n0"), node("n1"), node("n2"))
    placed(engine, wish("soft", Size(gpus=8), preemptible=True, dislike=("n0", "n2")))
    refused(engine, wish("a", WHOLE, kind="endpoint", priority=900, only="n1"))
    assert "soft" in engine.holdings
    outcome = placed(engine, wish("b", WHOLE, kind="endpoint", only="n2"))
    assert outcome.seats[0].node == "n2"
    refused(engine, wish("c", Size(gpus=1), kind="endpoint", only="n2"))
    refused(engine, wish("d", Size(gpus=1), kind="endpoint", only="n9"))


def test_a_plan_has_no_more_moves_than_were_allowed() -> None:
    engine = site(*(node(f"n{number}") for number in range(8)))
    for number in range(8):
        others = tuple(f"n{other}" for other in range(8) if other != number)
        placed(engine, wish(f"w{number}", Size(gpus=1), kind="endpoint", dislike=others))
    for most in (0, 1, 3, 6):
        found = plan(engine, WHOLE, moves_max=most)
        assert len(found.moves) == most
        assert found.after - found.before == most


def test_a_move_to_where_it_does_not_fit_is_refused_and_changes_nothing() -> None:
    engine = site(node("n0"), node("n1", gpus=1))
    placed(engine, wish("a", Size(gpus=2)))
    before = engine.snapshot()
    for to in (
        Seat("n1", (0, 1), 1_000),
        Seat("n0", (0, 2), 1_000),
        Seat("n0", (3,), 1_000),
        Seat("n0", (3, 3), 1_000),
        Seat("n0", (6, 8), 1_000),
        Seat("n9", (0, 1), 1_000),
    ):
        with pytest.raises(ValueError, match=r"fit|no member"):
            engine.apply(Moved(workload="a", member=0, to=to))
        assert engine.snapshot() == before


def test_a_move_that_would_break_a_cap_on_the_way_is_refused() -> None:
    engine = site(node("n0"), node("n1"))
    placed(engine, wish("a", Size(gpus=2)))
    placed(engine, wish("b", Size(gpu_milli=300)))
    engine.apply(Capped(level="site", domain="site", watts=1_000 + 3 * 700))
    before = engine.snapshot()
    for move in (
        Moved(workload="a", member=0, to=Seat("n1", (0, 1), 1_000)),
        Moved(workload="b", member=0, to=Seat("n0", (5,), 300)),
    ):
        with pytest.raises(ValueError, match="fit"):
            engine.apply(move)
        assert engine.snapshot() == before
    assert plan(engine, WHOLE).moves == ()
    engine.apply(Moved(workload="b", member=0, to=Seat("n0", (2,), 300)))


def test_a_node_is_emptied_for_who_needs_one_alone_and_no_empty_one_is_spoilt_for_it() -> None:
    engine = site(node("n0"), node("n1"), node("n2"))
    for name, at in (("a", "n0"), ("b", "n0"), ("c", "n1"), ("d", "n1"), ("e", "n1")):
        placed(engine, wish(name, Size(gpus=1), kind="endpoint", only=at))
    assert plan(engine, Size(gpus=5)).moves == ()
    found = plan(engine, Size(gpus=5), ALONE)
    assert [(one.workload, one.to.node) for one in found.moves] == [("a", "n1"), ("b", "n1")]
    assert (found.before, found.after, found.gain_milli) == (1, 2, 5_000)
    for one in found.moves:
        engine.apply(one)
    for name in ("lease", "another"):
        placed(engine, wish(name, Size(gpus=5), Terms(tenant=name, isolation="node"), kind="lease"))


def test_no_node_is_emptied_on_which_somebody_stays() -> None:
    engine = site(node("n0"), node("n1"))
    for name, at in (("a", "n0"), ("b", "n1")):
        placed(engine, wish(name, Size(gpus=1), kind="endpoint", only=at))
    assert len(plan(engine, WHOLE, ALONE).moves) == 1
    placed(engine, wish("job", Size(), kind="job", only="n1"))
    assert [one.to.node for one in plan(engine, WHOLE, ALONE).moves] == ["n1"]
    placed(engine, wish("lease", Size(), kind="lease", only="n0"))
    assert plan(engine, WHOLE, ALONE).moves == ()


@pytest.mark.parametrize("terms", [Terms(), ALONE], ids=["beside others", "alone"])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("seed", range(4))
def test_doing_the_moves_in_order_is_possible_breaks_nothing_and_gains_what_was_said(
    seed: int, flavour: Flavour, terms: Terms
) -> None:
    draws, twin = Draws(seed, flavour), Twin()
    for given in draws.site():
        twin.tell(given)
    for number in range(40):
        if number % 3 == 2 and twin.world.held:
            workload = draws.chance.choice(list(twin.world.held))
            twin.tell(Released(workload=workload, at=0))
        else:
            asked = draws.wish()
            twin.tell(Asked(wish=wish(f"w{number}", asked.size, asked.terms, kind="endpoint"), at=0))
    for _ in range(3):
        size = draws.size()
        before = twin.engine.snapshot()
        found = plan(twin.engine, size, terms, moves_max=4)
        assert twin.engine.snapshot() == before
        assert len(found.moves) <= 4
        assert found.before <= found.after
        assert found.before == _fit(twin.engine, size, terms)
        for move in found.moves:
            twin.tell(move)
            twin.check_promises()
            twin.check_counts()
            assert twin.world.short(move.to.node, 0) == {}
        assert found.after == _fit(twin.engine, size, terms)
        assert found.gain_milli == (found.after - found.before) * size.milli
    twin.check_replay()


def test_what_a_plan_says_fits_afterwards_is_asked_for_and_placed() -> None:
    engine = site(*(node(f"n{number}") for number in range(4)))
    for number in range(12):
        apart = tuple(f"n{other}" for other in range(4) if other != number % 4)
        placed(engine, wish(f"w{number}", Size(gpu_milli=400), kind="endpoint", dislike=apart))
    found = plan(engine, WHOLE)
    for move in found.moves:
        engine.apply(move)
    outcomes = [engine.apply(Asked(wish=wish(f"x{n}", WHOLE), at=0)) for n in range(found.after)]
    assert found.after > found.before
    assert all(isinstance(outcome, Placed) for outcome in outcomes)
