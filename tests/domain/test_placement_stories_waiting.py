"""Waiting as users of other schedulers found it: without a reason, at the cost of a core, never looked at again.

Told after kai-scheduler/KAI-Scheduler 2058, ray-project/ray 18651 and volcano-sh/volcano 3852.
"""

from collections.abc import Callable
from typing import Any

import pytest
from placement.domain.engine.choose import Chooser
from placement.domain.engine.explain import refused
from placement.domain.engine.gang import Gangs
from placement.domain.engine.notice import Queued
from placement.domain.engine.relax import relaxed
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Asked, Near, Placed, Wish

from tests.domain.halls import HOUR, MINUTE, Hall, started

WAITING = 40
TOGETHER = Near(level="nvlink", required=True)


def waits(hall: Hall, **more: Any) -> tuple[Wish, Queued]:
    """Ask for something that waits; return the wish and what it was told."""
    wished = hall.wish("acme", 4, queue=True, **more)
    found = hall.hear(Asked(wish=wished, at=hall.now))
    assert isinstance(found, Queued), found
    return wished, found


def out_of_service(hall: Hall) -> None:
    for node in list(hall.engine.site.row_of):
        hall.turn(node, closed=True)


def full(hall: Hall) -> None:
    for _ in range(4):
        hall.placed("acme", 4)


def reserved(hall: Hall) -> None:
    hall.maintain(0, None, domains=("d0", "d1"))


def half_full(hall: Hall) -> None:
    for domain in ("d0", "d1"):
        others = tuple(node for node in hall.engine.site.row_of if not node.startswith(domain))
        hall.placed("acme", 4, avoid=others)


@pytest.mark.parametrize(
    ("befalls", "more", "code", "way"),
    [
        (full, {}, "not_enough_gpus", "workload"),
        (full, {"size": Size(gpu_milli=200)}, "not_enough_gpus", "workload"),
        (out_of_service, {}, "no_ready_node", "ready"),
        (reserved, {}, "reserved", None),
        (half_full, {"members": 2, "near": TOGETHER}, "not_near_enough", "members"),
    ],
)
def test_who_waits_for_room_is_told_of_what_and_a_way_out_that_is_one(
    befalls: Callable[[Hall], None], more: dict[str, Any], code: str, way: str | None
) -> None:
    # Why something was pending took an agent to find out (KAI 2058).
    hall = Hall()
    befalls(hall)
    wished, told = waits(hall, **more)
    assert told.why is not None
    reasons = refused(wished, told.why)
    assert reasons[0].code == code
    assert all(one.detail and one.unblock for one in reasons)
    assert (told.why.relaxation and told.why.relaxation.kind) == way
    if told.why.relaxation is not None:
        trial = hall.engine.copy()
        inputs, less = relaxed(trial, wished, told.why.relaxation)
        trial.turns.queue.drop(wished.workload)
        for given in inputs:
            trial.apply(given)
        assert isinstance(trial.apply(Asked(wish=less, at=0)), Placed)


def test_who_waits_for_its_quota_is_told_which_how_much_and_who_has_it() -> None:
    hall = Hall()
    hall.quota("acme", limit=8)
    hall.placed("acme/red", 4, preemptible=True)
    hall.placed("acme/blue", 4, preemptible=True)
    _, told = waits(hall, preemptible=True)
    assert told.short is not None
    assert (told.short.code, told.short.name) == ("limit", "acme")
    assert (told.short.have, told.short.want) == (0, 4_000)
    assert dict(told.short.holders) == {"red": 4_000, "blue": 4_000}


def test_who_waits_behind_others_is_told_where_it_stands_and_when_it_starts() -> None:
    hall = Hall(domains=1, nodes=1)
    hall.placed("acme", 4, run_ms=HOUR)
    first, second = (waits(hall, run_ms=HOUR)[1] for _ in range(2))
    assert (first.position, second.position) == (1, 2)
    assert first.start is not None
    assert second.start is not None
    assert HOUR <= first.start < second.start


class Tries:
    """Counts how often anybody is tried to be seated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for where, name in ((Chooser, "choose"), (Gangs, "seat")):
            monkeypatch.setattr(where, name, self._counting(getattr(where, name)))

    def _counting(self, tries: Callable[..., object]) -> Callable[..., object]:
        def tried(*given: object, **more: object) -> object:
            self.count += 1
            return tries(*given, **more)

        return tried


def crowded(waiting: int) -> Hall:
    hall = Hall(domains=4, nodes=2)
    for _ in range(8):
        hall.placed("acme", 4)
    for number in range(waiting):
        more: dict[str, Any] = {"members": 2, "near": TOGETHER} if number % 2 else {}
        waits(hall, **more)
    return hall


def test_many_who_wait_cost_nothing_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    # A few groups that waited kept a core busy, and all else with it (Ray 18651).
    hall = crowded(WAITING)
    hall.tick(1)
    tries = Tries(monkeypatch)
    for minute in range(1, 6):
        hall.tick(minute * MINUTE)
    assert tries.count == 0
    assert len(hall.waiting) == WAITING


def test_what_comes_free_is_tried_for_as_many_as_it_may_be_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = crowded(WAITING)
    hall.tick(1)
    tries = Tries(monkeypatch)
    first = hall.waiting[0]
    assert started(hall.release(hall.running[0])) == [first]
    assert 0 < tries.count < 10


def test_who_waits_is_told_nothing_anew_while_nothing_changes() -> None:
    # The state of all that waited was written again in each round, changed or not (Volcano 3852).
    hall = crowded(WAITING)
    told = hall.tick(1)
    assert all(isinstance(one, Queued) for one in told)
    assert [hall.tick(minute * MINUTE) for minute in range(1, 6)] == [()] * 5
    hall.cancel(hall.waiting[20])
    # Who moved up is told so when it asks.
    assert hall.tick(6 * MINUTE) == ()
