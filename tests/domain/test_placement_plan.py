"""The plan: replicas come before they go, failures are tried with growing pauses."""

from datetime import timedelta
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.placement import EndpointState, Engine, Replicas
from meshkit.testing import NOW
from placement.domain.backoff import BACKOFF_MAX_S
from placement.domain.plan import after_failure

from tests.domain.plans import placed, plan, wanted
from tests.domain.test_placement_decide import server


def test_a_new_endpoint_starts_its_least_number_of_replicas_on_different_nodes() -> None:
    answer = plan(wanted(replicas=Replicas(min=2, max=4)), [], [server("n1"), server("n2")], NOW)
    assert {place.grant.node_id for place in answer.places} == {"n1", "n2"}
    assert (answer.state, answer.ready, answer.missing) == ("starting", 0, 0)


def test_a_settled_endpoint_is_left_alone() -> None:
    answer = plan(wanted(state="serving", ready=1), [placed("w1")], [server("n1")], NOW)
    assert (answer.places, answer.stops, answer.state, answer.reasons) == ((), (), "serving", ())


def test_what_does_not_fit_waits_with_its_reason() -> None:
    answer = plan(wanted(), [], [], NOW)
    assert (answer.state, answer.missing) == ("pending", 1)
    assert [reason.code for reason in answer.reasons] == ["no_ready_node"]


def test_a_replica_on_a_cordoned_node_serves_until_its_successor_answers() -> None:
    old = placed("old", node_state="cordoned")
    fleet = [server("n1", state="cordoned"), server("n2")]
    first = plan(wanted(state="serving", ready=1), [old], fleet, NOW)
    assert [place.replaces for place in first.places] == [old]
    assert first.stops == ()
    assert (first.state, first.ready) == ("serving", 1)

    successor = placed("new", "n2", "starting", replaces="old")
    assert plan(wanted(state="serving", ready=1), [old, successor], fleet, NOW).stops == ()

    done = plan(
        wanted(state="serving", ready=1),
        [old, msgspec.structs.replace(successor, state="ready")],
        fleet,
        NOW,
    )
    assert done.stops == (old,)
    assert done.ready == 1


def test_a_cordoned_node_keeps_serving_where_nothing_else_fits() -> None:
    old = placed("old", node_state="cordoned")
    answer = plan(wanted(state="serving", ready=1), [old], [server("n1", state="cordoned")], NOW)
    assert answer.stops == ()
    assert (answer.state, answer.missing) == ("serving", 1)
    assert {"no_ready_node", "moving"} <= {reason.code for reason in answer.reasons}


def test_a_replica_that_begins_anew_on_a_cordoned_node_is_kept_where_nothing_else_fits() -> None:
    again = placed("again", state="starting", node_state="cordoned", ready_at=NOW)
    fleet = [server("n1", state="cordoned")]
    assert plan(wanted(state="degraded"), [again], fleet, NOW).stops == ()
    never = msgspec.structs.replace(again, ready_at=None)
    assert plan(wanted(state="degraded"), [never], fleet, NOW).stops == (never,)
    other = placed("other", node_state="cordoned", ready_at=NOW)
    assert plan(wanted(state="degraded"), [again, other], fleet, NOW).stops == (again,)


def test_a_node_that_is_only_checked_again_keeps_its_replicas() -> None:
    item = placed("w1", node_state="validating")
    answer = plan(wanted(state="serving", ready=1), [item], [server("n1", state="validating")], NOW)
    assert (answer.places, answer.stops, answer.state) == ((), (), "serving")


def test_a_failed_replica_is_placed_elsewhere_if_it_can() -> None:
    failed = placed("w1", "n1", "failed")
    answer = plan(wanted(state="serving", failures=1), [failed], [server("n1"), server("n2")], NOW)
    assert [place.grant.node_id for place in answer.places] == ["n2"]
    assert answer.places[0].replaces == failed
    assert answer.state == "degraded"


def test_nothing_is_started_while_a_pause_lasts() -> None:
    later = NOW + timedelta(seconds=4)
    waiting = wanted(failures=4, retry_at=later)
    answer = plan(waiting, [placed("w1", state="failed")], [server("n1")], NOW)
    assert answer.places == ()
    assert answer.retry_at == later
    assert (answer.state, answer.missing) == ("degraded", 1)
    assert [reason.code for reason in answer.reasons] == ["crash_loop"]
    assert len(plan(waiting, [], [server("n1")], later).places) == 1


