"""Members as their owner sees them, also where they are more than one answer takes."""

import pytest
from mesh_contracts import wire
from mesh_contracts.placement import Reason
from meshkit.testing import NOW
from meshkit.transaction import MESSAGE_BYTES_MAX
from placement.domain.jobs import show_job
from placement.domain.members import Member, show_members

from tests.domain.holdings import job, member

WHY = Reason(code="member_failed", detail="killed")


def failed(number: int, why: Reason) -> Member:
    return member(number, state="failed", holds=False, reasons=(why,))


def test_members_that_fit_are_shown_in_their_order() -> None:
    members = [member(0, state="ready"), failed(1, WHY), member(2, state="ready")]
    shown, left = show_members(members, NOW)
    assert ([one.id for one in shown], left) == ([one.workload_id for one in members], 0)


@pytest.mark.parametrize("detail", ["it ran out of memory", "x" * 2_000])
def test_the_largest_gang_fits_into_one_answer_and_what_failed_comes_first(detail: str) -> None:
    why = Reason(code="member_failed", detail=detail)
    members = [member(number, state="ready") for number in range(4_000)]
    members += [failed(number, why) for number in range(4_000, 4_096)]
    shown = show_job(job(), members, NOW)
    assert len(wire.encode(shown)) < MESSAGE_BYTES_MAX
    assert {one.state for one in shown.workloads[:96]} == {"failed"}
    assert shown.workloads_left == 4_096 - len(shown.workloads) > 0
