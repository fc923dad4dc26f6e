"""Hard budgets: never beyond what was granted, by the ledger's own prices and periods."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.admission import Admission
from inference_gateway.domain.admission.money import PriceBook
from mesh_contracts.metering import Price
from meshkit.testing import NOW
from metering.domain.rate import price_for

from tests.domain.admissions import (
    DAY_END,
    DAY_START,
    PRICE,
    asked,
    budget,
    ceiling,
    held,
    lease,
    leases,
    left,
    money,
    refused,
)


def rich(granted: int = 1_000, **fields: Any) -> Admission:
    admission = Admission()
    admission.heed("project_1", budget(amount=1_000))
    admission.take(leases(money(granted=granted, **fields)), 100.0)
    return admission


prices = st.builds(
    lambda model, days, number, each: msgspec.structs.replace(
        PRICE,
        model=model,
        price_id=f"price_{number}",
        valid_from=NOW + timedelta(days=days),
        price_microeur_per_mtoken_in=each,
    ),
    st.sampled_from(["chat", "other"]),
    st.integers(-3, 3),
    st.integers(0, 9),
    st.integers(0, 9_999_999),
)


@given(st.lists(prices, max_size=8), st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_a_request_is_priced_as_the_ledger_will_price_it_and_rounded_up(
    some: list[Price], days: list[int]
) -> None:
    book = [PRICE, *some]
    kept = PriceBook(book)
    for day in days:
        at = NOW + timedelta(days=day)
        price = price_for(book, "chat", at)
        exact = 7 * price.price_microeur_per_mtoken_in + 3 * price.price_microeur_per_mtoken_out
        assert kept.cost("chat", 7, 3, at) == -(-exact // 1_000_000)


def test_a_hard_budget_without_a_lease_refuses_and_asks_at_once() -> None:
    urgent: list[None] = []
    admission = Admission(lambda: urgent.append(None))
    admission.heed("project_1", budget())
    urgent.clear()
    fault = refused(admission)
    assert (fault.status, fault.code, fault.should_retry) == (503, "budget_unconfirmed", None)
    assert fault.retry_after_ms == 50
    assert "project_1" in fault.message
    assert urgent


def test_nobody_is_sent_back_at_once_while_metering_does_not_answer() -> None:
    admission = Admission()
    admission.heed("project_1", budget())
    admission.unanswered()
    assert refused(admission).retry_after_ms == 1_000
    admission.take(leases(), 100.0)
    assert refused(admission).retry_after_ms == 50


def test_money_is_set_aside_at_the_bound_and_settled_at_the_cost() -> None:
    admission = rich(granted=100)
    one = held(admission, 10, 20)
    assert left(admission)[3] == (30, 70, 0, 100)
    assert refused(admission, 10, 10).code == "budget_short"
    one.settle(10, 1, 100.0)
    assert left(admission)[3] == (87, 0, 0, 100)


def test_what_is_unknown_is_not_spent_since_the_ledger_charges_nothing_for_it() -> None:
    admission = rich(granted=100)
    held(admission, 10, 20).settle(None, None, 100.0)
    assert left(admission)[3] == (100, 0, 0, 100)
    held(admission, 10, 20).settle(10, None, 100.0)
    assert left(admission)[3] == (90, 0, 0, 100)


def test_a_part_of_a_micro_euro_is_a_whole_one() -> None:
    cheap = msgspec.structs.replace(PRICE, price_microeur_per_mtoken_in=1)
    admission = Admission()
    admission.heed("project_1", budget())
    admission.take(leases(money(granted=2), prices=[cheap]), 100.0)
    held(admission, 1, 0).settle(1, 0, 100.0)
    held(admission, 1, 0).settle(1, 0, 100.0)
    assert refused(admission, 1, 0).code == "budget_short"


def test_a_spent_budget_refuses_for_good_though_money_is_still_held() -> None:
    admission = rich()
    admission.heed("project_1", budget(crossed="hard"))
    fault = refused(admission)
    assert (fault.status, fault.code, fault.type) == (429, "insufficient_quota", "insufficient_quota")
    assert fault.should_retry is False
    assert "1000 micro-euros for this day" in fault.message


def test_a_request_dearer_than_the_whole_budget_is_not_to_be_tried_again() -> None:
    fault = refused(rich(), 1_001, 0)
    assert (fault.code, fault.should_retry) == ("insufficient_quota", False)


def test_a_soft_budget_never_refuses() -> None:
    admission = Admission()
    admission.heed("project_1", budget(hard=False, crossed="hard"))
    held(admission, 9_999, 9_999)


def test_a_lease_that_has_run_out_grants_no_money_and_says_so() -> None:
    admission = rich()
    held(admission, now=104.999)
    fault = refused(admission, now=105.0)
    assert fault.code == "budget_unconfirmed"
    assert "run out" in fault.message
    admission.take(leases(money()), 105.0)
    held(admission, now=105.0)


@pytest.mark.parametrize("at", [DAY_START - timedelta(seconds=1), DAY_END])
def test_a_request_outside_the_period_of_the_lease_is_not_confirmed(at: Any) -> None:
    fault = refused(rich(), at=at)
    assert fault.code == "budget_unconfirmed"
    assert "day" in fault.message


def test_a_request_settles_in_the_period_in_which_it_was_admitted() -> None:
    admission = rich(granted=100)
    one = held(admission, 10, 20)
    admission.take(leases(money(granted=50, period_start=DAY_END, period_end=None)), 101.0)
    one.settle(10, 20, 102.0)
    assert left(admission)[3] == (50, 0, 0, 50)
    assert refused(admission, now=102.0).code == "budget_unconfirmed"
    held(admission, at=DAY_END, now=102.0)


def test_without_a_price_nothing_of_a_hard_budget_is_spent() -> None:
    admission = Admission()
    admission.heed("project_1", budget())
    admission.take(leases(money(), prices=[]), 100.0)
    assert "no price" in refused(admission).message


def test_a_request_in_progress_when_the_budget_came_is_charged_to_it() -> None:
    admission = Admission()
    one = held(admission, 10, 20)
    admission.heed("project_1", budget())
    admission.take(leases(money(granted=100)), 100.0)
    one.settle(10, 20, 101.0)
    assert left(admission)[3] == (30, 0, 0, 100)


def test_a_ceiling_that_comes_back_finds_what_was_spent_meanwhile_remembered() -> None:
    admission = rich(granted=100)
    held(admission, 10, 20).settle(10, 20, 100.0)
    admission.heed("project_1", None)
    held(admission, 999, 999).settle(0, 0, 100.0)
    admission.heed("project_1", budget())
    admission.take(leases(money(granted=100)), 101.0)
    assert left(admission)[3] == (30, 0, 0, 100)


def test_what_is_forgotten_is_taken_as_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_gateway.domain.admission.admission.FORMER_MAX", 0)
    admission = rich(granted=100)
    admission.heed("project_1", None)
    admission.heed("project_1", budget())
    admission.take(leases(money(granted=100)), 101.0)
    assert refused(admission, now=101.0).code == "budget_short"
    admission.take(leases(money(granted=150)), 101.0)
    assert left(admission)[3] == (50, 0, 0, 150)


def test_a_busy_scope_wishes_for_several_of_its_largest_requests() -> None:
    admission = rich(granted=40)
    held(admission, 10, 10)
    (wish,) = admission.wishes(101.0, NOW)
    assert (wish.scope_id, wish.wanted_microeur, wish.returned_microeur) == ("project_1", 160, 0)
    assert wish.period_start == DAY_START
    assert wish.requests_per_minute > 0
    assert wish.tokens_per_minute >= 20
    assert wish.parallel == 1


def test_what_was_refused_is_wished_for() -> None:
    admission = rich(granted=0)
    for _ in range(3):
        refused(admission, 10, 10)
    (wish,) = admission.wishes(101.0, NOW)
    assert wish.wanted_microeur == 4 * 40 + 3 * 40


def test_what_an_idle_scope_does_not_need_is_given_back_before_it_is_told() -> None:
    admission = rich(granted=500)
    held(admission, 10, 10).settle(10, 10, 100.0)
    admission.wishes(101.0, NOW)
    (wish,) = admission.wishes(200.0, NOW)
    at_hand, _, returned, granted = left(admission)[3]
    assert (wish.requests_per_minute, wish.parallel, wish.wanted_microeur) == (0, 0, 0)
    assert wish.returned_microeur == returned > 400
    assert at_hand == granted - 40 - returned <= 40
    (again,) = admission.wishes(201.0, NOW)
    assert again.returned_microeur >= returned


def test_the_last_of_a_budget_is_not_held_by_whom_nobody_asks() -> None:
    admission = rich(granted=500, left_microeur=0)
    admission.wishes(200.0, NOW)
    assert left(admission)[3] == (0, 0, 500, 500)


def test_past_its_period_a_wish_is_for_the_next_ones_money_once() -> None:
    admission = rich(granted=500)
    held(admission, 10, 10)
    wanted = [wish.wanted_microeur for at in (0, 1) for wish in admission.wishes(101.0 + at, DAY_END)]
    assert wanted == [160, 0]


def test_one_ask_names_so_many_scopes_those_in_need_first_and_all_in_turn() -> None:
    admission = Admission()
    for number in range(450):
        admission.heed(f"project_{number}", ceiling(f"project_{number}", requests_per_minute=60))
    seen: list[str] = []
    for _ in range(3):
        seen += [wish.scope_id for wish in admission.wishes(100.0, NOW)]
    assert len(seen) == 600
    assert len(set(seen)) == 450
    assert not admission.waiting
    held(admission)
    assert asked(admission)
    first = [wish.scope_id for wish in admission.wishes(101.0, NOW)]
    assert first[0] == "project_1"
    assert len(set(first)) == 200


def test_a_scope_that_is_gone_is_neither_bound_nor_wished_for() -> None:
    admission = Admission()
    admission.heed("project_1", ceiling(requests_per_minute=1))
    one = held(admission)
    refused(admission)
    admission.heed("project_1", None)
    admission.take(leases(lease(requests_per_minute=1)), 100.0)
    held(admission)
    one.settle(1, 1, 101.0)
    assert admission.wishes(101.0, NOW) == []


def test_what_cannot_fit_into_the_rest_of_a_budget_is_not_sent_back_to_wait_for_more() -> None:
    admission = Admission()
    admission.heed("project_1", budget(amount=100))
    admission.take(leases(money(granted=50, left_microeur=0)), 100.0)
    one = held(admission, 10, 0)
    assert refused(admission, 45, 0).code == "budget_short", "what is in progress may give back"
    one.settle(10, 0, 100.0)
    rest = refused(admission, 45, 0)
    assert (rest.code, rest.should_retry) == ("insufficient_quota", False)
    others = msgspec.structs.replace(leases(money(granted=50, left_microeur=0)), gateways=2)
    admission.take(others, 100.0)
    assert refused(admission, 45, 0).code == "budget_short", "another gateway may give back"
