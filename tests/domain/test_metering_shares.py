"""Ceilings that are no money: shares add up, follow demand, and settle in two rounds."""

from hypothesis import given
from hypothesis import strategies as st
from metering.domain.shares import apportioned, share

NAMES = ["g1", "g2", "g3", "g4", "g5"]
ceilings = st.integers(1, 1_000_000)
demands = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2**53), min_size=1)


def settled(ceiling: int, wanted: dict[str, int], held: dict[str, int], rounds: int) -> dict[str, int]:
    """Return the shares after each gateway has asked ``rounds`` times, in the order of their names."""
    now = dict(held)
    for _ in range(rounds):
        for name in sorted(wanted):
            others = {other: had for other, had in now.items() if other != name}
            now[name] = share(ceiling, name, wanted, others)
            assert sum(now.values()) <= max(ceiling, sum(held.values()))
    return now


@given(ceilings, demands)
def test_targets_are_the_whole_ceiling_and_one_gateway_gets_all(
    ceiling: int, wanted: dict[str, int]
) -> None:
    targets = apportioned(ceiling, wanted)
    assert sum(targets.values()) == ceiling
    assert apportioned(ceiling, {"g1": wanted.get("g1", 0)}) == {"g1": ceiling}


@given(ceilings, demands)
def test_who_was_asked_for_more_gets_no_less(ceiling: int, wanted: dict[str, int]) -> None:
    targets = apportioned(ceiling, wanted)
    by_demand = sorted(wanted, key=lambda name: (min(wanted[name], ceiling), targets[name]))
    assert [targets[name] for name in by_demand] == sorted(targets.values())


def test_an_idle_gateway_gets_something_and_all_get_the_same_while_nobody_wants_it() -> None:
    assert apportioned(900, {"g1": 0, "g2": 0, "g3": 0}) == {"g1": 300, "g2": 300, "g3": 300}
    assert apportioned(600, {"g1": 600, "g2": 0, "g3": 0}) == {"g1": 576, "g2": 12, "g3": 12}


def test_a_flood_at_one_gateway_does_not_starve_another() -> None:
    targets = apportioned(100, {"g1": 10**9, "g2": 100})
    assert targets == {"g1": 50, "g2": 50}


def test_the_only_place_goes_to_the_gateway_that_is_asked_for_it() -> None:
    assert apportioned(1, {"g1": 0, "g2": 0}) == {"g1": 1, "g2": 0}
    assert apportioned(1, {"g1": 0, "g2": 1}) == {"g1": 0, "g2": 1}


@given(ceilings, demands, demands)
def test_two_rounds_after_demand_has_shifted_each_has_its_target(
    ceiling: int, before: dict[str, int], after: dict[str, int]
) -> None:
    after = {name: after.get(name, 0) for name in before}
    held = settled(ceiling, before, dict.fromkeys(before, 0), 2)
    assert held == apportioned(ceiling, before)
    assert settled(ceiling, after, held, 2) == apportioned(ceiling, after)


@given(ceilings, ceilings, demands)
def test_a_lowered_ceiling_is_kept_to_once_all_have_asked(
    high: int, low: int, wanted: dict[str, int]
) -> None:
    held = settled(high, wanted, dict.fromkeys(wanted, 0), 2)
    assert sum(settled(low, wanted, held, 1).values()) <= max(low, high)
    assert settled(low, wanted, held, 3) == apportioned(low, wanted)


@given(ceilings, demands, demands)
def test_what_is_in_use_is_lent_to_nobody_else_and_the_sum_stays_within_the_ceiling(
    ceiling: int, wanted: dict[str, int], used: dict[str, int]
) -> None:
    held = settled(ceiling, wanted, dict.fromkeys(wanted, 0), 2)
    for name in sorted(wanted):
        others = {other: had for other, had in held.items() if other != name}
        in_use = min(used.get(name, 0), held[name])
        shifted = {**wanted, name: 0}
        held[name] = share(ceiling, name, shifted, others, in_use=in_use)
        assert held[name] >= in_use
        assert sum(held.values()) <= ceiling


def test_a_gateway_whose_places_are_taken_lets_go_of_them_as_they_become_free() -> None:
    wanted, others = {"g1": 0, "g2": 10}, {"g2": 0}
    assert share(10, "g1", wanted, others, in_use=7) == 7
    assert share(10, "g1", wanted, others, in_use=0) == apportioned(10, wanted)["g1"] < 7
