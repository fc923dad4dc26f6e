"""Energy and carbon close to the unit: nothing is lost, nothing is made."""

import itertools
from datetime import date, datetime, timedelta
from random import Random

import pytest
from carbon_accounting.domain.meter import between, is_newer, reading_of
from carbon_accounting.domain.serving import ceiling_uj, served_us
from carbon_accounting.domain.split import (
    COMPLETION_WEIGHT,
    UJ_MG_PER_UG,
    carbon_of,
    divide,
    share_out,
    weight,
)
from carbon_accounting.grid.factors import FACTORS, factor_named, factor_on
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.node import EnergyMeasured
from mesh_contracts.units import EnergyUj
from meshkit.testing import NOW, envelope

ENERGIES = st.integers(0, 10**16)
WEIGHTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.integers(0, 200_000), max_size=40
)


@given(ENERGIES, ENERGIES, WEIGHTS, ENERGIES, st.none() | ENERGIES)
def test_requests_and_operator_together_are_the_meter_to_the_microjoule(
    energy: int, idle: int, weights: dict[str, int], starting: int, ceiling: int | None
) -> None:
    division = divide(energy, idle, weights, starting_uj=starting, ceiling_uj=ceiling)
    served = sum(division.shares.values())
    assert served + division.idle_uj + division.non_serving_uj == energy
    assert division.operator_uj == energy - served
    assert division.idle_uj == min(idle, energy)
    assert division.non_serving_uj >= min(starting, energy - division.idle_uj)
    assert ceiling is None or served <= ceiling
    assert division.shares.keys() == weights.keys()
    assert all(share >= 0 for share in division.shares.values())


SPANS = st.lists(
    st.tuples(st.integers(-90, 90), st.integers(0, 60)).map(
        lambda pair: (NOW + timedelta(seconds=pair[0]), NOW + timedelta(seconds=sum(pair)))
    ),
    max_size=6,
)
MINUTE = (NOW, NOW + timedelta(seconds=60))


