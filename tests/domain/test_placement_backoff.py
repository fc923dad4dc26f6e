"""What has failed by itself begins again after a while, longer each time; what befell a node is not waited for."""

import pytest
from mesh_contracts.placement import Reason
from meshkit.testing import NOW
from placement.domain.backoff import BACKOFF_MAX_S, backing_off, pause_s
from placement.domain.jobs import BLAMELESS, judge
from placement.domain.members import Member, may_begin

from tests.domain.holdings import job, later, member

ITS_OWN = Reason(code="member_failed", detail="exit code 1")


def failed(number: int, code: str = "member_failed", after_s: float = 0.0) -> Member:
    why = Reason(code=code, detail="why")
    return member(number, state="failed", holds=False, reasons=(why,), since=later(after_s))


@pytest.mark.parametrize(
    ("failures", "wait_s"),
    [(0, 0), (1, 1), (2, 2), (3, 4), (4, 8), (7, BACKOFF_MAX_S), (10_000, BACKOFF_MAX_S)],
)
def test_the_pause_doubles_up_to_a_minute(failures: int, wait_s: float) -> None:
    assert pause_s(failures) == wait_s


def test_it_counts_from_the_last_failure_and_is_over_where_the_job_waited_for_room_so_long() -> None:
    last = [failed(0), failed(1, after_s=2.0), member(2, state="stopped")]
    why = backing_off(job(failures=3), last, later(2.5))
    assert why is not None
    assert (why.code, why.count) == ("backing_off", 4)
    assert backing_off(job(failures=3), last, later(6.0)) is None


@pytest.mark.parametrize("code", BLAMELESS)
def test_nobody_waits_for_what_was_no_fault_of_its_own(code: str) -> None:
    assert backing_off(job(failures=3), [failed(0, code), member(1, state="stopped")], NOW) is None


def test_members_begin_when_their_pause_is_over_and_not_before() -> None:
    why = backing_off(job(failures=2), [failed(0)], NOW)
    assert why is not None
    again = job(state="admitted", place="sits", attempt=2, failures=2)
    there = [member(number, attempt=2, reasons=(why,)) for number in range(3)]
    turn = judge(again, there, NOW)
    assert all(one.held_back for one in there)
    assert [one.code for one in turn.reasons] == ["members_starting", "backing_off"]
    assert may_begin(there, turn, later(1.9)) == []
    assert may_begin(there, turn, later(2.0)) == there
