"""Money lent before it is spent: whatever is lost, late or dead, a hard budget is never passed."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.metering import Period
from metering.domain import escrow
from metering.domain.scopes import Scope, end_of, start_of

from tests.domain.escrow_world import World, everybody_knows, play

chances = st.integers(0, 2**32).map(Random)
amounts = st.sampled_from([0, 90_000, 400_000, 2_000_000])
periods = st.sampled_from(["total", "day", "month"])


@given(amounts, periods, chances)
def test_settled_spend_never_passes_a_hard_budget(amount: int, period: Period, chance: Random) -> None:
    world = World(amount, period)
    everybody_knows(world)
    for _ in play(world, chance):
        everybody_knows(world)
    while world.flying:
        world.end(0, 10**9)
    while world.coming:
        world.arrive(0, 0)
    assert all(spent <= amount for spent in world.spent.values()), "whatever was lost or died"


@given(amounts, periods, chances)
def test_what_is_believed_to_be_held_covers_all_that_may_be_spent_whatever_changes(
    amount: int, period: Period, chance: Random
) -> None:
    world = World(amount, period)
    for _ in play(world, chance, changes=1):
        for span in {span for one in world.gateways for span in one.granted}:
            assert world.held(span) >= world.truly_held(span)


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_request_from_before_the_gateway_asked_frees_nothing_of_what_it_holds(seconds: int) -> None:
    world = World(100_000, "total")
    world.admit(0, 30_000)
    world.learn(0, 0)
    world.now += timedelta(seconds=seconds)
    world.renew(0, 100_000)
    world.end(0, 30_000)
    world.arrive(0, 0)
    world.renew(1, 100_000)
    (span,) = world.spent
    assert (world.spent[span], world.held(span), world.truly_held(span)) == (30_000, 100_000, 100_000)


def test_what_was_admitted_while_the_budget_was_soft_frees_nothing_once_it_is_hard_again() -> None:
    world = World(200_000, "total")
    world.learn(0, 0)
    world.renew(0, 100_000)
    world.change(0, 200_000)
    world.learn(0, 0)
    for _ in range(2):
        world.now += timedelta(seconds=1)
        world.admit(0, 50_000)
        world.end(0, 50_000)
    world.arrive(0, 0)
    world.change(1, 200_000)
    world.learn(0, 0)
    world.arrive(0, 0)
    (span,) = world.spent
    assert (world.spent[span], world.held(span), world.truly_held(span)) == (100_000, 100_000, 100_000)
    # Granted anew, it counts again what is reserved from then on.
    world.change(1, 300_000)
    world.renew(0, 50_000)
    world.now += timedelta(seconds=1)
    world.admit(0, 60_000)
    world.end(0, 60_000)
    world.arrive(0, 0)
    assert (world.spent[span], world.held(span), world.truly_held(span)) == (160_000, 90_000, 90_000)


def test_a_grant_leaves_something_for_others_and_the_last_money_can_be_used() -> None:
    given = {"amount": 10_000_000, "spent": 0, "held": 0, "gateways": 3}
    assert escrow.grant(**given, wanted=10**9) == 10_000_000 // 6
    assert escrow.grant(**given, wanted=5) == 5
    last = {**given, "spent": 9_000_000, "held": 950_000}
    assert escrow.grant(**last, wanted=10**9) == 50_000
    assert escrow.grant(**{**last, "amount": 1_000}, wanted=10**9) == 0


def scope(amount: int = 1_000_000, *, hard: bool = True) -> Scope:
    return Scope(
        scope_id="key_1",
        scope_kind="key",
        budget_id="b",
        amount_microeur=amount,
        hard=hard,
        warn_percent=80,
    )


@pytest.mark.parametrize("hard", [True, False])
def test_a_budget_is_crossed_at_its_warning_and_at_its_amount(hard: bool) -> None:
    budget = scope(hard=hard)
    told = [
        escrow.crossed(budget, spent) for spent in (0, 799_999, 800_000, 999_999, 1_000_000, 2_000_000)
    ]
    assert told == ["none", "none", "soft", "soft", "hard", "hard"]
    assert escrow.crossed(scope(0, hard=hard), 0) == "hard", "nothing may be spent at all"


def test_a_hard_budget_is_crossed_too_where_the_last_hundredth_is_asked_for_in_vain() -> None:
    assert escrow.crossed(scope(), 990_001, in_vain=True) == "hard"
    assert escrow.crossed(scope(), 990_000, in_vain=True) == "soft"
    assert escrow.crossed(scope(), 100, in_vain=True) == "none", "it is held, not spent"
    assert escrow.crossed(scope(hard=False), 990_001, in_vain=True) == "soft"
    # A hundredth of it would serve many requests.
    assert escrow.crossed(scope(100_000_000), 99_500_000, in_vain=True) == "soft"


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from(["day", "month"]))
def test_a_moment_lies_in_one_period_and_periods_touch(at: datetime, period: Period) -> None:
    if at.year == 9999:
        return
    start = start_of(period, at)
    end = end_of(period, start)
    assert end is not None
    assert start <= at < end
    assert start_of(period, end) == end
    assert start_of(period, end - timedelta(microseconds=1)) == start


def test_a_period_is_by_utc_and_all_time_has_no_end() -> None:
    evening = datetime.fromisoformat("2026-12-01T00:30:00+02:00")
    assert start_of("day", evening) == datetime(2026, 11, 30, tzinfo=UTC)
    assert start_of("month", evening) == datetime(2026, 11, 1, tzinfo=UTC)
    assert end_of("total", start_of("total", evening)) is None
