"""The queue: who waits, where they stand, when they start, and what may pass them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement.domain.engine import promises, queue, trying
from placement.domain.engine.calendar import TURNAROUND_MS
from placement.domain.engine.notice import Queued
from placement.domain.engine.queue import PRIORITIES, rank_of
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Asked, Capped, NodePut, Placed, Refused

from tests.domain.halls import HOUR, MINUTE, Hall, followed, started

pytestmark = pytest.mark.slow

JOB = TURNAROUND_MS["job"]


def full(nodes: int = 4, hours: int = 0) -> tuple[Hall, list[str]]:
    """Return a hall of nodes of 4 GPUs, one job on each: the first of them to end first, or none known to."""
    hall = Hall(domains=nodes, nodes=1, preempts=False)
    jobs = [
        hall.placed("old", 4, run_ms=(hours + one) * HOUR if hours else 0).workload
        for one in range(nodes)
    ]
    return hall, jobs


def test_classes_are_from_their_number_up_to_the_next() -> None:
    assert [rank_of(number) for number in PRIORITIES.values()] == [0, 1, 2, 3]
    assert [rank_of(number) for number in (5_000, 500, 199, 99, -5_000)] == [0, 1, 2, 3, 3]


def test_who_does_not_wish_to_wait_is_refused() -> None:
    hall, _ = full()
    assert isinstance(hall.ask("new", 1), Refused)
    assert hall.waiting == []


def test_a_higher_class_is_tried_first_and_in_a_class_who_came_first() -> None:
    hall, jobs = full()
    classes = ("low", "normal", "system", "normal", "high")
    waits = [hall.queued("new", 4, priority=PRIORITIES[name]).workload for name in classes]
    assert [one.position for one in map(hall.engine.turns.standing, waits) if one] == [5, 3, 1, 4, 2]
    got = [one for job in jobs for one in started(hall.release(job))]
    assert got == [waits[2], waits[4], waits[1], waits[3]]


def test_a_higher_class_takes_seats_that_were_promised_and_the_start_is_told_anew() -> None:
    hall = Hall(domains=1, nodes=1, preempts=False)
    hall.placed("old", 4, run_ms=HOUR)
    waits = hall.queued("new", 4)
    assert waits.start == HOUR + JOB
    urgent = hall.queued("new", 4, run_ms=HOUR, priority=PRIORITIES["high"])
    assert (urgent.position, urgent.start) == (1, HOUR + JOB)
    assert started(hall.release("w1")) == [urgent.workload]
    standing = hall.engine.turns.standing(waits.workload)
    assert standing == Queued(workload=waits.workload, position=1, start=HOUR + JOB)


def test_what_is_guaranteed_is_tried_before_what_borrows_whatever_its_class() -> None:
    hall, jobs = full()
    hall.quota("owner", gpus=4)
    lent = hall.queued("new", 4, preemptible=True, priority=PRIORITIES["high"])
    own = hall.queued("owner", 4, priority=PRIORITIES["low"])
    assert (lent.position, own.position) == (1, 1)
    assert started(hall.release(jobs[0])) == [own.workload]


def test_a_gang_starts_whole_or_not_at_all() -> None:
    hall, jobs = full()
    gang = hall.queued("new", 4, members=2)
    assert hall.release(jobs[0]) == ()
    assert hall.engine.site.free.sum() == 4_000
    assert started(hall.release(jobs[2])) == [gang.workload]


def test_the_start_is_when_enough_is_known_to_have_ended_and_cleaned_up() -> None:
    hall, _ = full(hours=1)
    one = hall.queued("new", 4, members=2)
    assert (one.position, one.start) == (1, 2 * HOUR + JOB)
    other = hall.queued("new", 4, run_ms=HOUR)
    assert (other.position, other.start) == (2, 3 * HOUR + JOB)


def test_a_lease_is_known_to_have_left_only_when_its_servers_are_wiped() -> None:
    hall = Hall(domains=1, nodes=1, preempts=False)
    hall.placed("old", 4, kind="lease", run_ms=HOUR)
    assert hall.queued("new", 4).start == HOUR + TURNAROUND_MS["lease"]


def test_nobody_is_told_a_start_that_nobody_knows() -> None:
    hall, _ = full()
    assert hall.queued("new", 4).start is None


def test_a_workload_past_its_end_is_told_to_stop_once_and_counted_on_no_more() -> None:
    hall = Hall(domains=1, nodes=1, preempts=False)
    job = hall.placed("old", 4, run_ms=HOUR).workload
    waits = hall.queued("new", 4)
    assert [one.workload for one in hall.tick(HOUR)] == [job]
    assert hall.tick(HOUR + 1) == ()
    told = hall.tick(HOUR + JOB)
    assert told == (Queued(workload=waits.workload, position=1, start=None),)
    assert started(hall.release(job)) == [waits.workload]


def test_a_short_job_passes_one_that_waits_and_a_long_one_does_not() -> None:
    hall, _ = full(hours=10)
    hall.release("w1")
    head = hall.queued("new", 4, members=2)
    assert head.start == 11 * HOUR + JOB
    assert isinstance(hall.ask("new", 4, queue=True), Queued)
    assert isinstance(hall.ask("new", 4, queue=True, run_ms=11 * HOUR + 1), Queued)
    assert isinstance(hall.ask("new", 4, queue=True, run_ms=11 * HOUR), Placed)


def test_who_waits_for_what_nobody_knows_to_end_holds_nobody_up_and_is_cleared_for_in_the_end() -> None:
    hall, jobs = full()
    gang = hall.queued("new", 4, members=2).workload
    hall.release(jobs[0])
    passed = hall.placed("new", 4).workload
    hall.now = promises.PATIENCE_MS
    hall.tick(hall.now)
    hall.release(passed)
    assert isinstance(hall.ask("new", 4, queue=True), Queued)
    assert started(hall.release(jobs[1])) == [gang]


def test_nodes_are_cleared_where_least_must_go() -> None:
    hall = Hall(domains=4, nodes=1, preempts=False)
    filled = [hall.placed("old", 4).workload for _ in range(4)]
    for one in filled[2:]:
        hall.release(one)
        hall.placed("old", 3)
    gang = hall.queued("new", 4, members=2)
    hall.tick(promises.PATIENCE_MS)
    kept = hall.engine.turns.queue.entries[gang.workload]
    assert kept.claimed
    assert kept.kept is not None
    assert sorted(part.row for part in kept.kept.parts) == [2, 3]


def test_what_can_never_fit_is_refused_and_told_so() -> None:
    hall, _ = full()
    found = hall.ask("new", 4, members=5, queue=True)
    assert isinstance(found, Refused)
    assert found.short is not None
    assert (found.short.code, found.short.have, found.short.want) == ("capacity", 16_000, 20_000)
    assert isinstance(hall.ask("new", 5, queue=True), Refused)
    assert isinstance(hall.ask("new", 1, size=Size(gpus=1, models=("none",)), queue=True), Refused)


def test_a_node_out_of_service_keeps_nobody_from_waiting_for_it() -> None:
    hall, _ = full()
    hall.turn("d3n0", closed=True)
    assert hall.queued("new", 4, members=4).start is None


def test_no_more_wait_than_the_queue_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "QUEUE_MAX", 2)
    hall, _ = full()
    hall.queued("new", 4)
    hall.queued("new", 4)
    found = hall.ask("new", 4, queue=True)
    assert isinstance(found, Refused)
    assert found.short is not None
    assert found.short.code == "queue"
    assert queue.QUEUE_MAX == 10_000


def test_beyond_what_is_looked_at_nobody_is_told_a_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "SEEN_MAX", 3)
    hall, jobs = full()
    waits = [hall.queued("new", 4) for _ in range(5)]
    assert [one.position for one in waits] == [1, 2, 3, None, None]
    got = [one for job in jobs for one in started(hall.release(job))]
    assert got == [one.workload for one in waits[:4]]


def test_a_pass_tries_no_more_than_its_bound_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trying, "TRIED_MAX", 2)
    hall, jobs = full()
    small = [hall.queued("new", 1).workload for _ in range(4)]
    assert started(hall.release(jobs[0])) == small[:2]
    assert started(hall.tick(MINUTE)) == small[2:]


def test_who_is_cancelled_waits_no_more_and_who_was_behind_moves_up() -> None:
    hall, jobs = full()
    hall.release(jobs[0])
    head = hall.queued("new", 4, members=2, queue=True)
    hall.now = promises.PATIENCE_MS
    hall.tick(hall.now)
    small = hall.queued("new", 4)
    assert started(hall.cancel(head.workload)) == [small.workload]
    assert hall.cancel("unknown") == ()


def test_nobody_asks_twice() -> None:
    hall, _ = full()
    waits = hall.queued("new", 4)
    with pytest.raises(ValueError, match="waits already"):
        hall.ask("new", 4, workload=waits.workload)
    with pytest.raises(ValueError, match="has its seats already"):
        hall.ask("new", 4, workload="w1")


def test_a_node_that_comes_back_lets_the_queue_move() -> None:
    hall = Hall(domains=1, nodes=1)
    hall.turn("d0n0", closed=True)
    waits = hall.queued("new", 4)
    assert started(hall.turn("d0n0", closed=False)) == [waits.workload]


def test_watts_that_come_free_let_the_queue_move() -> None:
    hall = Hall(domains=1, nodes=1)
    spec = msgspec.structs.replace(hall.engine.site.specs[0], gpu_w=100)
    hall.hear(NodePut(spec=spec))
    hall.hear(Capped(level="site", domain="site", watts=300))
    waits = hall.queued("new", 4)
    assert waits.start is None
    outcome = hall.hear(Capped(level="site", domain="site", watts=None))
    assert started(followed(outcome)) == [waits.workload]


def test_a_start_moves_when_its_node_goes_and_is_told_anew() -> None:
    hall, _ = full(hours=1)
    waits = hall.queued("new", 4)
    assert waits.start == HOUR + JOB
    told = hall.turn("d0n0", closed=True)
    assert told == (Queued(workload=waits.workload, position=1, start=2 * HOUR + JOB),)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.sampled_from((1, 4))), max_size=16),
    st.randoms(use_true_random=False),
)
def test_in_a_project_and_class_equals_start_in_the_order_in_which_they_came(
    wanted: list[tuple[int, int, int]], chance: Any
) -> None:
    hall, jobs = full()
    came: dict[tuple[str, int, int], list[str]] = {}
    for project, rank, gpus in wanted:
        name = ("acme", "beta")[project]
        priority = list(PRIORITIES.values())[rank]
        found = hall.ask(name, gpus, priority=priority, queue=True)
        came.setdefault((name, rank, gpus), []).append(found.workload)
        if chance.random() < 0.3 and jobs:
            hall.release(jobs.pop(chance.randrange(len(jobs))))
    got: list[str] = [one for one in hall.running if one not in jobs]
    while hall.waiting:
        out = hall.running[chance.randrange(len(hall.running))]
        got += started(hall.release(out))
    for names in came.values():
        assert [one for one in got if one in names] == names


def test_positions_told_at_the_door_are_those_of_the_list() -> None:
    hall, _ = full()
    for number in range(12):
        name = ("acme", "beta/one", "beta/two")[number % 3]
        wish = hall.wish(name, 4, queue=True, priority=list(PRIORITIES.values())[number % 4])
        told = hall.hear(Asked(wish=wish, at=0))
        assert isinstance(told, Queued)
        standing = hall.engine.turns.standing(wish.workload)
        assert standing is not None
        assert standing.position == told.position
