"""Nodes that fail: who sat there sits elsewhere, near enough to what is left, whole or not at all."""

from random import Random

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mesh_tools.bench.placement.gangs import gang, hall
from placement.domain.engine.engine import Engine
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import (
    Advanced,
    Capped,
    Moved,
    Near,
    NodesLost,
    Placed,
    Reseated,
    Seat,
    Stranded,
    Told,
)

from tests.domain.gang_rules import cards_left, columns, place, segments_hold
from tests.domain.gang_world import ask, drawn_wish, racks, site, wish

pytestmark = pytest.mark.slow

SEEDS = st.integers(0, 2**32 - 1)
TRAY = Size(gpus=4)
KINDS = ("job", "lease", "endpoint")


def lose(engine: Engine, *nodes: str) -> tuple[Reseated | Stranded, ...]:
    outcome = engine.apply(NodesLost(nodes=nodes, at=5))
    assert isinstance(outcome, Advanced)
    return tuple(one for one in outcome.outcomes if isinstance(one, Reseated | Stranded))


def nodes(engine: Engine, workload: str) -> list[str]:
    return [seat.node for seat in engine.seats(engine.holdings[workload].parts)]


def test_only_the_lost_member_of_an_elastic_workload_gets_a_new_seat() -> None:
    engine = racks(2, 4)
    ask(engine, wish("a", 3, size=TRAY, elastic=True), at=1)
    (outcome,) = lose(engine, "n000-01")
    assert isinstance(outcome, Reseated)
    assert outcome.members == (1,)
    assert nodes(engine, "a") == ["n000-00", "n000-03", "n000-02"]
    assert engine.holdings["a"].at == 1


def test_all_members_of_another_start_anew() -> None:
    engine = racks(2, 4)
    ask(engine, wish("a", 3, size=TRAY, near=Near(level="nvlink", required=True)), at=1)
    ask(engine, wish("b", size=TRAY))
    (outcome,) = lose(engine, "n000-01")
    assert isinstance(outcome, Reseated)
    assert outcome.members == (0, 1, 2)
    assert {node[:4] for node in nodes(engine, "a")} == {"n001"}
    assert engine.holdings["a"].at == 5


def test_a_lost_member_stays_in_the_nvlink_domain_of_its_segment() -> None:
    engine = racks(3, 4)
    ask(engine, wish("a", 6, size=TRAY, elastic=True, near=Near(segment=3)))
    assert [node[:4] for node in nodes(engine, "a")] == ["n000"] * 3 + ["n001"] * 3
    (outcome,) = lose(engine, "n001-00")
    assert isinstance(outcome, Reseated)
    assert outcome.members == (3,)
    assert nodes(engine, "a")[3] == "n001-03"
    (outcome,) = lose(engine, "n001-01")
    assert isinstance(outcome, Reseated)
    assert outcome.members == tuple(range(6)), "no other seat in that domain is left"


def test_a_lost_member_stays_within_what_was_required() -> None:
    engine = racks(4, 2)
    near = Near(level="leaf", required=True)
    ask(engine, wish("a", 3, size=TRAY, elastic=True, near=near))
    lose(engine, "n000-00")
    assert {node[:4] for node in nodes(engine, "a")} == {"n000", "n001"}
    (outcome,) = lose(engine, "n000-01")
    assert isinstance(outcome, Reseated)
    assert outcome.members == (0, 1, 2)
    assert {node[:4] for node in nodes(engine, "a")} == {"n002", "n003"}


def test_a_job_that_fits_nowhere_is_released_whole() -> None:
    engine = racks(1, 4)
    ask(engine, wish("a", 4, size=TRAY, elastic=True))
    assert lose(engine, "n000-00") == (Stranded(workload="a", released=True, why=lose_why(engine, 4)),)
    assert engine.holdings == {}
    assert int(engine.site.taken.sum()) == 0


def lose_why(engine: Engine, members: int) -> Told:
    """Return why so many members do not fit now."""
    refused = engine.would(wish("x", members, size=TRAY))
    return refused.why


@pytest.mark.parametrize("kind", ["lease", "endpoint"])
def test_leases_and_endpoints_that_fit_nowhere_keep_what_is_left(kind: str) -> None:
    engine = racks(1, 4)
    ask(engine, wish("a", 4, size=TRAY, kind=kind))
    before = columns(engine)
    (outcome,) = lose(engine, "n000-00")
    assert isinstance(outcome, Stranded)
    assert not outcome.released
    assert columns(engine) == before
    assert len(nodes(engine, "a")) == 4


def test_a_workload_of_which_one_part_can_be_mended_and_another_not_is_not_mended_in_part() -> None:
    engine = racks(3, 4)
    lease = wish("a", 6, size=TRAY, elastic=True, near=Near(segment=3), kind="lease")
    ask(engine, lease)
    for number, near in enumerate(("n001-03", *(f"n002-{tray:02}" for tray in range(4)))):
        avoid = tuple(node for node in engine.site.row_of if node != near)
        ask(engine, wish(f"w{number}", 2, size=Size(gpus=2), avoid=avoid))
    before = columns(engine)
    (outcome,) = lose(engine, "n000-00", "n001-00")
    assert isinstance(outcome, Stranded)
    assert columns(engine) == before