@given(SPANS, st.randoms())
def test_time_served_is_no_longer_than_the_interval_and_counts_nothing_twice(
    spans: list[tuple[datetime, datetime]], random: Random
) -> None:
    served = served_us(spans, *MINUTE)
    assert 0 <= served <= 60_000_000
    assert served_us([*spans, *spans], *MINUTE) == served
    assert served_us(random.sample(spans, len(spans)), *MINUTE) == served
    assert served <= sum((until - since) // timedelta(microseconds=1) for since, until in spans)


def test_a_line_that_comes_late_counts_in_full_and_a_long_one_only_within() -> None:
    second = timedelta(seconds=1)
    late = (NOW - 50 * second, NOW - 47 * second)
    long = (NOW - 50 * second, NOW + 5 * second)
    ahead = (NOW + 59 * second, NOW + 90 * second)
    assert served_us([late], *MINUTE) == 3_000_000
    assert served_us([late, long], *MINUTE) == 5_000_000
    assert served_us([long, ahead], *MINUTE) == 6_000_000


def test_a_lone_short_request_cannot_have_caused_what_no_engine_could_draw_in_its_time() -> None:
    interval = between(
        reading_of(reading(0, 0, starting_counter_uj=EnergyUj(0))),
        reading(5, 1_000_000_000, 500_000_000, full_power_w=300),
    )
    assert interval is not None
    lone = [(NOW + timedelta(seconds=3), NOW + timedelta(seconds=3, milliseconds=100))]
    ceiling = ceiling_uj(interval, lone)
    assert ceiling == (300 - 100) * 100_000
    division = divide(interval.energy_uj, interval.idle_uj, {"lone": 13}, ceiling_uj=ceiling)
    assert division.shares == {"lone": ceiling}
    assert division.non_serving_uj == 500_000_000 - ceiling
    all_along = ceiling_uj(interval, [(NOW, NOW + timedelta(seconds=5))])
    assert all_along is not None
    assert divide(interval.energy_uj, interval.idle_uj, {"a": 1}, ceiling_uj=all_along).shares == {
        "a": 500_000_000
    }


@pytest.mark.parametrize("full_power_w", [None, 199])
def test_a_full_power_that_is_unknown_or_was_passed_bounds_nothing(full_power_w: int | None) -> None:
    interval = between(reading_of(reading(0, 0)), reading(5, 1_000_000_000, full_power_w=full_power_w))
    assert interval is not None
    assert ceiling_uj(interval, []) is None


def test_what_engines_took_to_start_is_told_apart_only_between_two_readings_that_do() -> None:
    first, second = EnergyUj(100), EnergyUj(160)
    whole = between(
        reading_of(reading(0, 0, starting_counter_uj=first)),
        reading(5, 500, starting_counter_uj=second),
    )
    half = between(reading_of(reading(0, 0)), reading(5, 500, starting_counter_uj=second))
    assert whole is not None
    assert half is not None
    assert (whole.starting_uj, half.starting_uj) == (60, 0)


@given(ENERGIES, WEIGHTS)
def test_a_share_is_off_the_exact_one_by_less_than_one_microjoule(
    total: int, weights: dict[str, int]
) -> None:
    shares = share_out(total, weights)
    whole = sum(weights.values())
    for key, share in shares.items():
        assert abs(share * whole - total * weights[key]) < whole


@given(ENERGIES, WEIGHTS, st.randoms())
def test_the_order_in_which_requests_are_heard_changes_no_share(
    total: int, weights: dict[str, int], random: Random
) -> None:
    keys = list(weights)
    random.shuffle(keys)
    assert share_out(total, {key: weights[key] for key in keys}) == share_out(total, weights)


@given(ENERGIES, WEIGHTS)
def test_who_used_nothing_gets_nothing_and_equals_differ_by_one_at_most(
    total: int, weights: dict[str, int]
) -> None:
    shares = share_out(total, weights)
    for key, share in shares.items():
        assert weights[key] or share == 0
        same = [shares[other] for other in shares if weights[other] == weights[key]]
        assert max(same) - min(same) <= 1


def test_where_nobody_claims_it_the_operator_has_the_whole() -> None:
    assert divide(1_000, 400, {}).operator_uj == 1_000
    division = divide(1_000, 400, {"cut short": 0})
    assert (division.operator_uj, division.shares) == (1_000, {"cut short": 0})


@given(
    st.lists(st.lists(st.integers(0, 10**15), max_size=5), max_size=8),
    st.integers(0, 900_000),
    st.integers(0, UJ_MG_PER_UG - 1),
)
def test_carbon_over_any_intervals_is_the_exact_sum_but_for_what_is_carried(
    intervals: list[list[int]], factor: int, remainder: int
) -> None:
    carried, total = remainder, 0
    for energies in intervals:
        carbon = carbon_of(energies, factor, carried)
        carried = carbon.remainder
        total += sum(carbon.carbon_ug)
        for energy, ug in zip(energies, carbon.carbon_ug, strict=True):
            assert ug - energy * factor // UJ_MG_PER_UG in {0, 1}
    exact = sum(map(sum, intervals)) * factor + remainder
    assert total * UJ_MG_PER_UG + carried == exact


def test_a_kilowatt_hour_at_the_factor_is_the_factor() -> None:
    assert carbon_of([3_600_000_000_000], 21_700, 0).carbon_ug == (21_700_000,)


def test_unknown_tokens_weigh_nothing_and_a_completion_token_more_than_a_prompt_token() -> None:
    assert weight(None, None) == 0
    assert weight(10, None) == 10
    assert weight(10, 3) == 10 + 3 * COMPLETION_WEIGHT


def reading(seconds: int, counter: int, idle: int = 0, **fields: object) -> EnergyMeasured:
    return EnergyMeasured(
        **envelope("n1"),
        **{
            "node_id": "n1",
            "epoch": 1,
            "measured_at": NOW + timedelta(seconds=seconds),
            "counter_uj": EnergyUj(counter),
            "idle_counter_uj": EnergyUj(idle),
            "quality": "measured",
            "source": "test meter",
            "devices": [],
            **fields,
        },
    )


def test_two_readings_of_one_epoch_make_an_interval() -> None:
    interval = between(reading_of(reading(0, 100, 40)), reading(60, 350, 140))
    assert interval is not None
    assert (interval.energy_uj, interval.idle_uj) == (250, 100)
    assert (interval.start_at, interval.end_at) == (NOW, NOW + timedelta(seconds=60))


def test_one_estimated_reading_makes_the_interval_estimated() -> None:
    interval = between(reading_of(reading(0, 0, quality="estimated")), reading(60, 5))
    assert interval is not None
    assert interval.quality == "estimated"


@pytest.mark.parametrize(
    "later",
    [reading(60, 500, epoch=2), reading(60, 50), reading(0, 500), reading(-5, 500)],
    ids=["reset", "stepped back", "same time", "older"],
)
def test_what_was_not_metered_is_left_out_not_guessed(later: EnergyMeasured) -> None:
    assert between(reading_of(reading(0, 100)), later) is None


def test_a_node_whose_clock_ran_ahead_is_metered_again_from_its_next_epoch_on() -> None:
    ahead = reading_of(reading(10 * 365 * 86_400, 100))
    assert not is_newer(ahead, reading(60, 200))
    again = reading(60, 5, epoch=2)
    assert is_newer(ahead, again)
    assert between(ahead, again) is None
    interval = between(reading_of(again), reading(120, 25, epoch=2))
    assert interval is not None
    assert interval.energy_uj == 20


def test_idle_never_passes_what_the_meter_saw() -> None:
    interval = between(reading_of(reading(0, 0, 0)), reading(60, 10, 90))
    assert interval is not None
    assert interval.idle_uj == 10


def test_every_factor_says_where_it_comes_from_and_years_do_not_overlap() -> None:
    for factor in FACTORS:
        assert factor.boundary
        assert factor.method
        assert factor.source
        assert factor_named(factor.factor_id) is factor
    french = sorted((f for f in FACTORS if f.zone == "FR"), key=lambda f: f.valid_from)
    for older, newer in itertools.pairwise(french):
        assert older.valid_until == newer.valid_from
    assert french[-1].valid_until is None


def test_the_factor_is_picked_by_date_and_place() -> None:
    assert factor_on("FR", date(2023, 12, 31)) == FACTORS[0]
    assert factor_on("FR", date(2024, 1, 1)) == FACTORS[1]
    assert factor_on("FR", date(2019, 1, 1)) is None
    assert factor_on("DE", date(2024, 1, 1)) is None
