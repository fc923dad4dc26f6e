"""Quota: what is guaranteed is there, what is borrowed comes back, and a refusal says what is lacking."""

from typing import Any

import pytest
from placement.domain.engine.notice import Booked, NotBooked, Queued, Short
from placement.domain.engine.queue import PRIORITIES
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Refused

from tests.domain.halls import HOUR, MODEL, Hall, started


def shared() -> Hall:
    """Return 16 GPUs: acme has 8 (red 4, blue 2, 2 for either), beta 6, gamma nothing; 2 are nobody's."""
    hall = Hall()
    hall.quota("acme", gpus=8)
    hall.quota("acme", "red", gpus=4)
    hall.quota("acme", "blue", gpus=2)
    hall.quota("beta", gpus=6)
    hall.quota("beta", "one", gpus=6)
    return hall


def short(found: Any) -> Short:
    assert isinstance(found, Refused | Queued), found
    assert found.short is not None
    return found.short


def test_without_any_quota_everybody_has_what_fits() -> None:
    hall = Hall()
    for _ in range(4):
        assert not hall.placed("anybody", 4).borrowed
    assert short_of_room(hall.ask("anybody", 1))


def short_of_room(found: Any) -> bool:
    return isinstance(found, Refused) and found.short is None


def test_what_is_guaranteed_is_firm_and_the_rest_is_borrowed() -> None:
    hall = shared()
    assert not hall.placed("acme/red", 4, preemptible=True).borrowed
    assert not hall.placed("acme/red", 2, preemptible=True).borrowed  # from the organisation's pool
    assert hall.placed("acme/red", 1, preemptible=True).borrowed


def test_work_that_cannot_be_preempted_does_not_borrow_and_is_told_so() -> None:
    hall = shared()
    hall.placed("acme/red", 4)
    lacks = short(hall.ask("acme/red", 4))
    assert (lacks.code, lacks.name, lacks.have, lacks.want) == ("guarantee", "red", 2_000, 4_000)
    assert lacks.holders == (("w1", 4_000),)
    assert lacks.ever


def test_a_project_without_a_guarantee_borrows_and_can_do_nothing_else() -> None:
    hall = shared()
    lacks = short(hall.ask("gamma/none", 1, queue=True))
    assert (lacks.code, lacks.have, lacks.want, lacks.ever) == ("guarantee", 0, 1_000, False)
    assert hall.placed("gamma/none", 1, preemptible=True).borrowed


def test_a_project_of_weight_nought_borrows_nothing() -> None:
    hall = shared()
    hall.quota("gamma", weight=0)
    lacks = short(hall.ask("gamma/none", 1, preemptible=True))
    assert (lacks.code, lacks.ever) == ("weight", False)


def test_nobody_holds_more_than_its_limit_or_its_organisations() -> None:
    hall = shared()
    hall.quota("acme", gpus=8, limit=9)
    hall.quota("acme", "red", gpus=4, limit=5)
    hall.placed("acme/red", 4, preemptible=True)
    lacks = short(hall.ask("acme/red", 2, preemptible=True))
    assert (lacks.code, lacks.name, lacks.have, lacks.want) == ("limit", "red", 1_000, 2_000)
    hall.placed("acme/blue", 4, preemptible=True)
    lacks = short(hall.ask("acme/blue", 2, preemptible=True))
    assert (lacks.code, lacks.name, lacks.have) == ("limit", "acme", 1_000)
    assert lacks.holders == (("blue", 4_000), ("red", 4_000))
    assert not short(hall.ask("acme/blue", 4, members=3, preemptible=True)).ever


def test_a_limit_holds_for_what_was_booked_too() -> None:
    hall = Hall()
    hall.quota("acme", gpus=8, limit=8)
    soft = [hall.placed("acme", 4, preemptible=True).workload for _ in range(2)]
    start, end = hall.now + HOUR, hall.now + 3 * HOUR
    booked = hall.reserve("acme", start, end, size=Size(gpus=4))
    assert isinstance(booked, Booked)
    over = hall.reserve("acme", start, end, size=Size(gpus=4), members=3)
    assert isinstance(over, NotBooked)
    assert over.short.code in {"guarantee", "limit"}
    hall.tick(start)
    lease = {"kind": "lease", "reservation": booked.name, "workload": "lease"}
    lacks = short(hall.queued("acme", 4, **lease))
    assert (lacks.code, lacks.name, lacks.have, lacks.want) == ("limit", "acme", 0, 4_000)
    assert started(hall.release(soft[0])) == ["lease"]


