"""The calendar: what is reserved is there at its start, and nothing runs into a maintenance window."""

from typing import Any

import pytest
from placement.domain.engine.calendar import TURNAROUND_MS, Calendar
from placement.domain.engine.fit import CONSTRAINTS
from placement.domain.engine.notice import Booked, NotBooked, Preempted, Queued
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Placed, Refused

from tests.domain.halls import HOUR, MINUTE, Hall, started

JOB = TURNAROUND_MS["job"]
LEASE = TURNAROUND_MS["lease"]
WHOLE = Size(gpus=4)


def hall_of(nodes: int = 4, *, preempts: bool = False) -> Hall:
    return Hall(domains=nodes, nodes=1, preempts=preempts)


def booked(found: Any) -> Booked:
    assert isinstance(found, Booked), found
    return found


def refused(found: Any) -> NotBooked:
    assert isinstance(found, NotBooked), found
    return found


def nodes_of(placed: Placed) -> set[str]:
    return {seat.node for seat in placed.seats}


def test_work_that_ends_before_a_reservation_runs_on_its_nodes_and_other_work_does_not() -> None:
    hall = hall_of(2)
    kept = booked(hall.reserve("acme", 10 * HOUR, 20 * HOUR, size=WHOLE))
    assert len(kept.nodes) == 1
    until = hall.placed("other", 4, run_ms=10 * HOUR - JOB)
    beside = hall.placed("other", 4, run_ms=10 * HOUR)
    assert nodes_of(until) | nodes_of(beside) == {"d0n0", "d1n0"}
    hall.release(until.workload)
    hall.release(beside.workload)
    assert nodes_of(hall.placed("other", 4)).isdisjoint(kept.nodes)
    late = hall.ask("other", 4)
    assert isinstance(late, Refused)
    assert dict(zip(CONSTRAINTS, late.why.failed, strict=False))["reserved"] == 1


def test_at_its_start_a_reservation_is_its_projects_and_nobody_elses() -> None:
    hall = hall_of(2)
    name = booked(hall.reserve("acme", HOUR, 9 * HOUR, nodes=("d1n0",))).name
    hall.placed("other", 4)
    early = hall.ask("acme", 4, reservation=name, queue=True)
    assert isinstance(early, Queued)
    assert early.short is not None
    assert early.short.code == "reservation"
    assert isinstance(hall.ask("other", 1, queue=True, run_ms=HOUR), Queued)
    told = hall.tick(HOUR)
    assert started(told) == [early.workload]
    inside = hall.engine.holdings[early.workload]
    assert inside.until == 9 * HOUR
    foreign = hall.ask("other", 1, reservation=name)
    assert isinstance(foreign, Refused)
    assert foreign.short is not None
    assert not foreign.short.ever


def test_work_inside_a_reservation_ends_with_it() -> None:
    hall = hall_of(1)
    name = booked(hall.reserve("acme", HOUR, 3 * HOUR, nodes=("d0n0",))).name
    hall.tick(HOUR)
    long = hall.ask("acme", 4, reservation=name, run_ms=2 * HOUR + 1)
    assert isinstance(long, Refused)
    assert long.short is not None
    assert (long.short.code, long.short.have, long.short.want) == ("time", 2 * HOUR, 2 * HOUR + 1)
    inside = hall.placed("acme", 4, reservation=name)
    assert [one.workload for one in hall.tick(3 * HOUR)] == [inside.workload]
    late = hall.ask("acme", 4, reservation=name)
    assert isinstance(late, Refused)


def test_a_reservation_that_has_ended_is_everybodys_again() -> None:
    hall = hall_of(1)
    booked(hall.reserve("acme", HOUR, 3 * HOUR, nodes=("d0n0",)))
    waits = hall.queued("other", 4)
    assert waits.start == 3 * HOUR + LEASE
    hall.tick(3 * HOUR - 1)
    assert waits.workload in hall.waiting
    assert started(hall.tick(3 * HOUR)) == [waits.workload]


def test_no_node_is_reserved_twice_at_a_time_nor_before_it_can_have_been_wiped() -> None:
    hall = hall_of(1)
    booked(hall.reserve("acme", HOUR, 3 * HOUR, nodes=("d0n0",)))
    for start, end in ((2 * HOUR, 5 * HOUR), (3 * HOUR, 4 * HOUR), (MINUTE, HOUR)):
        lacks = refused(hall.reserve("beta", start, end, nodes=("d0n0",))).short
        assert (lacks.code, lacks.have, lacks.want) == ("nodes", 0, 1)
    booked(hall.reserve("beta", 3 * HOUR + LEASE, 4 * HOUR, nodes=("d0n0",)))


