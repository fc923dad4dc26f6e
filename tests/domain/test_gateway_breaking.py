"""Replicas that fail, fall silent or fall behind: left alone, probed, and never all of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.routing.breaker import PROBE_MAX_S, Breaker
from inference_gateway.domain.routing.fleet import Chosen, Outcome
from inference_gateway.domain.routing.pool import SILENT_MIN_S
from meshkit.testing import test_id

from tests.domain.routes import ask, fleet_of, letter, route, sent, whole

ONLY_B: dict[str, Any] = {"tried": (test_id("workload", "a"),)}
ONLY_A: dict[str, Any] = {"tried": (test_id("workload", "b"),)}


def broken(breaker: Breaker, outcomes: str) -> Breaker:
    for one in outcomes:
        probe = breaker.begin()
        breaker.succeed(probe=probe) if one == "." else breaker.fail(0.0, probe=probe)
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ("xxxx", False),
        ("xxxxx", True),
        ("xxxx.xxxx.", False),
        ("x." * 9 + "..", False),
        ("x." * 9 + "xx", True),
        ("x." * 5, False),
        ("." * 20 + "xx." * 4 + "xx", True),
    ],
)
def test_a_circuit_opens_after_five_faults_in_a_row_or_half_of_the_last_twenty(
    outcomes: str, *, opens: bool
) -> None:
    assert (broken(Breaker(), outcomes).probe_at is not None) == opens


def test_probes_come_one_at_a_time_and_ever_later_and_a_good_one_closes() -> None:
    breaker = broken(Breaker(), "xxxxx")
    now, waits = 0.0, []
    for _ in range(7):
        assert breaker.probe_at is not None
        waits.append(breaker.probe_at - now)
        assert not breaker.due(breaker.probe_at - 0.01)
        now = breaker.probe_at
        assert breaker.due(now)
        assert breaker.begin()
        assert not breaker.due(now + 100), "one is on its way"
        breaker.fail(now, probe=True)
    assert waits == [1, 2, 4, 8, 16, PROBE_MAX_S, PROBE_MAX_S]
    breaker.begin()
    breaker.succeed(probe=True)
    assert breaker.probe_at is None
    assert broken(breaker, "xxxx").probe_at is None, "what was before is forgotten"
    breaker.fail(50.0, probe=False)
    assert breaker.probe_at == 51.0


def test_what_was_sent_before_a_circuit_opened_neither_closes_it_nor_puts_the_probe_off() -> None:
    breaker = broken(Breaker(), "xxxxx")
    breaker.fail(0.9, probe=False)
    breaker.succeed(probe=False)
    assert breaker.probe_at == 1.0
    assert breaker.begin()
    breaker.forgo(probe=False)
    breaker.fail(1.0, probe=False)
    assert breaker.probing
    breaker.forgo(probe=True)
    assert breaker.due(1.0), "the client left: nothing was learnt"


def test_a_failing_replica_is_passed_over_probed_and_taken_back() -> None:
    to = route(2)
    fleet = fleet_of(to)
    for _ in range(5):
        whole(fleet, to, "fault", **ONLY_A)
    assert {whole(fleet, to, "ok", now=0.5) for _ in range(6)} == {"b"}
    passed = fleet.choose(to, ask(), 0.5, 0.0)
    assert passed is not None
    assert [one.passed_over for one in passed.considered] == [None, "circuit_open"]
    retried = fleet.choose(to, ask("b"), 0.5, 0.0)
    assert retried is not None, "what could be served is not refused"
    assert retried.by == "probe"
    probe = sent(fleet, to, now=1.0)
    assert (letter(probe), probe.by) == ("a", "probe")
    assert letter(sent(fleet, to, now=1.0)) == "b", "one probe at a time"
    fleet.first_byte(probe, 0.1, 10, 1.1)
    assert {whole(fleet, to, "ok", now=1.2) for _ in range(6)} == {"a", "b"}
    fleet.end(probe, 60.0, "ok")


def test_where_every_circuit_is_open_the_one_whose_probe_is_due_first_is_asked() -> None:
    to = route(2)
    fleet = fleet_of(to)
    other = {"tried": (test_id("workload", "a"),)}
    for _ in range(5):
        whole(fleet, to, "fault", now=0.0, **ONLY_A)
    for _ in range(5):
        whole(fleet, to, "fault", now=0.5, **other)
    chosen = sent(fleet, to, now=0.6)
    assert (letter(chosen), chosen.by) == ("a", "probe")
    assert letter(sent(fleet, to, now=0.6)) == "b", "a is being probed"
    assert fleet.choose(to, ask(), 0.6, 0.0) is not None


def test_a_healthy_replica_that_is_full_is_waited_for_rather_than_a_broken_one_asked() -> None:
    to = route(2, routing={"parallel_max": 1})
    fleet = fleet_of(to)
    for _ in range(5):
        whole(fleet, to, "fault", **ONLY_A)
    sent(fleet, to)
    assert fleet.choose(to, ask(), 0.5, 0.0) is None
    assert fleet.capacity(to, 0.5) == 0
    assert letter(fleet.choose(to, ask(), 1.0, 0.0)) == "a", "its probe is due"


def served(fleet: Any, to: Any, name: str, seconds: float, times: int, *, now: float = 0.0) -> None:
    others = tuple(
        one.workload_id for one in to.replicas if one.workload_id != test_id("workload", name)
    )
    for _ in range(times):
        flight = sent(fleet, to, now=now, tried=others)
        fleet.first_byte(flight, seconds, 100, now)
        fleet.end(flight, now, "ok")


def test_a_replica_far_slower_than_its_peers_is_left_alone_for_a_while_and_longer_the_next_time() -> (
    None
):
    to = route(3)
    fleet = fleet_of(to)
    for name, seconds in (("b", 0.1), ("c", 0.12), ("a", 1.0)):
        served(fleet, to, name, seconds, 10)
    assert {whole(fleet, to, "ok", now=9.0, chance=at / 9) for at in range(9)} == {"b", "c"}
    assert letter(fleet.choose(to, ask("b", "c"), 9.0, 0.0)) == "a", "slow is better than nothing"
    assert "a" in {whole(fleet, to, "ok", now=10.0, chance=at / 9) for at in range(9)}
    served(fleet, to, "a", 1.0, 10, now=10.0)
    assert "a" not in {whole(fleet, to, "ok", now=29.0, chance=at / 9) for at in range(9)}
    assert "a" in {whole(fleet, to, "ok", now=30.0, chance=at / 9) for at in range(9)}


def test_few_samples_few_peers_and_small_differences_eject_nobody() -> None:
    for replicas, slow_s, samples in ((3, 1.0, 9), (2, 1.0, 50), (3, 0.04, 50)):
        to = route(replicas)
        fleet = fleet_of(to)
        for name in "bc"[: replicas - 1]:
            served(fleet, to, name, 0.01, 50)
        served(fleet, to, "a", slow_s, samples)
        assert "a" in {whole(fleet, to, "ok", chance=at / 9) for at in range(9)}


@given(st.lists(st.tuples(st.integers(0, 8), st.floats(0.001, 60)), max_size=40), st.integers(3, 9))
def test_ejection_never_takes_more_than_a_third(steps: list[tuple[int, float]], replicas: int) -> None:
    to = route(replicas)
    fleet = fleet_of(to)
    for at, seconds in steps:
        served(fleet, to, "abcdefghi"[at % replicas], seconds, 10)
        states = fleet._pools[to.endpoint_id].states
        assert sum(1 for one in states if one.ejected_until > 0.0) <= replicas // 3


def test_a_replica_that_gives_no_sign_gets_no_more_until_it_does() -> None:
    to = route(2)
    fleet = fleet_of(to)
    whole(fleet, to, "ok", now=1.0, **ONLY_A)
    frozen = sent(fleet, to, now=100.0, **ONLY_A)
    assert fleet.elsewhere(sent(fleet, to, now=101.0), 101.0), "it was idle, not silent"
    fleet.first_byte(sent(fleet, to, tokens=9_000, now=105.0, **ONLY_B), 0.1, 10, 105.1)
    late = 100.0 + SILENT_MIN_S + 0.1
    assert {whole(fleet, to, "ok", now=late, tokens=500) for _ in range(6)} == {"b"}
    assert letter(fleet.choose(to, ask("b"), late, 0.0)) == "a", "slow is better than nothing"
    fleet.first_byte(frozen, late, 10, late)
    assert "a" in {whole(fleet, to, "ok", now=late + 50) for _ in range(6)}, "its answer may take long"


def test_a_replica_that_makes_a_long_answer_whole_is_not_taken_for_a_silent_one() -> None:
    to = route(2)
    fleet = fleet_of(to)
    fleet.end(sent(fleet, to, **ONLY_A), 20.0, "ok")
    for _ in range(10):
        flight = sent(fleet, to, now=20.0, tried=(test_id("workload", "a"),))
        fleet.first_byte(flight, 0.1, 10, 20.1)
        fleet.end(flight, 21.0, "ok")
    sent(fleet, to, now=100.0, **ONLY_A)
    other = sent(fleet, to, now=120.0)
    assert letter(other) == "b"
    assert fleet.elsewhere(other, 120.0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "ok", "fault", "left", "busy", "byte", "wait"]),
        st.floats(0, 1, exclude_max=True),
    ),
    max_size=80,
)
RULES = st.sampled_from(
    [{}, {"by": "prefix"}, {"by": "round_robin"}, {"sticky": "session"}, {"loras": ["style"]}]
)


@given(STEPS, st.integers(1, 5), RULES)
def test_a_choice_is_never_tried_full_or_open_while_another_fits_and_counts_come_out_even(
    steps: list[tuple[str, float]], replicas: int, rules: dict[str, Any]
) -> None:
    to = route(replicas, routing={"parallel_max": 3, **rules})
    fleet = fleet_of(to)
    now = 0.0
    flights: list[Chosen] = []
    for step, chance in steps:
        pool = fleet._pools[to.endpoint_id]
        if step == "send":
            tried = tuple(one.workload_id for one in to.replicas[: int(chance * 2)])
            well = [one for one in pool.states if one.id not in tried and pool.fits(one, now)]
            due = [one for one in pool.states if one.breaker.due(now)]
            wanted = ask(tried=tried, session="s", lora="style", prefix=b"p" * 600)
            chosen = fleet.choose(to, wanted, now, chance)
            if not tried:
                assert (chosen is not None) == (fleet.capacity(to, now) > 0 or any(map(_free, due)))
            if chosen is None:
                assert not well
                continue
            assert chosen.replica.workload_id not in tried
            assert chosen.state.in_flight < chosen.state.room
            assert chosen.state in well or not well or (chosen.by == "probe" and chosen.state in due)
            fleet.begin(chosen, now)
            flights.append(chosen)
        elif step == "wait":
            now += chance * 20
        elif flights:
            flight = flights.pop(int(chance * len(flights)))
            if step == "byte":
                fleet.first_byte(flight, chance, 10, now)
                flights.append(flight)
            else:
                ended: Outcome = step  # type: ignore[assignment]
                fleet.end(flight, now, ended)
    for flight in flights:
        fleet.end(flight, now, "ok")
    for state in fleet._pools[to.endpoint_id].states:
        assert (state.in_flight, state.tokens, state.awaiting) == (0, 0, 0)


def _free(state: Any) -> bool:
    return bool(state.in_flight < state.room)
