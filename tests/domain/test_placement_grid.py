"""Work that may begin later does so when the grid emits less, and never past what it allowed."""

from typing import Any

import pytest
from placement.domain.engine.grid import begins
from placement.domain.engine.notice import CarbonForeseen, Queued
from placement.domain.engine.wish import Placed

from tests.domain.halls import HOUR, Hall, started


def foreseen(*grams: int, start: int = 0, at: int = 0) -> CarbonForeseen:
    return CarbonForeseen(start=start, step=HOUR, mg_per_kwh=tuple(1_000 * one for one in grams), at=at)


def asked(hall: Hall, hours: int, **more: Any) -> Any:
    return hall.ask("acme/red", 4, **({"queue": True, "slack_ms": hours * HOUR, "run_ms": HOUR} | more))


def test_it_waits_for_the_cleanest_hour_that_it_allows_and_is_told_why() -> None:
    hall = Hall()
    hall.hear(foreseen(60, 50, 55, 20))
    waits = asked(hall, 2)
    assert isinstance(waits, Queued)
    assert waits.short is not None
    assert (waits.short.code, waits.short.have, waits.short.want) == ("carbon", 60_000, 50_000)
    assert waits.short.at == HOUR
    hall.tick(HOUR - 1)
    assert waits.workload in hall.waiting
    assert waits.workload in started(hall.tick(HOUR))


@pytest.mark.parametrize(
    ("grams", "hours"),
    [
        ((), 4),  # Nothing is foreseen.
        ((50, 60, 70), 2),  # It is cleanest now.
        ((50, 49, 49), 2),  # It would save next to nothing.
        ((60, 60, 60, 20), 2),  # What is clean comes too late.
        ((60, 20), 0),  # It is not to wait.
    ],
)
def test_it_begins_at_once_where_waiting_is_of_no_use(grams: tuple[int, ...], hours: int) -> None:
    hall = Hall()
    if grams:
        hall.hear(foreseen(*grams))
    assert isinstance(asked(hall, hours), Placed)


def test_who_does_not_wait_where_it_does_not_fit_does_not_wait_for_the_grid() -> None:
    hall = Hall()
    hall.hear(foreseen(60, 20))
    assert isinstance(asked(hall, 4, queue=False), Placed)


def test_others_pass_one_that_waits_for_the_grid_and_it_keeps_nothing_from_them() -> None:
    hall = Hall(domains=1, nodes=1)
    hall.hear(foreseen(60, 20))
    asked(hall, 1)
    assert isinstance(hall.ask("acme/red", 4, queue=True), Placed)


def test_a_long_run_is_weighed_by_all_of_its_hours() -> None:
    grid = foreseen(40, 10, 90, 90, 20, 20)
    wish = Hall().wish("acme/red", 1, slack_ms=5 * HOUR, run_ms=2 * HOUR)
    assert begins(grid, wish, 0, 0) == 4 * HOUR


def test_what_is_foreseen_anew_moves_who_waits_but_never_past_its_slack() -> None:
    hall = Hall()
    hall.hear(foreseen(60, 40, 55, 55))
    waits = asked(hall, 3)
    hall.now = HOUR // 2
    hall.hear(foreseen(60, 60, 60, 30, 10, at=hall.now))
    hall.tick(HOUR)
    assert waits.workload in hall.waiting
    assert waits.workload in started(hall.tick(3 * HOUR))


def test_it_begins_as_soon_as_the_grid_turns_out_cleaner_than_was_foreseen() -> None:
    hall = Hall()
    hall.hear(foreseen(60, 60, 40))
    waits = asked(hall, 4)
    hall.now = HOUR // 2
    told = hall.hear(foreseen(30, 30, 40, at=hall.now))
    assert waits.workload in started(told.outcomes)  # type: ignore[union-attr]


def test_one_that_gave_way_has_had_its_wait() -> None:
    hall = Hall(domains=1, nodes=1)
    first = asked(hall, 9, preemptible=True)
    assert isinstance(first, Placed)
    hall.hear(foreseen(60, 60, 20))
    other = hall.placed("acme/red", 4, priority=501, run_ms=HOUR)
    assert first.workload in hall.waiting
    assert first.workload in started(hall.release(other.workload))