def test_named_nodes_whose_work_will_not_have_left_are_refused_with_who_is_there() -> None:
    hall = hall_of(1)
    job = hall.placed("old", 1, run_ms=5 * HOUR).workload
    lacks = refused(hall.reserve("acme", 5 * HOUR, 6 * HOUR, nodes=("d0n0",))).short
    assert (lacks.code, lacks.want, lacks.ever) == ("time", 5 * HOUR + JOB, True)
    assert lacks.holders == ((job, 5 * HOUR + JOB),)
    booked(hall.reserve("acme", 5 * HOUR + JOB, 6 * HOUR, nodes=("d0n0",)))
    forever = hall_of(1)
    forever.placed("old", 1)
    assert not refused(forever.reserve("acme", HOUR, 2 * HOUR, nodes=("d0n0",))).short.ever


def test_a_size_is_found_room_among_what_will_have_ended() -> None:
    hall = hall_of(4)
    for hours in (1, 2, 3):
        hall.placed("old", 4, run_ms=hours * HOUR)
    hall.placed("old", 4)
    assert refused(hall.reserve("acme", HOUR, 9 * HOUR, size=WHOLE, members=3)).short.code == "capacity"
    kept = booked(hall.reserve("acme", 3 * HOUR + JOB, 9 * HOUR, size=WHOLE, members=3))
    assert kept.nodes == ("d0n0", "d1n0", "d2n0")


def test_whole_domains_are_reserved_by_name() -> None:
    hall = Hall(domains=2, nodes=2)
    assert booked(hall.reserve("acme", HOUR, 2 * HOUR, domains=("d1",))).nodes == ("d1n0", "d1n1")
    with pytest.raises(ValueError, match="no NVLink domain d7"):
        hall.reserve("acme", HOUR, 2 * HOUR, domains=("d7",))
    with pytest.raises(ValueError, match="no node n7"):
        hall.reserve("acme", HOUR, 2 * HOUR, nodes=("n7",))
    with pytest.raises(ValueError, match="before it ends"):
        hall.reserve("acme", HOUR, HOUR, nodes=("d0n0",))


def test_work_that_can_be_preempted_makes_way_at_the_start_and_not_before() -> None:
    hall = hall_of(1)
    soft = hall.placed("old", 4, preemptible=True, queue=True).workload
    kept = booked(hall.reserve("acme", HOUR, 2 * HOUR, size=WHOLE))
    assert kept.remain == (soft,)
    assert hall.tick(HOUR - 1) == ()
    told = hall.tick(HOUR)
    assert told[0] == Preempted(workload=soft, by=kept.name, queued=True)
    assert isinstance(hall.ask("acme", 4, reservation=kept.name), Placed)
    assert hall.waiting == [soft]


def test_what_is_promised_to_one_who_waits_is_not_reserved_for_another() -> None:
    hall = hall_of(1)
    hall.placed("old", 4, run_ms=HOUR)
    waits = hall.queued("new", 4, run_ms=HOUR)
    assert waits.start == HOUR + JOB
    assert isinstance(hall.reserve("acme", 2 * HOUR, 3 * HOUR, nodes=("d0n0",)), NotBooked)
    booked(hall.reserve("acme", 2 * HOUR + 2 * JOB, 3 * HOUR, nodes=("d0n0",)))
    hall.now = HOUR + JOB
    assert started(hall.release("w1")) == [waits.workload]


def test_no_start_is_told_that_would_run_into_a_reservation() -> None:
    hall = hall_of(1)
    hall.placed("old", 4, run_ms=4 * HOUR)
    booked(hall.reserve("acme", 6 * HOUR, 9 * HOUR, nodes=("d0n0",)))
    assert hall.queued("new", 4, run_ms=2 * HOUR).start == 9 * HOUR + LEASE
    assert hall.queued("new", 4, run_ms=HOUR).start == 4 * HOUR + JOB


def test_a_reservation_moves_when_a_node_of_it_goes_before_its_start() -> None:
    hall = hall_of(3)
    kept = booked(hall.reserve("acme", HOUR, 2 * HOUR, size=WHOLE, members=2))
    out = kept.nodes[0]
    told = hall.turn(out, closed=True)
    assert [one.name for one in told if isinstance(one, Booked)] == [kept.name]
    assert out not in told[0].nodes
    second = hall.turn(told[0].nodes[0], closed=True)
    assert [type(one) for one in second] == [NotBooked]
    assert second[0].name == kept.name


