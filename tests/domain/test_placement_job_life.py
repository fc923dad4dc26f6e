"""What a job becomes: a gang goes on whole or not at all, and nothing waits without a reason."""

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_contracts.node import WorkloadFailed, WorkloadReady, WorkloadStarted, WorkloadStopped
from mesh_contracts.placement import JobState, LeaseState, Reason, WorkloadState
from meshkit.testing import NOW, envelope
from placement.domain import jobs, limits
from placement.domain.jobs import judge, show_job
from placement.domain.members import LOST_FOR_S, Member, after, show_members

from tests.domain.holdings import World, changed, job, later, member

pytestmark = pytest.mark.slow

SICK = Reason(code="health_fail", detail="gemm on gpu-0")


def at_work(state: str = "running", **fields: Any) -> Any:
    return job(state=state, place="sits", attempt=1, started_at=NOW, **fields)


def fact(kind: Any, item: Member, **fields: Any) -> Any:
    born = envelope(item.node_id, node_id=item.node_id, workload_id=item.workload_id)
    more = {"address": "127.0.0.1:1"} if kind is WorkloadReady else {}
    more |= {"reason": "killed"} if kind is WorkloadFailed else {}
    return kind(**born, **{**more, **fields})


def test_a_job_runs_once_every_member_does_and_not_before() -> None:
    members = [member(0, state="ready"), member(1, state="assigned"), member(2, state="starting")]
    turn = judge(at_work("admitted"), members, NOW)
    assert (turn.state, turn.reasons[0].code, turn.reasons[0].count) == (
        "admitted",
        "members_starting",
        2,
    )
    turn = judge(at_work("admitted"), [changed(one, state="ready") for one in members], NOW)
    assert (turn.state, turn.reasons) == ("running", ())


def test_what_still_stops_of_an_attempt_before_is_no_part_of_this_one() -> None:
    second = job(state="admitted", place="sits", attempt=2)
    old = [member(0, state="stopping", holds=False), member(1, state="failed", holds=False)]
    turn = judge(second, [*old, member(0, attempt=2, state="ready")], NOW)
    assert (turn.state, turn.failures, turn.stops) == ("running", 0, ())


def test_a_job_has_succeeded_once_every_member_ran_to_its_end() -> None:
    one, two = member(0, state="stopped", holds=False), member(1, state="ready")
    assert judge(at_work(), [one, two], NOW).state == "running"
    turn = judge(at_work(), [one, changed(two, state="stopped", holds=False)], NOW)
    assert (turn.state, turn.tell) == ("succeeded", "release")


def test_one_member_that_fails_stops_all_and_counts_once() -> None:
    why = Reason(code="member_failed", detail="killed")
    dead = member(0, state="failed", holds=False, reasons=(why,))
    turn = judge(at_work(), [dead, member(1, state="ready"), member(2)], NOW)
    assert (turn.state, turn.failures, turn.reasons) == ("preempted", 1, (why,))
    assert [one.number for one in turn.stops] == [1, 2]
    assert judge(at_work(failures=2), [dead, member(1, state="ready")], NOW).state == "preempted"
    again = at_work(failures=3)
    turn = judge(again, [dead, member(1, state="ready")], NOW)
    assert (turn.state, turn.failures) == ("failed", 4)
    assert [reason.code for reason in turn.reasons] == ["member_failed", "restarts_used_up"]


@pytest.mark.parametrize("code", jobs.BLAMELESS)
def test_what_befell_a_node_is_no_failure_of_the_job(code: str) -> None:
    why = Reason(code=code, detail="the node's")
    dead = member(0, state="failed", holds=False, reasons=(why,))
    turn = judge(at_work(failures=3), [dead, member(1, state="ready")], NOW)
    assert (turn.state, turn.failures) == ("preempted", 3)


def test_a_member_on_a_lost_node_is_given_up_after_its_agent_has_stopped_it() -> None:
    items = [member(0, state="ready", node_state="lost"), member(1, state="ready")]
    early = judge(at_work(), items, later(LOST_FOR_S - 1))
    assert (early.state, early.fails) == ("running", ())
    turn = judge(at_work(), items, later(LOST_FOR_S))
    assert (turn.state, [one.number for one, _ in turn.fails]) == ("preempted", [0])
    assert [one.number for one in turn.stops] == [1]


