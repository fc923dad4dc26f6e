"""Preemption plans: who makes way costs least, is needed, and is enough."""

from random import Random

import pytest
from mesh_tools.bench.placement.gangs import gang, hall
from placement.domain.engine import roster
from placement.domain.engine.engine import Engine, Holding
from placement.domain.engine.preempt import Plan, lower, plan
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Asked, Near, NodeTurned, Placed, Released

from tests.domain.gang_world import ask, racks, send_away, wish

pytestmark = pytest.mark.slow

TRAY = Size(gpus=4)


def full(count: int = 3) -> Engine:
    """Return racks of which each tray runs a preemptible job of its own, the later the dearer."""
    engine = racks(count, 4)
    for number in range(4 * count):
        wished = wish(f"w{number:02}", size=TRAY, preemptible=True, restart_cost=number + 1)
        assert isinstance(ask(engine, wished), Placed)
    return engine


def test_nobody_makes_way_for_what_has_room() -> None:
    assert plan(racks(1, 2), wish("new", 2, size=TRAY), None, 0) == Plan((), 0)


def test_the_cheapest_make_way_wherever_they_are() -> None:
    found = plan(full(), wish("new", 3, size=TRAY, priority=1), None, 0)
    assert found == Plan(("w00", "w01", "w02"), 6)


def test_the_cheapest_rack_makes_way_for_what_must_be_in_one() -> None:
    engine = full()
    engine.apply(Released(workload="w09", at=0))
    near = Near(level="nvlink", required=True)
    found = plan(engine, wish("new", 2, size=TRAY, priority=1, near=near), None, 0)
    assert found == Plan(("w00", "w01"), 3)
    assert plan(engine, wish("new", 5, size=TRAY, priority=1, near=near), None, 0) is None


def test_segments_take_whole_places_in_a_rack_each() -> None:
    found = plan(full(), wish("new", 8, size=TRAY, priority=1, near=Near(segment=4)), None, 0)
    assert found == Plan(tuple(f"w{number:02}" for number in range(8)), 36)


def test_a_gang_makes_way_whole_and_at_the_cost_of_one() -> None:
    engine = racks(3, 4)
    ask(engine, wish("gang", 8, size=TRAY, preemptible=True, restart_cost=9))
    for number in range(4):
        ask(engine, wish(f"w{number}", size=TRAY, preemptible=True, restart_cost=4))
    assert plan(engine, wish("one", size=TRAY, priority=1), None, 0) == Plan(("w0",), 4)
    assert plan(engine, wish("five", 5, size=TRAY, priority=1), None, 0) == Plan(("gang",), 9)


def test_who_came_to_be_needless_is_spared() -> None:
    engine = racks(2, 4)
    ask(engine, wish("gang", 4, size=TRAY, preemptible=True, restart_cost=5))
    ask(engine, wish("w0", 1, size=TRAY, preemptible=True, restart_cost=1))
    ask(engine, wish("hard", 3, size=TRAY))
    found = plan(engine, wish("new", 3, size=TRAY, priority=1), None, 0)
    assert found == Plan(("gang",), 5)


def test_of_small_jobs_on_a_node_only_as_many_make_way_as_are_needed() -> None:
    engine = racks(1, 4)
    for number in range(16):
        ask(engine, wish(f"w{number}", preemptible=True, restart_cost=30 - number))
    found = plan(engine, wish("new", size=Size(gpus=2), priority=1), None, 0)
    assert found == Plan(("w14", "w15"), 31)


@pytest.mark.parametrize(
    ("fields", "gives_way"),
    [
        ({}, True),
        ({"preemptible": False}, False),
        ({"priority": 1}, False),
        ({"min_run_ms": 11}, False),
        ({"min_run_ms": 10}, True),
    ],
)
def test_only_lower_priority_that_is_preemptible_and_has_run_its_time_gives_way(
    fields: dict[str, int], gives_way: bool
) -> None:
    engine = racks(1, 1)
    engine.apply(Asked(wish=wish("there", size=TRAY, **({"preemptible": True} | fields)), at=0))
    wished = wish("new", size=TRAY, priority=1)
    assert (plan(engine, wished, None, 10) is not None) == gives_way
    assert (plan(engine, wished, lower(wished), 10) is not None) == gives_way


def test_isolation_is_paid_for_with_all_that_is_near() -> None:
    engine = racks(2, 4)
    for number in range(6):
        terms = Terms(tenant="x")
        ask(engine, wish(f"w{number}", size=TRAY, terms=terms, preemptible=True, restart_cost=1))
    alone = Terms(tenant="y", isolation="nvlink")
    near = Near(level="nvlink", required=True)
    found = plan(engine, wish("new", 3, size=TRAY, terms=alone, priority=1, near=near), None, 0)
    assert found == Plan(("w4", "w5"), 2)