def test_what_sits_in_a_reservation_counts_below_its_owners_limit() -> None:
    hall = Hall()
    hall.quota("acme", gpus=8, limit=8)
    start, end = hall.now + HOUR, hall.now + 3 * HOUR
    booked = hall.reserve("acme", start, end, size=Size(gpus=4))
    assert isinstance(booked, Booked)
    hall.tick(start)
    hall.placed("acme", 4, kind="lease", reservation=booked.name, workload="lease")
    lacks = short(hall.ask("acme", 5, preemptible=True))
    assert (lacks.code, lacks.have, lacks.want) == ("limit", 4_000, 5_000)
    hall.placed("acme", 4, preemptible=True)
    lacks = short(hall.ask("acme", 1, preemptible=True))
    assert (lacks.code, lacks.have) == ("limit", 0)
    hall.release("lease")
    hall.placed("acme", 4, preemptible=True)


def test_work_that_cannot_be_preempted_takes_its_own_projects_guarantee_from_work_that_can() -> None:
    hall = shared()
    soft = [hall.placed("acme/red", 2, preemptible=True).workload for _ in range(3)]
    assert not any(hall.borrowed(one) for one in soft)
    assert not hall.placed("acme/red", 4).borrowed
    # The latest gives its place among what is guaranteed, not its seats.
    assert [hall.borrowed(one) for one in soft] == [False, True, True]


def test_borrowed_work_is_firm_as_soon_as_its_own_guarantee_has_room() -> None:
    hall = shared()
    first = hall.placed("beta/one", 4).workload
    second = hall.placed("beta/one", 4, preemptible=True).workload
    assert hall.borrowed(second)
    hall.release(first)
    assert not hall.borrowed(second)


def test_a_guaranteed_wish_takes_back_what_is_borrowed_and_no_more_than_it_needs() -> None:
    hall = shared()
    lent = [hall.placed("gamma/none", 2, preemptible=True).workload for _ in range(8)]
    found = hall.placed("beta/one", 4)
    assert not found.borrowed
    assert len(found.preempted) == 2
    assert set(found.preempted) < set(lent)


def test_a_borrower_takes_nothing_back_from_anybody() -> None:
    hall = shared()
    for _ in range(8):
        hall.placed("gamma/none", 2, preemptible=True)
    assert short_of_room(hall.ask("delta/other", 2, preemptible=True, priority=PRIORITIES["high"]))


def test_a_higher_class_takes_seats_of_its_own_project_but_of_no_other() -> None:
    hall = shared()
    low = hall.placed("acme/red", 4, preemptible=True, priority=PRIORITIES["low"]).workload
    for _ in range(6):
        hall.placed("beta/one" if hall.names < 4 else "gamma/none", 2, preemptible=True)
    found = hall.placed("acme/red", 4, preemptible=True, priority=PRIORITIES["high"])
    assert found.borrowed
    assert found.preempted == (low,)


def test_nobody_gives_way_before_it_ran_as_long_as_it_was_promised() -> None:
    hall = shared()
    for _ in range(8):
        hall.placed("gamma/none", 2, preemptible=True, min_run_ms=HOUR)
    waits = hall.queued("beta/one", 2)
    assert waits.position == 1
    assert hall.tick(HOUR - 1) == ()
    assert started(hall.tick(HOUR)) == [waits.workload]


def test_who_asks_for_the_same_later_does_not_take_back_first() -> None:
    hall = shared()
    for _ in range(8):
        hall.placed("gamma/none", 2, preemptible=True, min_run_ms=HOUR)
    first = hall.queued("beta/one", 2).workload
    hall.now = HOUR
    second = hall.queued("beta/one", 2).workload
    assert started(hall.tick(HOUR)) == [first, second]


def test_who_gave_way_waits_in_front_of_those_who_came_later() -> None:
    hall = shared()
    lent = [hall.placed("gamma/none", 4, preemptible=True, queue=True).workload for _ in range(4)]
    later = hall.queued("gamma/none", 4, preemptible=True).workload
    gone = hall.placed("beta/one", 4).preempted
    assert next(iter(hall.engine.turns.queue.lines.values())).keys() == {*gone, later}
    hall.release(next(one for one in lent if one not in gone))
    assert hall.waiting == [later]


