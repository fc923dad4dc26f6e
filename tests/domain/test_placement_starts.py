"""Starts that were told: nobody who comes after delays them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement.domain.engine.calendar import TURNAROUND_MS
from placement.domain.engine.notice import Queued
from placement.domain.engine.size import Terms
from placement.domain.engine.wish import Capped, NodePut

from tests.domain.halls import HOUR, MINUTE, Hall, started

pytestmark = pytest.mark.slow

JOB = TURNAROUND_MS["job"]


def test_who_passes_does_not_draw_the_watts_that_a_start_was_told_for() -> None:
    hall = Hall(domains=3, nodes=1, preempts=False)
    for spec in list(hall.engine.site.specs):
        hall.hear(NodePut(spec=msgspec.structs.replace(spec, gpu_w=100)))
    hall.hear(Capped(level="site", domain="site", watts=900))
    hall.placed("old", 4, run_ms=HOUR)
    head = hall.queued("new", 4, members=2)
    assert head.start == HOUR + JOB
    hall.cancel(hall.queued("new", 2, run_ms=5 * HOUR).workload)
    hall.placed("new", 1, run_ms=5 * HOUR)
    assert started(hall.release("w1")) == [head.workload]


def test_a_tenant_alone_in_a_domain_finds_nobody_there_at_its_start() -> None:
    hall = Hall(domains=2, nodes=2, preempts=False)
    for hours in (1, 9, 9):
        hall.placed("old", 4, run_ms=hours * HOUR)
    hall.release("w2")
    alone = Terms(tenant="new", isolation="nvlink")
    head = hall.queued("new", 4, terms=alone)
    assert head.start == 9 * HOUR + JOB or head.start == HOUR + JOB
    long = hall.ask("other", 4, queue=True, run_ms=20 * HOUR)
    hall.now = head.start
    for one in list(hall.running):
        until = hall.engine.holdings[one].until
        if until is not None and until + JOB <= hall.now:
            hall.release(one)
    assert head.workload in hall.running, long


Job = tuple[int, int, int, int]
jobs_in = st.lists(
    st.tuples(st.sampled_from((1, 2, 4)), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    min_size=1,
    max_size=14,
)


def go(hall: Hall, real: dict[str, int], at: int) -> None:
    """Let time pass up to a moment, each job end when it does."""
    while True:
        due = [(held.at + real[one], one) for one, held in hall.engine.holdings.items()]
        when, one = min(due, default=(at + 1, ""))
        if when > at:
            break
        hall.now = max(hall.now, when)
        hall.release(one)
    hall.now = at
    hall.tick(at)


@settings(max_examples=25, deadline=None)
@given(jobs_in, jobs_in, st.integers(1, 4), st.sampled_from((1_600, 1_200, 800)), st.integers(1, 4))
def test_nobody_behind_delays_the_start_that_the_head_was_told(
    first: list[Job], later: list[Job], members: int, watts: int, pdus: int
) -> None:
    hall = Hall(domains=4, nodes=1, preempts=False)
    for number, spec in enumerate(list(hall.engine.site.specs)):
        place = spec.place | {"pdu": f"u{number % pdus}"}
        hall.hear(NodePut(spec=msgspec.structs.replace(spec, idle_w=0, gpu_w=100, place=place)))
    hall.hear(Capped(level="site", domain="site", watts=watts))
    for pdu in range(pdus):
        hall.hear(Capped(level="pdu", domain=f"u{pdu}", watts=watts // pdus))
    real: dict[str, int] = {}

    def ask(job: Job, **more: Any) -> Any:
        gpus, many, declared, took = job
        found = hall.ask("new", gpus, members=many, run_ms=declared * HOUR, **more)
        real[found.workload] = min(declared, took) * HOUR
        return found

    for job in first:
        ask(job)
    head = ask((4, members, 1, 1), queue=True)
    if not isinstance(head, Queued) or head.start is None:
        return  # It has its seats, or the caps are too low for them for good.
    assert head.position == 1
    for job in later:
        ask(job, queue=True)
    go(hall, real, head.start)
    assert head.workload not in hall.waiting


@settings(max_examples=15, deadline=None)
@given(jobs_in, jobs_in)
def test_all_who_are_told_a_start_have_it_by_then_whoever_comes_after(
    first: list[Job], later: list[Job]
) -> None:
    hall = Hall(domains=3, nodes=1, preempts=False)
    real: dict[str, int] = {}
    told: dict[str, int] = {}
    for gpus, many, declared, took in (*first, *later):
        go(hall, real, hall.now + 7 * MINUTE)
        found = hall.ask("new", gpus, members=many, run_ms=declared * HOUR, queue=True)
        real[found.workload] = min(declared, took) * HOUR
        if isinstance(found, Queued) and found.start is not None:
            told[found.workload] = found.start
        assert not [one for one, start in told.items() if start <= hall.now and one in hall.waiting]
    for start in sorted(told.values()):
        go(hall, real, max(hall.now, start))
        assert not [one for one, at in told.items() if at <= hall.now and one in hall.waiting]
