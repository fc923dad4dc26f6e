"""A node that is built otherwise keeps what it runs, or stays as it was."""

import pytest
from placement.domain.engine.site import ASSURANCES_MAX
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Capped, NodePut, Released

from tests.domain.placement_sites import node, placed, refused, site, wish
from tests.domain.placement_twin import columns


def test_a_node_that_would_lack_a_card_that_somebody_holds_stays_as_it_was() -> None:
    engine = site(node("n0"))
    placed(engine, wish("a", Size(gpus=2, cpu_milli=3, memory_mib=3)))
    placed(engine, wish("b", Size(gpus=1, cpu_milli=3, memory_mib=3)))
    before, counted = engine.snapshot(), columns(engine)
    for less in (node("n0", gpus=2), node("n0", lost=(0,))):
        with pytest.raises(ValueError, match="drain it first"):
            engine.apply(NodePut(spec=less))
        assert engine.snapshot() == before
        assert columns(engine) == counted


@pytest.mark.parametrize("less", [{"cpu_milli": 5}, {"memory_mib": 5}, {"slots": 1}])
def test_a_node_with_less_than_it_gave_away_takes_nothing_until_that_has_ended(
    less: dict[str, int],
) -> None:
    engine = site(node("n0"))
    small = Size(cpu_milli=3, memory_mib=3)
    for name in ("a", "b"):
        placed(engine, wish(name, small))
    engine.apply(NodePut(spec=node("n0", **less)))
    refused(engine, wish("c", small))
    engine.apply(Released(workload="a", at=1))
    refused(engine, wish("c", small))
    engine.apply(Released(workload="b", at=2))
    placed(engine, wish("c", small))


def test_a_node_that_gets_more_gives_the_rest_away() -> None:
    engine = site(node("n0", gpus=2))
    placed(engine, wish("a", Size(gpus=2)))
    engine.apply(NodePut(spec=node("n0", gpus=12)))
    assert placed(engine, wish("b", Size(gpus=10))).seats[0].cards == tuple(range(2, 12))


def test_a_node_does_not_leave_the_rack_in_which_its_tenant_is_alone() -> None:
    engine = site(node("n0"), node("n1", place={"rack": "r1"}))
    placed(engine, wish("a", Size(gpus=1), Terms(tenant="ada", isolation="rack")))
    before = engine.snapshot()
    with pytest.raises(ValueError, match="own part"):
        engine.apply(NodePut(spec=node("n0", place={"rack": "r1"})))
    assert engine.snapshot() == before


def test_more_assurances_than_are_counted_are_refused() -> None:
    engine = site(node("n0"))
    many = tuple(f"a{number}" for number in range(ASSURANCES_MAX + 1))
    with pytest.raises(ValueError, match="assurances"):
        engine.apply(NodePut(spec=node("n0", assurances=many)))
    engine.apply(NodePut(spec=node("n0", assurances=many[1:])))
    assert placed(engine, wish("a", Size(gpus=1), Terms(assurances=many[1:])))


def test_a_node_that_runs_something_may_be_put_into_a_rack_that_only_a_cap_has_named() -> None:
    engine = site(node("n0", place={"rack": "r0"}))
    placed(engine, wish("a", Size(gpus=1)))
    for rack in ("r1", "r2"):
        engine.apply(Capped(level="rack", domain=rack, watts=5_000))
    engine.apply(NodePut(spec=node("n0", place={"rack": "r2"})))
    assert engine.site.specs[0].place == {"rack": "r2"}
