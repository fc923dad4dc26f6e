"""One attempt of a job after the other: it never runs twice, not even for a moment."""

from mesh_contracts.placement import Reason
from meshkit.testing import NOW
from placement.domain.jobs import judge
from placement.domain.members import LAST_ENDS, LOST_FOR_S, may_begin

from tests.domain.holdings import changed, job, later, member

SICK = Reason(code="health_fail", detail="gemm on gpu-0")


def test_an_attempt_is_held_back_until_the_one_before_has_ended_everywhere() -> None:
    second = job(state="admitted", place="sits", attempt=2)
    new = [member(number, attempt=2, reasons=(LAST_ENDS,)) for number in (0, 1)]
    old = member(0, state="stopping", holds=False)
    there = [old, *new]
    assert may_begin(there, judge(second, there, NOW), NOW) == []
    gone = [changed(old, state="stopped"), *new]
    assert may_begin(gone, judge(second, gone, NOW), NOW) == new
    lost = [changed(old, node_state="lost"), *new]
    assert may_begin(lost, judge(second, lost, later(LOST_FOR_S - 1)), NOW) == []
    assert may_begin(lost, judge(second, lost, later(LOST_FOR_S)), NOW) == new


def test_members_that_were_held_back_do_not_begin_where_their_attempt_is_over() -> None:
    second = job(state="admitted", place="sits", attempt=2)
    sick = member(0, attempt=2, reasons=(LAST_ENDS,), node_state="cordoned", node_reasons=(SICK,))
    there = [sick, member(1, attempt=2, reasons=(LAST_ENDS,))]
    turn = judge(second, there, NOW)
    assert (turn.state, len(turn.stops)) == ("preempted", 2)
    assert may_begin(there, turn, NOW) == []
