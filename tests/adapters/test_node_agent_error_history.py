"""What a GPU went through and what it is suspected of outlive the agent that saw it."""

import time
from pathlib import Path

import pytest
from node_agent.devices.rehearsal import Rehearsal
from node_agent.domain.xid import DAY_S, KEPT_MAX, Xid, judge
from node_agent.error_history import FILE, TEXT_KEPT_CHARS, ErrorHistory
from node_agent.health import Health


def heard(ago_s: float, **more: object) -> Xid:
    return Xid(0, 69, at=time.monotonic() - ago_s)._replace(**more)


def test_errors_are_counted_over_restarts_and_no_longer_than_a_day(tmp_path: Path) -> None:
    for ago_s in (DAY_S + 60, 7_200, 3_600, 60, 10):
        ErrorHistory(tmp_path).add(heard(ago_s, owner="project_a", text="x" * 1_000))
    now = time.monotonic()
    again = ErrorHistory(tmp_path).errors(now)
    assert [round(now - one.at) for one in again] == [7_200, 3_600, 60, 10]
    assert {(one.owner, len(one.text)) for one in again} == {("project_a", TEXT_KEPT_CHARS)}
    assert judge(heard(0, owner="project_a"), again).test == "standard"


def test_no_more_errors_are_kept_than_are_looked_at(tmp_path: Path) -> None:
    history = ErrorHistory(tmp_path)
    history._errors.extend(heard(100) for _ in range(2 * KEPT_MAX))
    history.add(heard(0))
    assert len(ErrorHistory(tmp_path).errors(time.monotonic())) == KEPT_MAX


@pytest.mark.parametrize("text", ["", "{", '[["a", 1]]'])
def test_a_file_that_says_something_else_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    history = ErrorHistory(tmp_path)
    assert history.errors(time.monotonic()) == []
    history.add(heard(1))
    assert len(ErrorHistory(tmp_path).errors(time.monotonic())) == 1


def test_what_a_clock_that_was_set_back_would_have_in_the_future_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ErrorHistory(tmp_path).add(heard(1))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert ErrorHistory(tmp_path).errors(time.monotonic()) == []


async def test_a_suspicion_is_seen_to_by_the_next_agent_and_then_forgotten(tmp_path: Path) -> None:
    devices = Rehearsal("n1", 2, tmp_path)
    Health(devices, tmp_path).suspect(devices.listed()[1], "standard")
    again = Health(devices, tmp_path)
    assert again._dues.suspected == {"rehearsal-n1-1": "standard"}
    again._dues.checked([], "quick", 0.0)
    await again._free(devices.listed()[1:], "standard", lambda: ())
    assert Health(devices, tmp_path)._dues.suspected == {}