def test_fewer_replicas_stop_the_one_that_does_not_answer_first() -> None:
    young = placed("young", "n2", "starting")
    answer = plan(wanted(state="serving", ready=1), [placed("old"), young], [], NOW)
    assert answer.stops == (young,)


def test_a_deleted_endpoint_stops_all_and_is_gone_once_they_are() -> None:
    deleted = wanted(deleted=True, state="serving", ready=1)
    first = plan(deleted, [placed("w1")], [server("n1")], NOW)
    assert len(first.stops) == 1
    assert (first.state, first.ready, first.places) == ("stopping", 0, ())
    assert plan(deleted, [placed("w1", state="stopping")], [], NOW).state == "stopping"
    assert plan(deleted, [placed("w1", state="stopped")], [], NOW).state == "stopped"


def test_an_external_engine_needs_no_node() -> None:
    answer = plan(wanted(engine=Engine(kind="external", url="http://127.0.0.1:9/v1")), [], [], NOW)
    assert (answer.state, answer.ready, answer.places) == ("serving", 1, ())


def test_no_replicas_is_asleep_and_says_so() -> None:
    answer = plan(wanted(replicas=Replicas(min=0, max=1)), [placed("w1")], [server("n1")], NOW)
    assert answer.state == "asleep"
    assert len(answer.stops) == 1
    assert answer.drains == answer.stops, "a request that came at the last moment is still answered"
    codes = [reason.code for reason in answer.reasons]
    assert codes == ["scaled_to_zero", "engines_stopping"]
    gone = plan(wanted(replicas=Replicas(min=0, max=1)), [], [server("n1")], NOW)
    assert (gone.state, [reason.code for reason in gone.reasons]) == ("asleep", ["scaled_to_zero"])
    assert "a request wakes it" in (gone.reasons[0].unblock or "")


def test_what_is_woken_starts_and_what_fits_nowhere_says_so() -> None:
    woken = wanted(replicas=Replicas(min=0, max=1), wanted=1, state="asleep")
    answer = plan(woken, [], [server("n1")], NOW)
    assert (answer.state, len(answer.places)) == ("starting", 1)
    nowhere = plan(woken, [], [], NOW)
    assert (nowhere.state, [reason.code for reason in nowhere.reasons]) == (
        "pending",
        ["no_ready_node"],
    )


def test_one_more_that_demand_asks_for_does_not_make_an_endpoint_degraded() -> None:
    more = wanted(state="serving", ready=1, wanted=2)
    answer = plan(more, [placed("w1")], [server("n1"), server("n2")], NOW)
    assert (answer.state, len(answer.places)) == ("serving", 1)
    assert [reason.code for reason in answer.reasons] == ["replica_starting"]
    least = wanted(state="serving", ready=2, replicas=Replicas(min=2, max=4), wanted=3)
    assert plan(least, [placed("w1")], [server("n1")], NOW).state == "degraded"


def test_a_replica_too_many_finishes_what_it_has_and_serves_again_where_it_is_needed_after_all() -> (
    None
):
    one, two = placed("one", "n1"), placed("two", "n2", created_at=NOW + timedelta(seconds=1))
    fewer = plan(wanted(state="serving", ready=2), [one, two], [server("n1"), server("n2")], NOW)
    assert (fewer.stops, fewer.drains, fewer.ready) == ((two,), (two,), 1)
    until = NOW + timedelta(seconds=60)
    draining = msgspec.structs.replace(two, state="stopping", drains_until=until)
    again = plan(wanted(state="serving", ready=1, wanted=2), [one, draining], [server("n1")], NOW)
    assert (again.returns, again.places, again.ready) == ((draining,), (), 2)
    told = msgspec.structs.replace(draining, drains_until=None)
    anew = plan(wanted(state="serving", ready=1, wanted=2), [one, told], [server("n1")], NOW)
    assert (anew.returns, len(anew.places)) == ((), 1)


def test_what_never_answered_or_is_deleted_is_not_waited_for() -> None:
    young = placed("young", "n2", "starting")
    assert plan(wanted(state="serving", ready=1), [placed("old"), young], [], NOW).drains == ()
    deleted = wanted(deleted=True, state="serving", ready=1)
    assert plan(deleted, [placed("w1")], [server("n1")], NOW).drains == ()


