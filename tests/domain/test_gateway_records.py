"""Whatever was written last, each admitted request has exactly one row."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.records import (
    Batched,
    Ended,
    Heard,
    Opened,
    Opening,
    Progress,
    Restored,
    Unclosed,
    closed_by_restart,
    cut,
    progress_bytes,
    progress_of,
    restore,
)
from mesh_contracts.inference import UsageRow
from meshkit.testing import NOW, test_id


def opening(name: str, **fields: Any) -> Opening:
    known = {
        "request_id": test_id("request", name),
        "organization": test_id("organization", "o"),
        "project": test_id("project", "p"),
        "key_id": test_id("key", "k"),
        "endpoint_id": test_id("endpoint", "e"),
        "model": "chat",
        "route": "/v1/chat/completions",
        "streamed": True,
        "started_at": NOW,
    }
    return Opening(**{**known, **fields})


def ended_row(name: str, tokens: int) -> UsageRow:
    return UsageRow(
        **msgspec.structs.asdict(opening(name)),
        ended_at=NOW,
        state="completed",
        status=200,
        tokens_from="engine",
        prompt_tokens=5,
        completion_tokens=tokens,
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Heard]:
    """A process's whole life: requests begin, go on (perhaps elsewhere), are carried on, end, and are batched."""
    steps: list[Heard] = []
    live: dict[str, tuple[int, int]] = {}
    waiting: list[str] = []
    sequence = 0
    for serial in range(draw(st.integers(1, 40))):
        position = len(steps) + 1
        choice = draw(st.sampled_from(["open", "progress", "again", "carry", "end", "batch"]))
        if choice == "open" or (choice != "batch" and not live):
            name = f"r{serial}"
            steps.append(Opened(position, opening(name)))
            live[name] = (position, 0)
        elif choice == "carry":
            name = draw(st.sampled_from(sorted(live)))
            opened_at, tokens = live[name]
            first = next(r for r in steps if isinstance(r, Opened) and r.position == opened_at)
            steps += [Opened(position, first.opening), Progress(position, tokens, 5)]
            live[name] = (position, tokens)
        elif choice == "progress":
            name = draw(st.sampled_from(sorted(live)))
            opened_at, tokens = live[name]
            tokens += draw(st.integers(1, 5))
            steps.append(Progress(opened_at, tokens, 5))
            live[name] = (opened_at, tokens)
        elif choice == "again":
            name = draw(st.sampled_from(sorted(live)))
            if live[name][1] == 0:
                steps.append(Opened(position, opening(name, attempts=2)))
                live[name] = (position, 0)
        elif choice == "end":
            name = draw(st.sampled_from(sorted(live)))
            steps.append(Ended(position, ended_row(name, live.pop(name)[1])))
            waiting.append(name)
        elif waiting:
            sequence += 1
            ids = [test_id("request", name) for name in waiting]
            steps.append(Batched(position, 1, sequence, ids))
            waiting = []
    return steps


def settle(restored: Restored) -> Counter[str]:
    """Return how many rows each request has once a restart did what it owes."""
    rows: Counter[str] = Counter()
    for batch in restored.batches:
        rows.update(batch.request_ids)
    rows.update(ended.row.request_id for ended in restored.unbatched)
    rows.update(one.opening.request_id for one in restored.unclosed)
    return rows


def admitted(records: Sequence[Heard]) -> set[str]:
    return {record.opening.request_id for record in records if isinstance(record, Opened)}


@given(histories())
def test_cut_anywhere_each_admitted_request_has_exactly_one_row(history: list[Heard]) -> None:
    for length in range(len(history) + 1):
        kept = history[:length]
        rows = settle(restore(kept))
        assert set(rows) == admitted(kept)
        assert set(rows.values()) <= {1}


@given(histories(), st.data())
def test_a_second_kill_while_the_first_is_being_settled_changes_nothing(
    history: list[Heard], data: st.DataObject
) -> None:
    kept: list[Heard] = history[: data.draw(st.integers(0, len(history)))]
    first = restore(kept)
    closing = [
        Ended(1000 + serial, closed_by_restart(one, NOW)) for serial, one in enumerate(first.unclosed)
    ]
    again = restore([*kept, *closing[: data.draw(st.integers(0, len(closing)))]])
    assert settle(again) == settle(first)


@given(histories())
def test_a_cut_request_counts_all_that_had_left_and_never_more_than_was_read(
    history: list[Heard],
) -> None:
    for length in range(len(history) + 1):
        kept = history[:length]
        written: dict[str, int] = {}
        where = {r.position: r.opening.request_id for r in kept if isinstance(r, Opened)}
        for record in kept:
            if isinstance(record, Progress):
                written[where[record.opened_at]] = record.tokens
        for one in restore(kept).unclosed:
            row = closed_by_restart(one, NOW)
            assert row.state == "aborted"
            assert (row.completion_tokens or 0) == written.get(row.request_id, 0)
            assert row.tokens_from == ("counted" if one.tokens else "none")


def test_records_below_what_is_still_needed_may_be_gone() -> None:
    whole: list[Heard] = [
        Opened(1, opening("a")),
        Progress(1, 3, 5),
        Ended(3, ended_row("a", 3)),
        Opened(4, opening("b")),
        Batched(5, 1, 1, [test_id("request", "a")]),
        Progress(4, 2, 5),
    ]
    for released in range(4):
        restored = restore(whole[released:])
        assert restored.unclosed == [Unclosed(opening("b"), 2, 5)]
        assert [batch.sequence for batch in restored.batches] == [1]
        assert restored.unbatched == []


def test_a_request_that_was_carried_on_needs_nothing_of_before() -> None:
    whole: list[Heard] = [
        Opened(1, opening("a")),
        Progress(1, 3, 5),
        Opened(3, opening("a")),
        Progress(3, 3, 5),
        Progress(3, 4, 5),
    ]
    assert restore(whole[:3]).unclosed == [Unclosed(opening("a"), 3, 5)]
    for released in range(3):
        for length in range(4, 6):
            (cut_,) = restore(whole[released:length]).unclosed
            assert cut_ == Unclosed(opening("a"), length - 1, 5)


def test_an_end_before_the_start_by_a_clock_set_back_still_makes_a_row() -> None:
    row = cut(
        opening("a"), NOW - timedelta(hours=1), state="failed", status=503, reason="engine_unavailable"
    )
    assert row.ended_at == row.started_at
    assert row.completion_tokens is None


@given(st.integers(0, 2**60), st.integers(0, 2**60), st.none() | st.integers(0, 2**60))
def test_progress_is_read_as_it_was_written(opened_at: int, tokens: int, prompt: int | None) -> None:
    read = progress_of(progress_bytes(opened_at, tokens, prompt))
    assert read == Progress(opened_at, tokens, -1 if prompt is None else prompt)