@pytest.mark.parametrize(
    ("state", "reasons", "preemptible", "until", "moves"),
    [
        ("cordoned", (), True, None, False),
        ("cordoned", (SICK,), False, None, True),
        ("draining", (), True, None, True),
        ("draining", (), False, later(60), False),
        ("draining", (), False, later(0), True),
        ("draining", (SICK,), False, later(60), True),
        ("repairing", (), False, None, True),
        ("validating", (), True, None, False),
    ],
)
def test_a_job_leaves_a_node_that_is_sick_or_emptied(
    state: str, reasons: tuple[Reason, ...], preemptible: bool, until: Any, moves: bool
) -> None:
    there = {"node_state": state, "node_reasons": reasons, "drain_until": until}
    items = [member(0, state="ready", **there), member(1, state="ready")]
    turn = judge(at_work(wished={"preemptible": preemptible}), items, NOW)
    assert (turn.state == "preempted") is moves
    assert len(turn.stops) == (2 if moves else 0)


def test_a_job_is_queued_again_only_once_all_of_it_has_stopped() -> None:
    preempted = at_work("preempted")
    turn = judge(preempted, [member(0, state="stopping"), member(1, state="stopped", holds=False)], NOW)
    assert (turn.state, turn.tell) == ("preempted", "")
    turn = judge(preempted, [member(0, state="stopped", holds=False)], NOW)
    assert (turn.state, turn.tell) == ("queued", "release")
    waits = job(state="preempted", place="waits")
    assert (judge(waits, [], NOW).state, judge(waits, [], NOW).tell) == ("queued", "")
    assert judge(job(), [], NOW).tell == "ask"


def test_a_job_that_runs_past_its_time_has_failed_and_says_so() -> None:
    timed = at_work(due_at=later(10))
    items = [member(0, state="ready")]
    assert judge(timed, items, later(9)).state == "running"
    turn = judge(timed, items, later(10))
    assert (turn.state, turn.reasons[0].code, len(turn.stops)) == ("failed", "time_over", 1)


def test_who_is_cancelled_leaves_the_queue_or_stops_and_stays_cancelled() -> None:
    assert jobs.cancelled(job(place="waits")).tell == "cancel"
    turn = jobs.cancelled(at_work())
    assert (turn.state, turn.tell) == ("cancelled", "")
    over = at_work("cancelled", ended_at=NOW)
    assert len(judge(over, [member(0, state="ready")], NOW).stops) == 1
    assert judge(over, [member(0, state="stopped", holds=False)], NOW).tell == "release"
    assert jobs.cancelled(job(state="succeeded", ended_at=NOW)).state == "succeeded"


def test_who_gave_way_is_told_whether_to_another_or_to_a_cap() -> None:
    other = "job_019ab000-0000-7000-8000-000000000000"
    assert jobs.preempted(at_work(), other).reasons[0].code == "preempted"
    assert jobs.preempted(at_work(), "the power cap of rack r1").reasons[0].code == "power_shed"


@pytest.mark.parametrize(
    ("kind", "state", "fields", "came"),
    [
        (WorkloadStarted, "assigned", {}, "ready"),
        (WorkloadStarted, "stopping", {}, None),
        (WorkloadStarted, "failed", {}, None),
        (WorkloadReady, "ready", {}, None),
        (WorkloadStopped, "ready", {"exit_code": 0}, "stopped"),
        (WorkloadStopped, "ready", {"exit_code": 1}, "failed"),
        (WorkloadStopped, "ready", {}, "failed"),
        (WorkloadStopped, "stopping", {}, "stopped"),
        (WorkloadFailed, "ready", {"exit_code": -9}, "failed"),
        (WorkloadFailed, "stopping", {}, "stopped"),
        (WorkloadFailed, "stopped", {}, None),
    ],
)
def test_a_fact_of_an_agent_is_evidence_of_one_step(
    kind: Any, state: str, fields: dict[str, Any], came: str | None
) -> None:
    item = member(0, state=state)
    found = after(item, fact(kind, item, **fields))
    assert (None if found is None else found.state) == came
    if came == "failed":
        assert found is not None
        assert found.reasons


def test_a_server_that_is_begun_while_it_is_taken_back_has_to_be_erased() -> None:
    item = member(0, kind="lease", state="stopping")
    for kind in (WorkloadStarted, WorkloadReady):
        came = after(item, fact(kind, item))
        assert came is not None
        assert (came.state, came.begun) == ("stopping", True)
    assert after(changed(item, started_at=NOW), fact(WorkloadReady, item)) is None


