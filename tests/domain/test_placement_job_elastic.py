"""An elastic job: members that are lost are seated anew while the others go on, as often as it may restart."""

from typing import Any

import pytest
from mesh_contracts.placement import Reason
from meshkit.testing import NOW, test_id
from placement.domain import jobs
from placement.domain.jobs import judge, show_job
from placement.domain.members import LAST_ENDS, LOST_FOR_S, Member, may_begin
from placement.domain.wishes import wish_of_job

from tests.domain.holdings import World, changed, job, later, member

SICK = Reason(code="health_fail", detail="gemm on gpu-0")
KILLED = Reason(code="member_failed", detail="member 0: killed")


def elastic(state: str = "running", **fields: Any) -> Any:
    wished = {"elastic": True, "members": 4, **fields.pop("wished", {})}
    return job(state=state, place="sits", attempt=1, started_at=NOW, wished=wished, **fields)


def gang(*first: Member) -> list[Member]:
    """Return four members, of which the first ones are given."""
    return [*first, *(member(number, state="ready") for number in range(len(first), 4))]


def failed(number: int = 0, why: Reason = KILLED) -> Member:
    return member(number, state="failed", holds=False, reasons=(why,))


def test_of_a_node_that_is_lost_only_the_member_there_is_given_up_and_no_sooner_than_else() -> None:
    items = gang(member(0, state="ready", node_state="lost"))
    early = judge(elastic(), items, later(LOST_FOR_S - 1))
    assert (early.state, early.fails, early.lost) == ("running", (), ())
    turn = judge(elastic(), items, later(LOST_FOR_S))
    assert (turn.state, turn.failures, turn.stops) == ("running", 0, ())
    assert [(one.number, why.code) for one, why in turn.fails] == [(0, "node_lost")]
    assert turn.lost == (items[0],)
    assert [(reason.code, reason.count) for reason in turn.reasons] == [("members_starting", 1)]


def test_each_member_that_fails_by_itself_counts_and_past_the_bound_the_job_has_failed() -> None:
    turn = judge(elastic(failures=1), gang(failed(0), failed(1)), NOW)
    assert (turn.state, turn.failures, [one.number for one in turn.lost]) == ("running", 3, [0, 1])
    turn = judge(elastic(failures=2), gang(failed(0), failed(1)), NOW)
    assert (turn.state, turn.failures, turn.lost) == ("failed", 4, ())
    assert [reason.code for reason in turn.reasons] == ["member_failed", "restarts_used_up"]
    assert [one.number for one in turn.stops] == [2, 3]
    never = judge(elastic(wished={"restarts_max": 0}), gang(failed(0)), NOW)
    assert (never.state, never.lost) == ("failed", ())


@pytest.mark.parametrize("code", jobs.BLAMELESS)
def test_what_befell_a_node_is_replaced_however_often_the_job_has_failed(code: str) -> None:
    why = Reason(code=code, detail="the node's")
    turn = judge(elastic(failures=3), gang(failed(0, why)), NOW)
    assert (turn.state, turn.failures, len(turn.lost)) == ("running", 3, 1)


def test_a_member_that_must_leave_its_node_ends_before_it_goes_on_elsewhere() -> None:
    leaves = member(0, state="ready", node_state="cordoned", node_reasons=(SICK,))
    turn = judge(elastic(), gang(leaves), NOW)
    assert (turn.state, turn.lost) == ("running", ())
    assert [(one.number, one.reasons[0].code) for one in turn.stops] == [(0, "node_unhealthy")]
    stopping = changed(turn.stops[0], state="stopping")
    again = judge(elastic(reasons=turn.reasons), gang(stopping), NOW)
    assert (again.stops, again.lost, again.reasons) == ((), (), turn.reasons)
    ended = changed(stopping, state="stopped", holds=False)
    turn = judge(elastic(), gang(ended), NOW)
    assert (turn.state, turn.failures, turn.lost) == ("running", 0, (ended,))


def test_one_that_is_not_begun_and_must_leave_is_seated_elsewhere_at_once() -> None:
    waits = member(0, reasons=(LAST_ENDS,), node_state="draining")
    items = gang(waits)
    turn = judge(elastic("admitted"), items, NOW)
    assert ([one for one, _ in turn.fails], turn.stops, turn.lost) == ([waits], (), (waits,))
    assert may_begin(items, turn, NOW) == []