def test_who_draws_the_watts_makes_way_where_there_is_room_but_no_watts() -> None:
    engine = racks(2, 4)
    for number in range(4):
        ask(engine, wish(f"w{number}", size=TRAY, preemptible=True, restart_cost=number + 1))
    site_w = int(engine.power.planned["site"][0])
    engine.power.cap("site", "site", site_w)
    found = plan(engine, wish("new", 2, size=TRAY, priority=1), None, 0)
    assert found == Plan(("w0", "w1"), 3)


def test_of_shares_on_many_cards_those_make_way_that_free_one() -> None:
    engine = racks(1, 2)
    for number in range(8):
        big, small = Size(gpu_milli=600), Size(gpu_milli=400)
        ask(engine, wish(f"a{number}", size=big, preemptible=True, restart_cost=1))
        ask(engine, wish(f"b{number}", size=small, preemptible=True, restart_cost=10))
    assert (engine.site.free[:2, :4] == 0).all()
    found = plan(engine, wish("new", size=Size(gpus=1), priority=1), None, 0)
    assert found is not None
    assert found.cost == 11


def test_costs_of_any_size_are_weighed_against_what_keeps_a_part_shut() -> None:
    engine = racks(3, 4)
    for number in range(12):
        cost = 10**14 * (1 + number // 4 % 2)
        terms = Terms(tenant="x", isolation="nvlink" if number < 4 else "")
        ask(engine, wish(f"w{number:02}", size=TRAY, terms=terms, preemptible=True, restart_cost=cost))
    near = Near(level="nvlink", required=True)
    wished = wish("new", 4, size=TRAY, terms=Terms(tenant="y"), priority=1, near=near)
    found = plan(engine, wished, None, 0)
    assert found is not None
    assert found.cost == 4 * 10**14


def test_of_all_who_keep_a_part_from_a_tenant_only_those_go_whose_part_is_taken() -> None:
    engine = racks(3, 4)
    for number in range(12):
        terms = Terms(tenant="x", isolation="node")
        ask(engine, wish(f"w{number:02}", size=TRAY, terms=terms, preemptible=True, restart_cost=5))
    wished = wish("new", 2, size=TRAY, terms=Terms(tenant="y"), priority=1)
    assert plan(engine, wished, None, 0) == Plan(("w00", "w01"), 10)


def test_plans_are_the_same_however_many_came_and_went_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "CHANGES_MAX", 8)
    engine, wished = full(1), wish("new", 2, size=TRAY, priority=1)
    first = plan(engine, wished, None, 0)
    for number in range(20):
        engine.apply(Released(workload="w03", at=number))
        ask(engine, wish("w03", size=TRAY, preemptible=True, restart_cost=4))
        if number % 7 == 0:
            assert plan(engine, wished, None, 0) == first


def test_who_is_gone_for_long_is_forgotten_and_changes_no_plan() -> None:
    engine, wished = full(1), wish("new", 2, size=TRAY, priority=1)
    for number in range(600):
        engine.apply(Released(workload=f"w{number:02}", at=number))
        ask(engine, wish(f"w{number + 4:02}", size=TRAY, preemptible=True, restart_cost=4))
        if number % 50 == 0:
            assert plan(engine, wished, None, 0) == plan(engine.copy(), wished, None, 0)


def test_what_is_out_of_service_is_of_no_use() -> None:
    engine = full(1)
    engine.apply(NodeTurned(node="n000-00", closed=True))
    assert plan(engine, wish("new", size=TRAY, priority=1), None, 0) == Plan(("w01",), 2)


def test_the_cost_of_everybody_is_asked_once() -> None:
    engine, asked = full(), []

    def may(holding: Holding, now: int) -> int:
        asked.append((holding.wish.workload, now))
        return holding.wish.restart_cost

    plan(engine, wish("new", 6, size=TRAY), may, 7)
    assert asked == [(f"w{number:02}", 7) for number in range(12)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_plans_in_a_full_hall_are_true_and_do_not_depend_on_when_others_were_asked_for(
    seed: int,
) -> None:
    chance = Random(seed)
    engine = hall(6)
    number = 0
    while engine.site.taken.sum() < 6 * 18 * 4 - 40:
        gpus = chance.choice((4, 8, 8, 16, 32, 72))
        fields = {"priority": chance.randrange(3), "preemptible": chance.random() < 0.8}
        cost = chance.randrange(1, 1_000)
        ask(engine, gang(f"w{number}", gpus, restart_cost=cost, **fields))
        number += 1
    for _ in range(12):
        wished = gang("new", chance.choice((8, 16, 64, 72, 128)), priority=3)
        found = plan(engine, wished, None, 1)
        assert found == plan(Engine.from_snapshot(engine.snapshot()), wished, None, 1)
        if found is not None:
            trial = engine.copy()
            send_away(trial, found.victims)
            outcome = trial.apply(Asked(wish=wished, at=1))
            assert isinstance(outcome, Placed)
            assert trial.power.breaches() == []
        engine.apply(Released(workload=chance.choice(list(engine.holdings)), at=1))
        ask(engine, gang(f"w{number}", 4, preemptible=True, restart_cost=chance.randrange(1, 9)))
        number += 1
