"""Which replica is asked: load, affinity, and what is passed over."""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.routing.choice import pair
from inference_gateway.domain.routing.fleet import Fleet
from inference_gateway.domain.routing.hedging import PROBE_PATIENCE_S, hedge_after
from inference_gateway.domain.routing.pool import SILENT_MIN_S
from inference_gateway.domain.routing.signals import Signals, parse
from mesh_contracts.inference import CONSIDERED_MAX
from meshkit.testing import test_id

from tests.domain.routes import ask, fleet_of, letter, route, sent, whole

CHANCES = st.floats(0, 1, exclude_max=True)


@given(st.integers(2, 50), CHANCES)
def test_two_choices_are_two_different_replicas_of_those_there_are(count: int, chance: float) -> None:
    first, second = pair(count, chance)
    assert first != second
    assert {first, second} <= set(range(count))


@given(st.lists(st.tuples(st.integers(1, 9_000), CHANCES), max_size=60), CHANCES)
def test_of_two_replicas_the_one_with_fewer_tokens_in_flight_is_asked(
    before: list[tuple[int, float]], chance: float
) -> None:
    to = route(2)
    fleet = fleet_of(to)
    tokens: Counter[str | None] = Counter({"a": 0, "b": 0})
    for one, drawn in before:
        tokens[letter(sent(fleet, to, tokens=one, chance=drawn))] += one
    chosen = fleet.choose(to, ask(), 0.0, chance)
    assert tokens[letter(chosen)] == min(tokens.values())