def test_a_second_replica_that_keeps_failing_is_not_forgiven_because_the_first_serves() -> None:
    later = NOW + timedelta(hours=1)
    grown = wanted(state="serving", ready=1, wanted=2, failures=5)
    trying = placed("w2", "n2", "starting", created_at=later)
    assert plan(grown, [placed("w1"), trying], [server("n2")], later).failures == 5
    answered = placed("w2", "n2", created_at=later, ready_at=later)
    whole = wanted(state="serving", ready=2, wanted=2, failures=5)
    assert plan(whole, [placed("w1"), answered], [], later + timedelta(seconds=59)).failures == 5
    assert plan(whole, [placed("w1"), answered], [], later + timedelta(seconds=60)).failures == 0


@pytest.mark.parametrize(("before", "wait_s"), [(0, 0), (1, 1), (2, 2), (3, 4), (50, BACKOFF_MAX_S)])
def test_each_failure_in_a_row_doubles_the_pause_up_to_a_bound(before: int, wait_s: float) -> None:
    assert after_failure(before, None, NOW) == (before + 1, NOW + timedelta(seconds=wait_s))


def test_a_replica_that_served_long_enough_fails_for_the_first_time() -> None:
    assert after_failure(9, NOW - timedelta(minutes=2), NOW) == (1, NOW)


def test_failures_of_long_ago_are_not_held_against_an_endpoint_that_served_since() -> None:
    served = wanted(state="serving", ready=1, failures=5, replicas=Replicas(min=1, max=2))
    later = NOW + timedelta(minutes=2)
    lost = plan(served, [placed("w1", "n1", "failed")], [server("n2")], later)
    assert (lost.state, lost.failures) == ("degraded", 0)
    assert [reason.code for reason in lost.reasons] == ["replica_starting"]

    failed_now = msgspec.structs.replace(served, failures=1, retry_at=later)
    assert plan(failed_now, [placed("w1", "n1", "failed")], [server("n2")], later).failures == 1
    soon = NOW + timedelta(seconds=10)
    assert plan(served, [placed("w1", "n1", "failed")], [server("n2")], soon).failures == 5


def test_one_more_replica_takes_over_from_none_that_has_an_heir_already() -> None:
    dead = placed("dead", "n1", "failed")
    heir = placed("heir", "n2", "stopped", replaces="dead", ready_at=NOW)
    serving = placed("now", "n2", replaces="heir")
    more = wanted(state="serving", ready=1, replicas=Replicas(min=2, max=2))
    [place] = plan(more, [dead, heir, serving], [server("n1"), server("n3")], NOW).places
    assert place.replaces is None


def test_a_replica_whose_first_heir_never_served_is_still_the_one_that_moves() -> None:
    old = placed("old", "n1", node_state="cordoned")
    failed = placed("failed", "n2", "failed", replaces="old")
    fleet = [server("n1", state="cordoned"), server("n2"), server("n3")]
    [place] = plan(wanted(state="serving", ready=1, failures=1), [old, failed], fleet, NOW).places
    assert (place.replaces, place.grant.node_id) == (old, "n3")


STATES = st.sampled_from(["assigned", "starting", "ready", "stopping", "stopped", "failed"])
NODE_STATES = st.sampled_from(["ready", "validating", "cordoned", "lost"])


@given(
    st.lists(st.tuples(STATES, NODE_STATES), max_size=4),
    st.lists(NODE_STATES, max_size=3),
    st.integers(0, 3),
    st.sampled_from(get_args(EndpointState)),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
)
def test_an_endpoint_that_does_not_serve_always_says_why(
    items: list[tuple[str, str]],
    nodes: list[str],
    least: int,
    state: EndpointState,
    failures: int,
    deleted: bool,
    waits: bool,
) -> None:
    endpoint = wanted(
        replicas=Replicas(min=least, max=4),
        state=state,
        failures=failures,
        deleted=deleted,
        retry_at=NOW + timedelta(seconds=5) if waits else None,
    )
    workloads = [placed(f"w{n}", state=s, node_state=on) for n, (s, on) in enumerate(items)]
    fleet = [server(f"n{n}", state=node) for n, node in enumerate(nodes)]
    answer = plan(endpoint, workloads, fleet, NOW)
    assert answer.reasons or answer.state in {"serving", "stopped"}