def test_all_that_waits_has_a_reason_and_past_its_limit_it_is_stuck() -> None:
    for state in get_args(WorkloadState):
        [shown], _ = show_members([member(0, state=state)], later(10**6))
        rests = state in limits.MEMBER_AT_REST
        assert ("stuck" in {reason.code for reason in shown.reasons}) is not rests
    for states, table, at_rest in (
        (get_args(JobState), limits.JOB, limits.JOB_AT_REST),
        (get_args(LeaseState), limits.LEASE, limits.LEASE_AT_REST),
        (get_args(WorkloadState), limits.MEMBER, limits.MEMBER_AT_REST),
    ):
        assert set(states) == set(table) | set(at_rest)
        assert not set(table) & set(at_rest)
    late = show_job(job(), (), later(10**6))
    assert [reason.code for reason in late.reasons] == ["stuck"]
    assert late.reasons[0].unblock


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "started",
                "ready",
                "stopped",
                "ended",
                "failed",
                "cordon",
                "lose",
                "preempt",
                "room",
                "wait",
            ]
        ),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(max_examples=80)
@given(EVENTS, st.integers(0, 2), st.booleans(), st.booleans())
def test_whatever_agents_tell_a_gang_is_whole_or_stops(
    events: list[tuple[str, int]], restarts: int, preemptible: bool, elastic: bool
) -> None:
    wished = {"restarts_max": restarts, "preemptible": preemptible, "elastic": elastic}
    world = World(job(wished=wished))
    world.settle()
    seen = [world.job.state]
    for what, number in events:
        happen(world, what, number)
        world.settle()
        seen.append(world.job.state)
        holds(world)
    over = [state in jobs.OVER for state in seen]
    assert over == sorted(over), "what has ended stays so"


TELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "started": (WorkloadStarted, {}),
    "ready": (WorkloadReady, {}),
    "stopped": (WorkloadStopped, {}),
    "ended": (WorkloadStopped, {"exit_code": 0}),
    "failed": (WorkloadFailed, {}),
}


def happen(world: World, what: str, number: int) -> None:
    mine = world.mine()
    if what == "wait":
        world.at = world.at.replace(year=world.at.year + 1)
    elif what == "room":
        world.room = number % 2 == 0
        if world.room and world.job.place == "waits" and not world.job.over:
            world.seat()
    elif what == "preempt" and world.job.place == "sits" and not world.job.over:
        for one in mine:
            if one.holds and one.living:
                world.change(one, state="stopping", holds=False)
        world.apply(jobs.preempted(world.job, "job_019ab000-0000-7000-8000-000000000000"))
        world.place("waits")
    elif mine and what != "preempt":
        befall(world, mine[number % len(mine)], what)


def befall(world: World, item: Member, what: str) -> None:
    if what == "cordon":
        world.change(item, node_state="cordoned", node_reasons=(SICK,))
    elif what == "lose":
        world.change(item, node_state="lost", node_since=world.at)
    else:
        kind, fields = TELLS[what]
        came = after(item, fact(kind, item, **fields))
        if came is not None:
            ended = came.state in {"stopped", "failed"}
            world.change(item, state=came.state, reasons=came.reasons, holds=item.holds and not ended)


def holds(world: World) -> None:
    held = world.job
    mine = [one for one in world.members if one.attempt == held.attempt and one.replaced_by is None]
    older = [one for one in world.members if one.attempt < held.attempt]
    assert not any(one.going for one in older), "an older attempt only ends"
    if held.state == "running" and not held.wished.elastic:
        assert all(one.state in {"ready", "stopped"} for one in mine)
    gone = [one for one in world.members if one.replaced_by is not None]
    assert held.wished.elastic or not gone
    assert not any(one.living or one.holds for one in gone), "no member is there twice"
    if held.state in {"admitted", "running"}:
        assert len(mine) == held.wished.members
        assert not any(one.state == "failed" for one in mine)
    else:
        assert not any(one.going for one in mine), "what is not at work has nobody at work"
    if held.over:
        assert held.place == "none" or any(one.living for one in world.members)
    assert held.failures <= held.wished.restarts_max + len(mine)
    assert judge(held, world.mine(), world.at).tell == "", "nothing is left to be told"
