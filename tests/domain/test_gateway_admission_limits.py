"""Requests and tokens a minute, and requests at once: exact, at four scopes, and a refusal takes nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.admission import Admission
from inference_gateway.domain.admission.gcra import MINUTE_NS, Bucket

from tests.domain.admissions import (
    SCOPES,
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

SECOND_NS = 1_000_000_000

takes = st.lists(
    st.tuples(st.integers(0, 40 * SECOND_NS), st.integers(1, 40), st.integers(0, 40)), max_size=60
)


def fits(bucket: Bucket, amount: int, now: int) -> bool:
    return bucket.raw_at(now) >= amount * MINUTE_NS


@given(st.integers(1, 100), takes)
def test_what_is_given_back_never_stands_higher_than_had_each_moment_been_looked_at(
    share: int, steps: list[tuple[int, int, int]]
) -> None:
    bucket, now, left, looked, full = Bucket(share), 0, share * MINUTE_NS, 0, share * MINUTE_NS
    for passed, taken, used in steps:
        now += passed
        # Every rise is counted at once, and what is over the brim is lost at once.
        left, looked = min(full, left + (now - looked) * share), now
        left = min(full, left + (taken - used) * MINUTE_NS)
        bucket.give_back((taken - used) * MINUTE_NS, now)
        assert bucket.raw <= full
        if passed % 2:
            assert bucket.raw_at(now) == left


@given(st.integers(1, 100), takes)
def test_no_window_sees_more_than_a_minutes_share_and_what_rises_within_it(
    share: int, steps: list[tuple[int, int, int]]
) -> None:
    bucket, now = Bucket(share), 0
    taken: list[tuple[int, int]] = []
    for passed, amount, _ in steps:
        now += passed
        if fits(bucket, amount, now):
            bucket.raw -= amount * MINUTE_NS
            taken.append((now, amount))
    for first, (begin, _) in enumerate(taken):
        total = 0
        for end, amount in taken[first:]:
            total += amount
            assert total * MINUTE_NS <= share * (end - begin) + share * MINUTE_NS


@given(st.integers(1, 100), takes)
def test_the_wait_is_exact_to_the_nanosecond(share: int, steps: list[tuple[int, int, int]]) -> None:
    bucket, now = Bucket(share), 0
    for passed, amount, _ in steps:
        now += passed
        if fits(bucket, amount, now):
            bucket.raw -= amount * MINUTE_NS
        elif (wait := bucket.wait_ns(amount, now)) is None:
            assert amount > share
        else:
            assert wait > 0
            assert not fits(bucket, amount, now + wait - 1)
            now += wait
            assert fits(bucket, amount, now)


@given(st.integers(1, 100), takes)
def test_a_share_that_changes_never_makes_anything(
    share: int, steps: list[tuple[int, int, int]]
) -> None:
    bucket, now = Bucket(share), 0
    for passed, amount, other in steps:
        now += passed
        before = bucket.left(now)
        bucket.reshare(other, now)
        assert bucket.left(now) == min(before, other)
        if fits(bucket, amount, now):
            bucket.raw -= amount * MINUTE_NS


def test_the_first_lease_begins_full_less_what_was_used_before_it() -> None:
    admission = Admission()
    admission.heed("project_1", ceiling(requests_per_minute=80))
    for _ in range(10):
        held(admission)
    assert refused(admission).retry_after_ms == 6_000
    admission.take(leases(lease(requests_per_minute=40)), 100.0)
    admitted = sum(not hasattr(asked(admission), "status") for _ in range(100))
    assert admitted == 30


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50))
def test_settling_gives_back_exactly_what_was_not_used(reserved: int, prompt: int, answer: int) -> None:
    admission = Admission()
    for scope in SCOPES:
        admission.heed(scope, ceiling(scope, tokens_per_minute=1_000, parallel_requests=9))
    admission.take(leases(*(lease(scope, tokens_per_minute=1_000) for scope in SCOPES)), 100.0)
    one = held(admission, prompt=reserved, answer=reserved)
    assert {left(admission, scope)[0] for scope in SCOPES} == {1}
    one.settle(prompt, answer, 100.0)
    for scope in SCOPES:
        active, _, tokens, _ = left(admission, scope)
        assert active == 0
        assert tokens == (1_000 - prompt - answer) * MINUTE_NS


def test_what_is_unknown_counts_as_much_as_it_might_have_been() -> None:
    admission = Admission()
    admission.heed("project_1", ceiling(tokens_per_minute=100))
    admission.take(leases(lease(tokens_per_minute=100)), 100.0)
    held(admission, 30, 30).settle(None, 5, 100.0)
    assert left(admission)[2] == 65 * MINUTE_NS


def test_a_request_is_settled_once() -> None:
    admission = Admission()
    one = held(admission)
    one.settle(1, 1, 100.0)
    with pytest.raises(AssertionError):
        one.settle(1, 1, 100.0)


@given(st.sampled_from(SCOPES), st.sampled_from(["requests", "tokens", "parallel", "money"]))
def test_a_refusal_takes_nothing_at_any_scope(where: str, what: str) -> None:
    admission = Admission()
    tight = {
        "requests": {"requests_per_minute": 1},
        "tokens": {"tokens_per_minute": 30},
        "parallel": {"parallel_requests": 1},
        "money": {},
    }[what]
    for scope in SCOPES:
        wide = {"requests_per_minute": 99, "tokens_per_minute": 9_999, "parallel_requests": 99}
        admission.heed(scope, budget(scope, **{**wide, **(tight if scope == where else {})}))
    admission.take(
        leases(
            *(
                money(
                    scope,
                    granted=60 if (what, scope) == ("money", where) else 999,
                    requests_per_minute=99,
                    tokens_per_minute=9_999,
                    parallel_requests=99,
                )
                for scope in SCOPES
            )
        ),
        100.0,
    )
    held(admission)
    before = [left(admission, scope) for scope in SCOPES]
    fault = refused(admission)
    assert [left(admission, scope) for scope in SCOPES] == before
    assert where in fault.message
    assert fault.status == 429
    assert fault.retry_after_ms


def test_the_refusal_says_what_is_left_and_exactly_when_to_come_back() -> None:
    admission = Admission()
    admission.heed("key_1", ceiling("key_1", tokens_per_minute=60))
    admission.take(leases(lease("key_1", tokens_per_minute=60)), 100.0)
    held(admission, 20, 20)
    fault = refused(admission, 20, 10)
    assert (fault.status, fault.code, fault.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert fault.retry_after_ms == 10_000
    assert fault.reasons == [
        {
            "code": "tokens_per_minute",
            "scope_kind": "key",
            "scope_id": "key_1",
            "limit": 60,
            "left": 20,
            "wanted": 30,
        }
    ]
    refused(admission, 20, 10, now=109.998)
    held(admission, 20, 10, now=110.0)


def test_of_several_refusals_the_one_that_lasts_longest_is_told() -> None:
    admission = Admission()
    admission.heed("project_1", ceiling(requests_per_minute=60))
    admission.heed("key_1", ceiling("key_1", requests_per_minute=1))
    admission.take(leases(lease(requests_per_minute=1), lease("key_1", requests_per_minute=1)), 100.0)
    held(admission)
    admission.take(leases(lease(requests_per_minute=60)), 100.0)
    assert refused(admission).reasons[0]["scope_id"] == "key_1"


def test_what_can_never_fit_is_not_to_be_tried_again() -> None:
    admission = Admission()
    admission.heed("project_1", ceiling(tokens_per_minute=100))
    fault = refused(admission, 60, 50)
    assert (fault.code, fault.should_retry, fault.retry_after_ms) == (
        "tokens_exceed_limit",
        False,
        None,
    )
    assert "60 of prompt, 50 of answer" in fault.message
    assert "100 a minute" in fault.message


def test_a_ceiling_that_falls_binds_at_once_and_one_that_rises_waits_for_a_lease() -> None:
    admission = Admission()
    admission.heed("project_1", ceiling(parallel_requests=8, requests_per_minute=80))
    admission.take(leases(lease(parallel_requests=8, requests_per_minute=80)), 100.0)
    admission.heed("project_1", ceiling(parallel_requests=1, requests_per_minute=80))
    one = held(admission)
    assert refused(admission).reasons[0]["code"] == "parallel_requests"
    admission.heed("project_1", ceiling(parallel_requests=9, requests_per_minute=80))
    assert refused(admission).reasons[0]["code"] == "parallel_requests"
    one.settle(0, 0, 100.0)
    held(admission)


def test_a_gateway_goes_on_with_its_last_share_while_metering_is_silent() -> None:
    admission = Admission()
    admission.heed("project_1", ceiling(requests_per_minute=60))
    admission.take(leases(lease(requests_per_minute=30)), 100.0)
    for minute in range(5):
        for _ in range(30):
            held(admission, now=1_000.0 + 60 * minute)
        refused(admission, now=1_000.0 + 60 * minute)


def test_headers_show_the_tightest_scope_and_nothing_where_nothing_is_limited() -> None:
    admission = Admission()
    assert held(admission).headers() == []
    admission.heed("project_1", ceiling(requests_per_minute=600))
    admission.heed("key_1", ceiling("key_1", requests_per_minute=60, tokens_per_minute=1_000))
    admission.take(
        leases(
            lease(requests_per_minute=600),
            lease("key_1", requests_per_minute=30, tokens_per_minute=900),
        ),
        100.0,
    )
    assert held(admission, 90, 10).headers() == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"29"),
        (b"x-ratelimit-reset-requests", b"2s"),
        (b"x-ratelimit-limit-tokens", b"1000"),
        (b"x-ratelimit-remaining-tokens", b"800"),
        (b"x-ratelimit-reset-tokens", b"7s"),
    ]


def test_a_request_says_what_it_was_counted_against() -> None:
    admission = Admission()
    admission.heed("project_1", ceiling(requests_per_minute=80, parallel_requests=8))
    admission.heed("key_1", budget("key_1"))
    admission.take(
        leases(lease(requests_per_minute=60, parallel_requests=5), money("key_1", granted=100)), 100.0
    )
    project, key = held(admission).counted
    assert (project.scope, project.requests_left, project.parallel_left) == ("project_1", 59, 4)
    assert (project.tokens_left, project.microeur_left) == (None, None)
    assert (key.scope, key.microeur_left) == ("key_1", 60)


def test_a_refusal_says_what_is_left_as_an_answer_does() -> None:
    admission = Admission()
    admission.heed("project_1", ceiling(requests_per_minute=1, tokens_per_minute=900))
    admission.take(leases(lease(requests_per_minute=1, tokens_per_minute=900)), 100.0)
    held(admission)
    said = dict(refused(admission).headers)
    assert said[b"x-ratelimit-limit-requests"] == b"1"
    assert said[b"x-ratelimit-remaining-requests"] == b"0"
    assert said[b"x-ratelimit-remaining-tokens"] == b"880"
    assert said[b"x-ratelimit-reset-requests"] == b"1m0s"