def test_cutting_a_gpu_counts_by_its_slices() -> None:
    hall = shared()
    lacks = short(hall.ask("gamma/none", 0, size=Size(mig="3g.40gb"), members=2))
    assert lacks.want == 2 * 429


@pytest.mark.parametrize(
    ("quota", "says"),
    [
        ({"project": "red", "gpus": 7}, "its other projects 2 GPUs"),
        ({"gpus": 5}, "guaranteed 6 GPUs already"),
        ({"gpus": 11}, "6 GPUs are guaranteed to others"),
        ({"gpus": 8, "limit": 7}, "less than the 8 GPUs guaranteed"),
        ({"gpus": 8, "domains": 2}, "guarantee as many"),
        ({"gpus": 8, "weight": -1}, "not negative"),
    ],
)
def test_no_quota_promises_what_is_promised_or_not_there(quota: dict[str, Any], says: str) -> None:
    hall = shared()
    with pytest.raises(ValueError, match=says):
        hall.quota("acme", **quota)


def test_no_more_domains_are_promised_than_an_organisation_has_or_the_site() -> None:
    hall = Hall(domains=2)
    hall.quota("acme", gpus=8, domains=1)
    hall.quota("acme", "red", gpus=8, domains=1)
    with pytest.raises(ValueError, match=f"guaranteed 1 NVLink domains of {MODEL}"):
        hall.quota("acme", gpus=8)
    hall.quota("beta", gpus=8)
    with pytest.raises(ValueError, match="guaranteed 0 NVLink domains"):
        hall.quota("beta", "one", gpus=8, domains=1)
    bigger = Hall(domains=3)
    bigger.engine.apply(bigger.heard[0])
    bigger.quota("acme", gpus=16, domains=2)
    with pytest.raises(ValueError, match="the site has 24 GPUs"):
        bigger.quota("beta", gpus=16, domains=2)


def test_quotas_set_on_a_running_site_leave_everybody_its_seats() -> None:
    hall = Hall()
    kept = hall.placed("gamma/none", 4).workload
    soft = hall.placed("gamma/none", 4, preemptible=True).workload
    hall.quota("beta", gpus=16)
    assert hall.running == [kept, soft]
    assert (hall.borrowed(kept), hall.borrowed(soft)) == (False, True)
    assert short(hall.ask("gamma/none", 1)).code == "guarantee"


def test_small_work_of_a_project_does_not_keep_its_large_work_from_its_quota() -> None:
    hall = Hall(domains=4, nodes=1, preempts=False)
    hall.quota("acme", gpus=8)
    fill = [hall.placed("acme", 2).workload for _ in range(3)]
    large = hall.queued("acme", 4)
    assert large.short is not None
    assert large.short.code == "guarantee"
    small = [hall.queued("acme", 2).workload for _ in range(2)]
    assert started(hall.release(fill[0])) == [large.workload]
    assert started(hall.release(fill[1])) == [small[0]]


def test_one_project_does_not_keep_anothers_large_work_from_their_organisations_limit() -> None:
    hall = Hall(domains=4, nodes=1, preempts=False)
    hall.quota("acme", limit=8)
    fill = [hall.placed("acme/small", 2, preemptible=True).workload for _ in range(3)]
    large = hall.queued("acme/large", 4, preemptible=True).workload
    assert isinstance(hall.ask("acme/small", 2, preemptible=True, queue=True), Queued)
    assert started(hall.release(fill[0])) == [large]


def test_what_a_lower_quota_has_made_impossible_holds_nobody_up() -> None:
    hall = Hall(domains=4, nodes=1, preempts=False)
    jobs = [hall.placed("old", 4).workload for _ in range(4)]
    hall.quota("acme", gpus=8)
    waits = hall.queued("acme", 4, members=2).workload
    hall.quota("acme", gpus=4)
    small = hall.queued("acme", 4).workload
    assert started(hall.release(jobs[0])) == [small]
    standing = hall.engine.turns.standing(waits)
    assert standing is not None
    assert standing.short is not None
    assert not standing.short.ever