@pytest.mark.parametrize("replicas", [1, 2])
def test_equal_replicas_take_turns_at_once(replicas: int) -> None:
    to = route(replicas)
    fleet = fleet_of(to)
    asked = Counter(whole(fleet, to, "ok") for _ in range(10))
    assert set(asked.values()) == {10 // replicas}


def test_a_replica_that_was_tried_is_not_asked_again_while_another_is_there() -> None:
    to = route(3)
    fleet = fleet_of(to)
    chosen = fleet.choose(to, ask("a", "b"), 0.0, 0.0)
    assert chosen is not None
    assert (letter(chosen), chosen.by) == ("c", "retry")
    passed = {one.workload_id: one.passed_over for one in chosen.considered[1:]}
    assert passed == {test_id("workload", "a"): "tried", test_id("workload", "b"): "tried"}
    assert fleet.choose(to, ask("a", "b", "c"), 0.0, 0.0) is None


def test_full_replicas_are_not_asked_and_a_place_is_free_again_when_a_request_ends() -> None:
    to = route(2, routing={"parallel_max": 2})
    fleet = fleet_of(to)
    flights = [sent(fleet, to) for _ in range(4)]
    assert fleet.capacity(to, 0.0) == 0
    assert fleet.choose(to, ask(), 0.0, 0.5) is None
    fleet.end(flights[1], 0.0, "ok")
    assert fleet.capacity(to, 0.0) == 1
    again = fleet.choose(to, ask(), 0.0, 0.5)
    assert again is not None
    assert again.replica == flights[1].replica
    assert [one.passed_over for one in again.considered] == [None, "full"]


@pytest.mark.parametrize(("engine", "room"), [("llama", 4), ("vllm", 256), ("external", 1_024)])
def test_a_replica_takes_as_many_requests_as_its_engine_is_known_to(engine: Any, room: int) -> None:
    to = route(1, engine=engine)
    assert fleet_of(to).capacity(to, 0.0) == room


def test_a_replica_that_says_it_is_busy_is_full_for_a_moment() -> None:
    to = route(1)
    fleet = fleet_of(to)
    whole(fleet, to, "busy", now=10.0)
    assert fleet.choose(to, ask(), 10.1, 0.0) is None
    assert fleet.choose(to, ask(), 10.3, 0.0) is not None


def test_what_other_gateways_sent_an_engine_counts_until_it_is_old() -> None:
    to = route(2)
    fleet = fleet_of(to)
    fleet.heed(to.endpoint_id, test_id("workload", "a"), Signals(8, 4, 0.2), 0.0)
    assert {whole(fleet, to, "ok", now=1.0) for _ in range(6)} == {"b"}
    assert {whole(fleet, to, "ok", now=60.0) for _ in range(6)} == {"a", "b"}


def test_a_full_cache_makes_a_replica_busier_than_its_tokens_say() -> None:
    to = route(2)
    fleet = fleet_of(to)
    sent(fleet, to, tokens=1_000, chance=0.0)
    sent(fleet, to, tokens=1_500, chance=0.0)
    light = fleet.choose(to, ask(), 0.0, 0.0)
    assert light is not None
    fleet.heed(to.endpoint_id, light.replica.workload_id, Signals(1, 0, 1.0), 0.0)
    other = fleet.choose(to, ask(), 0.0, 0.0)
    assert other is not None
    assert other.replica != light.replica


def test_a_session_stays_on_its_replica_and_moves_only_when_that_is_gone() -> None:
    to = route(4, routing={"sticky": "session", "parallel_max": 2})
    fleet = fleet_of(to)
    own = {name: whole(fleet, to, "ok", session=name, chance=0.3) for name in map(str, range(40))}
    assert set(own.values()) == set("abcd"), "sessions are spread"
    assert own == {name: whole(fleet, to, "ok", session=name, chance=0.9) for name in own}
    fewer = route("abd", routing={"sticky": "session", "parallel_max": 2})
    fleet.put(to.endpoint_id, fewer)
    left = {name: whole(fleet, fewer, "ok", session=name) for name in own}
    assert {name for name in own if left[name] != own[name]} == {n for n in own if own[n] == "c"}


def test_a_session_does_not_fill_its_replica_far_above_the_mean() -> None:
    to = route(4, routing={"sticky": "session"})
    fleet = fleet_of(to)
    asked = Counter(letter(sent(fleet, to, session="s")) for _ in range(40))
    assert len(asked) == 4
    assert max(asked.values()) <= 1.25 * 40 / 4 + 1


def test_a_key_stays_on_its_replica_where_the_endpoint_wishes_it() -> None:
    to = route(4, routing={"sticky": "key"})
    fleet = fleet_of(to)
    one = {whole(fleet, to, "ok", key_id="k1", chance=at / 9) for at in range(9)}
    assert len(one) == 1


def test_an_adapter_is_asked_for_where_it_is_loaded_until_that_replica_is_crowded() -> None:
    to = route(4, routing={"loras": ["style"]})
    fleet = fleet_of(to)
    first = sent(fleet, to, lora="style", chance=0.4)
    again = [sent(fleet, to, lora="style", chance=0.1) for _ in range(8)]
    assert {letter(one) for one in again} == {letter(first)}
    assert {one.by for one in again} == {"lora"}
    later = [letter(sent(fleet, to, lora="style", chance=at / 9)) for at in range(9)]
    assert set(later) != {letter(first)}
    long_after = fleet.choose(to, ask(lora="style"), 10_000.0, 0.4)
    assert long_after is not None
    assert long_after.by == "least_load"


def test_round_robin_asks_each_in_turn() -> None:
    to = route(3, routing={"by": "round_robin"})
    fleet = fleet_of(to)
    asked = [whole(fleet, to, "ok") for _ in range(6)]
    assert asked[:3] == asked[3:]
    assert set(asked) == set("abc")


def test_an_explanation_lists_the_chosen_one_first_and_no_more_than_it_may() -> None:
    to = route(20, routing={"by": "round_robin"})
    fleet = fleet_of(to)
    chosen = fleet.choose(to, ask("a", "b"), 0.0, 0.0)
    plain = fleet.choose(to, ask(), 0.0, 0.0)
    for one in (chosen, plain):
        assert one is not None
        assert len(one.considered) <= CONSIDERED_MAX
        assert one.considered[0].workload_id == one.replica.workload_id


def test_a_replica_that_leaves_and_comes_back_still_has_its_requests() -> None:
    both, one = route("ab"), route("a")
    fleet = fleet_of(both)
    flights = [sent(fleet, both) for _ in range(4)]
    fleet.put(both.endpoint_id, one)
    assert fleet.in_flight(both.endpoint_id) == (4, 400), "they are still under way there"
    assert fleet.capacity(both, 0.0) == 256 - 2
    fleet.put(both.endpoint_id, route("ab"))
    assert fleet.capacity(both, 0.0) == 2 * 256 - 4
    assert fleet.in_flight(both.endpoint_id) == (4, 400)
    fleet.put(both.endpoint_id, one)
    for flight in flights:
        fleet.end(flight, 1.0, "ok")
    assert fleet.in_flight(both.endpoint_id) == (0, 0)
    assert set(fleet._pools[both.endpoint_id]._known) == {one.replicas[0].workload_id}


@given(st.lists(st.sampled_from(["abc", "bcd", "cde", "e", ""]), max_size=30))
def test_nothing_is_kept_of_replicas_and_endpoints_that_are_gone(steps: list[str]) -> None:
    fleet = Fleet()
    for letters in steps:
        to = route(letters, routing={"by": "prefix", "loras": ["style"]})
        fleet.put(to.endpoint_id, to)
        if letters:
            whole(fleet, to, "ok", prefix=b"p" * 600, lora="style")
        pool = fleet._pools[to.endpoint_id]
        assert set(pool._known) == {one.workload_id for one in to.replicas}
        assert pool.warm.of("style", 0.0) <= set(pool._known)
    if steps:
        fleet.put(to.endpoint_id, None)
    assert not fleet._pools
    assert fleet._prefixes.held == 0


def test_a_second_replica_is_asked_where_it_is_wished_or_the_first_is_silent() -> None:
    plain, hedged = route(2, name="plain"), route(2, name="hedged", routing={"hedge_after_ms": 300})
    fleet = fleet_of(plain, hedged)
    assert hedge_after(plain, sent(fleet, plain)) == SILENT_MIN_S, "nobody is silent so long"
    assert hedge_after(hedged, sent(fleet, hedged)) == pytest.approx(0.3)
    for _ in range(50):
        flight = sent(fleet, hedged)
        fleet.first_byte(flight, 4.0, 10, 4.0)
        fleet.end(flight, 4.0, "ok")
    assert hedge_after(hedged, sent(fleet, hedged)) > 4.0
    alone = route(1, name="alone", routing={"hedge_after_ms": 300})
    fleet.put(alone.endpoint_id, alone)
    assert hedge_after(alone, sent(fleet, alone)) == math.inf


def test_a_probe_is_not_waited_for_as_long_as_a_sound_replica() -> None:
    to = route(2)
    fleet = fleet_of(to)
    b = (test_id("workload", "b"),)
    for _ in range(5):
        assert whole(fleet, to, "fault", tried=b) == "a"
    probe = sent(fleet, to, now=1.0)
    assert probe.by == "probe"
    assert hedge_after(to, probe) == PROBE_PATIENCE_S


VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b}"} 3.0
vllm:num_requests_running{engine="1",model_name="a b}"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a b}"} 7.0 1700000000000
vllm:num_requests_waiting_by_reason{engine="0"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="a b}"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a b}"} 0.75
"""
LLAMA = """# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
llamacpp:requests_deferred 1
llamacpp:n_tokens_max 400
"""


def test_what_engines_say_of_their_load_is_read_from_their_pages() -> None:
    assert parse(VLLM) == Signals(5, 7, 0.75)
    assert parse(LLAMA) == Signals(2, 1, None)
    assert parse("vllm:num_requests_running NaN\nllamacpp:requests_processing") is None
    assert parse("<html>404</html>") is None


@given(st.text())
def test_no_page_breaks_the_reading_of_it(page: str) -> None:
    for text in (page, f"vllm:num_requests_running{page}", f"llamacpp:requests_processing {page}"):
        got = parse(text)
        assert got is None or (got.running >= 0 and got.waiting >= 0)
