"""A cap that is lowered ends the least valuable work first, gangs whole, none too many, until it holds."""

import pytest
from placement.domain.engine.engine import Engine
from placement.domain.engine.shed import Shed, shed
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Asked, Capped, Measured, Released

from tests.domain.placement_draws import CAPPABLE, Draws
from tests.domain.placement_sites import node, placed, site, wish
from tests.domain.placement_twin import Twin

STAY = {"rack": "r0", "pdu": "p0"}


def capped(engine: Engine, watts: int, level: str = "site", domain: str = "site") -> Engine:
    engine.apply(Capped(level=level, domain=domain, watts=watts))
    return engine


def test_nothing_ends_where_every_cap_holds() -> None:
    engine = site(node("n0"))
    placed(engine, wish("a", Size(gpus=8)))
    assert shed(capped(engine, 500 + 8 * 700)) == Shed()


def test_the_lowest_priority_ends_first_whatever_its_restart_costs() -> None:
    engine = site(node("n0"))
    placed(engine, wish("dear", Size(gpus=2), priority=0, restart_cost=1_000_000))
    placed(engine, wish("cheap", Size(gpus=2), priority=1, restart_cost=0))
    assert shed(capped(engine, 500 + 2 * 700)).workloads == ("dear",)


def test_of_one_priority_that_ends_first_whose_restart_costs_least_by_the_watt() -> None:
    engine = site(node("n0"))
    placed(engine, wish("small", Size(gpus=1), restart_cost=30))
    placed(engine, wish("large", Size(gpus=4), restart_cost=100))
    assert shed(capped(engine, 500 + 4 * 700)).workloads == ("large",)


def test_work_of_which_the_end_is_not_needed_after_all_is_spared() -> None:
    engine = site(node("n0"))
    placed(engine, wish("small", Size(gpus=1), priority=0))
    placed(engine, wish("large", Size(gpus=4), priority=1))
    assert shed(capped(engine, 500 + 700)).workloads == ("large",)


def test_of_several_that_could_be_spared_the_most_valuable_is() -> None:
    engine = site(node("n0"))
    placed(engine, wish("a", Size(gpus=1), priority=0))
    placed(engine, wish("b", Size(gpus=1), priority=1))
    placed(engine, wish("c", Size(gpus=4), priority=2))
    assert shed(capped(engine, 500 + 700)).workloads == ("a", "c")


def test_who_shares_a_card_frees_only_a_part_of_its_watts() -> None:
    engine = site(node("n0"))
    placed(engine, wish("half", Size(gpu_milli=500), restart_cost=30))
    placed(engine, wish("other", Size(gpu_milli=500), restart_cost=30))
    placed(engine, wish("whole", Size(gpus=1), restart_cost=50))
    assert shed(capped(engine, 500 + 700)).workloads == ("whole",)


def test_two_that_share_a_card_end_together_where_its_watts_are_needed() -> None:
    engine = site(node("n0", gpus=1), node("n1", gpus=1))
    placed(engine, wish("a", Size(gpu_milli=500)))
    placed(engine, wish("b", Size(gpu_milli=500)))
    placed(engine, wish("c", Size(gpus=1), priority=1))
    assert shed(capped(engine, 1_000 + 700)).workloads == ("b", "a")


def test_a_gang_ends_whole_also_where_one_member_s_watts_would_have_done() -> None:
    engine = site(*(node(f"n{number}") for number in range(4)))
    placed(engine, wish("gang", Size(gpus=8), members=4))
    found = shed(capped(engine, 500 + 7 * 700, "rack", "rack-of-n2"))
    assert found.workloads == ("gang",)
    assert found.freed_w == 32 * 700


def test_what_ends_in_a_rack_counts_for_its_pdu() -> None:
    engine = site(node("n0"), node("n1"))
    for name in ("n0", "n1"):
        others = tuple({"n0", "n1"} - {name})
        placed(engine, wish(f"on-{name}", Size(gpus=4), dislike=others))
    capped(engine, 500, "rack", "rack-of-n1")
    found = shed(capped(engine, 1_000 + 4 * 700, "pdu", "p0"))
    assert found.workloads == ("on-n1",)


def test_a_cap_below_what_idle_nodes_draw_is_told_with_what_stays_above_it() -> None:
    engine = site(node("n0"))
    placed(engine, wish("a", Size(gpus=1)))
    found = shed(capped(engine, 400))
    assert found == Shed(workloads=("a",), freed_w=700, left=(("site", "site", 100),))


def test_what_a_meter_says_beyond_the_plan_is_shed_too() -> None:
    engine = site(node("n0"))
    placed(engine, wish("a", Size(gpus=1), priority=1))
    placed(engine, wish("b", Size(gpus=1)))
    capped(engine, 500 + 2 * 700)
    assert shed(engine) == Shed()
    engine.apply(Measured(level="site", domain="site", watts=500 + 3 * 700))
    assert shed(engine).workloads == ("b",)


@pytest.mark.parametrize("seed", range(8))
def test_after_a_plan_every_cap_holds_and_each_end_in_it_was_needed(seed: int) -> None:
    draws, twin = Draws(seed, "power"), Twin()
    for given in draws.site():
        twin.tell(given)
    for number in range(25):
        asked = draws.wish()
        wanted = wish(
            f"w{number}", asked.size, priority=asked.priority, restart_cost=asked.restart_cost
        )
        twin.tell(Asked(wish=wanted, at=0))
    for level, domain in draws.chance.sample(CAPPABLE, 3):
        twin.tell(Capped(level=level, domain=domain, watts=draws.chance.choice([50, 150, 300, 500])))
    before = twin.engine.snapshot()
    found = shed(twin.engine)
    assert twin.engine.snapshot() == before
    above = {at for name in twin.world.nodes for at in twin.world.short(name, 0)}
    assert bool(above) == bool(found.workloads or found.left)
    for spared in found.workloads:
        less = twin.engine.copy()
        for workload in set(found.workloads) - {spared}:
            less.apply(Released(workload=workload, at=0))
        assert less.power.breaches() != list(found.left)
    for workload in found.workloads:
        twin.tell(Released(workload=workload, at=0))
    above = {at for name in twin.world.nodes for at in twin.world.short(name, 0)}
    assert above == {(level, domain) for level, domain, _ in found.left}
    for level, domain in above:
        inside = [name for name in twin.world.nodes if twin.world.at(name, level) == domain]
        assert all(
            set(twin.world.free(name)) <= {1_000} or not twin.world.nodes[name].gpu_w for name in inside
        )