def test_who_has_precedence_is_seated_first() -> None:
    engine = racks(2, 4)
    for number, priority in enumerate((0, 2, 1)):
        ask(engine, wish(f"w{number}", size=TRAY, priority=priority))
    ask(engine, wish("rest", 3, size=TRAY, priority=5))
    outcomes = lose(engine, "n000-00", "n000-01", "n000-02")
    assert [one.workload for one in outcomes] == ["w1", "w2", "w0"]
    assert [isinstance(one, Reseated) for one in outcomes] == [True, True, False]


def test_lost_nodes_take_nobody_and_unknown_ones_change_nothing() -> None:
    engine = racks(1, 2)
    lose(engine, "n000-00")
    assert engine.site.closed[:2].tolist() == [1, 0]
    with pytest.raises(ValueError, match="no node"):
        engine.apply(NodesLost(nodes=("n000-01", "nobody"), at=1))
    assert engine.site.closed[:2].tolist() == [1, 0]


def test_a_gang_under_a_cap_is_replaced_within_it() -> None:
    engine = racks(3, 4)
    ask(engine, wish("a", 4, size=TRAY))
    site_w = int(engine.power.planned["site"][0])
    engine.apply(Capped(level="site", domain="site", watts=site_w))
    (outcome,) = lose(engine, "n000-00")
    assert isinstance(outcome, Reseated)
    assert engine.power.breaches() == []


def test_a_member_does_not_move_away_from_those_it_must_be_near_to() -> None:
    engine = racks(2, 3)
    ask(engine, wish("a", 2, size=TRAY, near=Near(level="nvlink", required=True)))
    cards = (0, 1, 2, 3)
    with pytest.raises(ValueError, match="near"):
        engine.apply(Moved(workload="a", member=0, to=Seat("n001-00", cards, 1_000)))
    engine.apply(Moved(workload="a", member=0, to=Seat("n000-02", cards, 1_000)))
    assert nodes(engine, "a") == ["n000-02", "n000-01"]


# 665: what is left shares a rack, which lies across two leaves, and must be behind one.
@example(665)
@settings(max_examples=30)
@given(SEEDS)
def test_whatever_is_lost_nothing_is_broken_and_no_gang_is_partial(seed: int) -> None:
    chance = Random(seed)
    engine = site(chance, short=chance.random() < 0.3, crossing=chance.random() < 0.3, before=(0, 0))
    for number in range(chance.randint(1, 5)):
        elastic, kind = chance.random() < 0.5, chance.choice(KINDS)
        ask(engine, drawn_wish(chance, f"w{number}", elastic=elastic, kind=kind), at=number)
    held = dict(engine.holdings)
    breaches = engine.power.breaches()
    lost = tuple(node for node in engine.site.row_of if chance.random() < 0.3)
    hit = {name for name, one in held.items() if set(lost) & set(nodes_of(engine, one.parts))}
    outcomes = lose(engine, *lost)
    assert {one.workload for one in outcomes} == hit
    for one in outcomes:
        before = held[one.workload]
        if isinstance(one, Stranded):
            assert one.released == (before.wish.kind == "job")
            assert (one.workload in engine.holdings) != one.released
            continue
        assert len(one.seats) == before.wish.members
        assert not {seat.node for seat in one.seats} & set(lost)
        kept = set(range(before.wish.members)) - set(one.members)
        seats = engine.seats(before.parts)
        assert all(one.seats[number] == seats[number] for number in kept)
        sat = [seat.node for seat in one.seats]
        if before.wish.members > 1:
            assert segments_hold(engine, before.wish, sat)
        near = before.wish.near
        if near.required and near.level and before.wish.members > 1:
            assert len({place(engine, node, near.level) for node in sat}) == 1
    for node, row in engine.site.row_of.items():
        left = cards_left(engine, node)
        assert min(left, default=0) >= 0
        assert engine.site.free[row, : len(left)].tolist() == left
    assert engine.power.breaches() == breaches or not engine.power.breaches()
    anew = Engine.from_snapshot(engine.snapshot())
    assert columns(anew) == columns(engine)


def nodes_of(engine: Engine, parts: tuple[object, ...]) -> list[str]:
    return [engine.site.specs[part.row].node for part in parts]  # type: ignore[attr-defined]


def test_all_who_sat_in_a_rack_sit_elsewhere_after_one_input_and_it_replays() -> None:
    logs = []
    for _ in range(2):
        engine, chance = hall(8), Random(1)
        for number in range(60):
            tenant = Terms(tenant=f"t{chance.randrange(3)}")
            elastic = chance.random() < 0.5
            ask(
                engine, gang(f"w{number}", chance.choice((4, 8, 16, 32)), elastic=elastic, terms=tenant)
            )
        rack = tuple(f"tray-001-{tray:02}" for tray in range(18))
        hit = [name for name in engine.holdings if set(rack) & set(nodes(engine, name))]
        outcome = lose(engine, *rack)
        assert {one.workload for one in outcome} == set(hit)
        assert len(hit) > 3
        assert not any(set(rack) & set(nodes(engine, name)) for name in engine.holdings)
        logs.append(msgspec.msgpack.encode(outcome))
    assert logs[0] == logs[1]


def test_where_members_were_placed_apart_the_lost_one_is_placed_apart_again() -> None:
    engine = racks(1, 4)
    outcome = ask(engine, wish("a", 3, group="e", elastic=True))
    assert isinstance(outcome, Placed)
    (lost,) = lose(engine, outcome.seats[0].node)
    assert isinstance(lost, Reseated)
    assert lost.members == (0,)
    assert len(set(nodes(engine, "a"))) == 3
