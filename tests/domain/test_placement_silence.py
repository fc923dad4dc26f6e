"""Silence is judged with care: most silences are our own."""

from hypothesis import given
from hypothesis import strategies as st
from placement.domain.silence import LOST_AFTER_S, Judgement, at_once_max, judge

NODES = [f"n{number}" for number in range(30)]


def look(heard: dict[str, float], now: float = 100.0, **fields: float | None) -> Judgement:
    kept = {"counted_from": 0.0, "whole_since": 0.0, "last_awake": now - 1.0, **fields}
    return judge(heard, heard, now=now, **kept)  # type: ignore[arg-type]


def test_a_node_that_is_silent_too_long_is_lost() -> None:
    answer = look({"n1": 89.0, "n2": 99.0, "n3": 98.0})
    assert [(lost.node_id, lost.silent_ms) for lost in answer.lost] == [("n1", 11_000)]


def test_nobody_is_lost_while_our_own_connection_is_down() -> None:
    assert look({"n1": 1.0, "n2": 99.0}, whole_since=None) == Judgement(restart=True)


def test_silence_counts_from_when_our_connection_became_whole() -> None:
    assert look({"n1": 60.0, "n2": 99.0}, whole_since=92.0) == Judgement()
    assert [lost.node_id for lost in look({"n1": 60.0, "n2": 99.0}, whole_since=89.0).lost] == ["n1"]


def test_a_bus_that_was_away_for_thirty_seconds_loses_nobody() -> None:
    heard = dict.fromkeys(NODES, 50.0)
    for now in range(51, 80):
        assert look(heard, float(now), whole_since=None).lost == ()
    for now in range(80, 90):
        assert look(heard, float(now), whole_since=80.0).lost == ()


def test_many_that_fall_silent_at_once_are_suspected_not_lost() -> None:
    heard = dict.fromkeys(NODES, 99.0) | dict.fromkeys(NODES[:4], 89.0)
    assert look(heard) == Judgement(suspected=tuple(sorted(NODES[:4])), restart=True)


def test_nodes_about_to_be_silent_count_among_those_at_once() -> None:
    answer = look({"n1": 89.0, "n2": 92.0})
    assert answer.lost == ()
    assert answer.suspected == ("n1", "n2")


def test_a_judge_that_was_away_itself_starts_anew() -> None:
    assert look({"n1": 50.0, "n2": 99.0}, last_awake=90.0) == Judgement(restart=True)


@given(st.dictionaries(st.sampled_from(NODES), st.floats(0, 100), min_size=1))
def test_never_more_are_lost_together_than_the_bound(heard: dict[str, float]) -> None:
    answer = look(heard)
    assert len(answer.lost) <= at_once_max(len(heard))
    assert all(lost.silent_ms >= LOST_AFTER_S * 1_000 for lost in answer.lost)
    assert not (answer.lost and answer.suspected)