def test_a_cancelled_reservation_gives_its_nodes_back_unless_work_is_on_them() -> None:
    hall = hall_of(1)
    kept = booked(hall.reserve("acme", HOUR, 9 * HOUR, nodes=("d0n0",)))
    waits = hall.queued("other", 4)
    assert started(hall.cancel(kept.name)) == [waits.workload]
    hall.release(waits.workload)
    again = booked(hall.reserve("acme", HOUR, 9 * HOUR, nodes=("d0n0",))).name
    hall.tick(HOUR)
    hall.placed("acme", 1, reservation=again)
    with pytest.raises(ValueError, match="end that first"):
        hall.cancel(again)


def test_nothing_that_would_run_into_a_maintenance_window_is_placed_there() -> None:
    hall = hall_of(2)
    stays = hall.placed("old", 1).workload
    where = next(iter(hall.engine.holdings[stays].parts)).row
    window = hall.maintain(5 * HOUR, 6 * HOUR, domains=(f"d{where}",))
    assert booked(window).remain == (stays,)
    assert nodes_of(hall.placed("new", 2, run_ms=4 * HOUR)) == {f"d{where}n0"}
    assert nodes_of(hall.placed("new", 1, run_ms=5 * HOUR)) != {f"d{where}n0"}
    assert nodes_of(hall.placed("new", 1)) != {f"d{where}n0"}
    hall.tick(5 * HOUR)
    assert stays in hall.running
    hall.release(stays)
    assert isinstance(hall.ask("new", 4, run_ms=MINUTE), Refused)
    hall.tick(6 * HOUR)
    hall.placed("new", 1)


def test_a_window_without_an_end_stands_until_it_is_cancelled() -> None:
    hall = hall_of(1)
    window = booked(hall.maintain(HOUR, None, nodes=("d0n0",)))
    hall.tick(1_000 * HOUR)
    waits = hall.queued("new", 1)
    assert waits.start is None
    assert started(hall.cancel(window.name)) == [waits.workload]


def test_a_reservation_is_within_its_projects_guarantee() -> None:
    hall = hall_of(4)
    hall.quota("acme", gpus=8)
    hall.quota("acme", "red", gpus=4)
    assert refused(hall.reserve("beta", HOUR, 2 * HOUR, size=WHOLE)).short.code == "guarantee"
    one = booked(hall.reserve("acme/red", 4 * HOUR, 5 * HOUR, size=WHOLE))
    lacks = refused(hall.reserve("acme/red", 4 * HOUR, 5 * HOUR, size=WHOLE, members=2)).short
    assert (lacks.code, lacks.have, lacks.want) == ("guarantee", 4_000, 8_000)
    # What ends before it may use the same guarantee; what does not, may not.
    early = hall.placed("acme/red", 4, run_ms=4 * HOUR - JOB).workload
    late = hall.ask("acme/red", 4)
    assert isinstance(late, Refused)
    assert late.short is not None
    assert late.short.code == "guarantee"
    hall.now = 4 * HOUR - JOB
    hall.release(early)
    hall.tick(4 * HOUR)
    hall.placed("acme/red", 4, reservation=one.name)


def test_at_its_start_a_reservation_takes_the_place_of_its_projects_own_soft_work() -> None:
    hall = hall_of(3)
    hall.quota("acme", gpus=4)
    soft = hall.placed("acme", 4, preemptible=True).workload
    booked(hall.reserve("acme", HOUR, 2 * HOUR, size=WHOLE))
    assert not hall.borrowed(soft)
    hall.tick(HOUR)
    assert hall.borrowed(soft)
    hall.tick(2 * HOUR)
    assert not hall.borrowed(soft)


def test_a_reservation_keeps_no_domain_that_is_owed_to_another() -> None:
    hall = hall_of(3)
    hall.quota("acme", gpus=8)
    hall.quota("beta", gpus=4, domains=1)
    hall.placed("acme", 1)
    booked(hall.reserve("acme", HOUR, 2 * HOUR, nodes=("d1n0",)))
    lacks = refused(hall.reserve("acme", 5 * HOUR, 6 * HOUR, nodes=("d2n0",))).short
    assert lacks.code == "domains"
    booked(hall.reserve("acme", 5 * HOUR, 6 * HOUR, nodes=("d1n0",)))


def test_without_bookings_the_calendar_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_given: Any) -> None:
        raise AssertionError

    hall = hall_of(1)
    monkeypatch.setattr(Calendar, "barred", asked)
    monkeypatch.setattr(Calendar, "_starts", asked)
    hall.placed("new", 1)
