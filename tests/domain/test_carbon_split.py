"""Energy and carbon close to the unit: nothing is lost, nothing is made."""

import itertools
from datetime import date, timedelta
from random import Random

import pytest
from carbon_accounting.domain.meter import between, reading_of
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


@given(ENERGIES, ENERGIES, WEIGHTS)
def test_requests_and_operator_together_are_the_meter_to_the_microjoule(
    energy: int, idle: int, weights: dict[str, int]
) -> None:
    division = divide(energy, idle, weights)
    assert sum(division.shares.values()) + division.operator_uj == energy
    assert division.operator_uj >= min(idle, energy)
    assert division.shares.keys() == weights.keys()
    assert all(share >= 0 for share in division.shares.values())


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