def test_where_nobody_is_left_it_restarts_whole_as_any_job_does() -> None:
    lost = [member(number, state="ready", node_state="lost") for number in range(4)]
    turn = judge(elastic(), lost, later(LOST_FOR_S))
    assert (turn.state, turn.lost, turn.reasons[0].code) == ("queued", (), "node_lost")
    assert turn.tell == "release"
    turn = judge(elastic(), [failed(number) for number in range(4)], NOW)
    assert (turn.state, turn.lost, turn.failures) == ("queued", (), 1)
    leaves = [
        member(0, state="stopping", reasons=(SICK,)),
        *(member(number, state="ready", node_state="draining") for number in range(1, 4)),
    ]
    assert judge(elastic(), leaves, NOW).state == "preempted"


def test_members_that_ended_as_they_should_are_not_replaced_and_one_that_failed_then_is() -> None:
    done = [member(number, state="stopped", holds=False) for number in range(1, 4)]
    turn = judge(elastic(), [failed(0), *done], NOW)
    assert (turn.state, [one.number for one in turn.lost]) == ("running", [0])
    left = member(0, state="stopped", holds=False, reasons=(SICK,))
    turn = judge(elastic(), [left, *done], NOW)
    assert (turn.state, turn.lost) == ("running", (left,))
    turn = judge(elastic(), [changed(left, reasons=()), *done], NOW)
    assert (turn.state, turn.tell) == ("succeeded", "release")


def test_who_was_replaced_is_no_part_of_it_any_more_but_is_shown_with_why() -> None:
    gone = changed(failed(0), replaced_by=test_id("workload", "again"))
    items = [gone, *gang()]
    turn = judge(elastic(), items, NOW)
    assert (turn.state, turn.failures, turn.lost, turn.reasons) == ("running", 0, (), ())
    shown = show_job(elastic(), items, NOW)
    assert (shown.elastic, len(shown.workloads)) == (True, 5)
    why = shown.workloads[0].reasons
    assert [reason.code for reason in why] == ["member_failed", "member_replaced"]
    assert gone.replaced_by in why[1].detail


def test_past_its_time_it_ends_and_seats_nobody_anew() -> None:
    turn = judge(elastic(due_at=later(1)), gang(failed(0)), later(1))
    assert (turn.state, turn.lost, len(turn.stops)) == ("failed", (), 3)
    assert turn.reasons[0].code == "time_over"


def test_who_gives_way_to_another_or_to_a_cap_gives_way_whole() -> None:
    turn = jobs.preempted(elastic(), "the power cap of rack r1")
    assert (turn.state, turn.lost) == ("preempted", ())


def test_where_lost_members_find_no_room_all_stop_and_it_says_for_whom_there_was_none() -> None:
    lack = Reason(code="not_enough_seats", detail="0 of 1")
    turn = jobs.stranded(elastic(failures=2), [failed(0)], (lack,))
    assert (turn.state, turn.failures) == ("preempted", 2)
    assert [reason.code for reason in turn.reasons] == [
        *("members_not_replaced", "member_failed", "not_enough_seats")
    ]


def test_a_job_that_is_not_elastic_does_not_ask_for_it() -> None:
    assert wish_of_job(elastic()).elastic
    assert not wish_of_job(job()).elastic
    turn = judge(job(state="running", place="sits", attempt=1), gang(failed(0)), NOW)
    assert (turn.state, turn.lost, len(turn.stops)) == ("preempted", (), 3)


def test_one_after_the_other_is_replaced_until_there_is_no_room() -> None:
    world = World(job(wished={"elastic": True, "members": 4, "restarts_max": 9}))
    world.settle()
    for one in world.members:
        world.change(one, state="ready")
    world.settle()
    kept = world.members[3].workload_id
    for number in range(3):
        one = next(m for m in world.members if m.number == number and m.replaced_by is None)
        world.change(one, state="failed", holds=False, reasons=(KILLED,))
        world.settle()
        assert (world.job.state, world.job.attempt, world.job.failures) == ("running", 1, number + 1)
    assert len(world.members) == 7
    world.room = False
    world.change(world.members[-1], state="failed", holds=False, reasons=(KILLED,))
    world.settle()
    assert (world.job.state, world.job.place) == ("preempted", "waits")
    assert next(m for m in world.members if m.workload_id == kept).state == "stopping"
