"""Looking in step: one wake for all that look equally often, and no look skipped or doubled."""

import asyncio

import pytest
from meshkit.ticks import next_tick, tick

BEGAN = 100.25


@pytest.mark.parametrize(
    ("every_s", "now", "due"),
    [
        (1.0, 100.25, 101.25),
        (1.0, 100.9, 101.25),
        (2.0, 101.3, 102.25),
        (2.0, 103.3, 104.25),
        (5.0, 100.25, 105.25),
    ],
)
def test_the_next_tick_is_a_whole_number_of_spans_from_the_start(
    every_s: float, now: float, due: float
) -> None:
    assert next_tick(every_s, now, BEGAN) == pytest.approx(due)


def test_a_timer_that_rings_a_little_early_waits_for_the_tick_after() -> None:
    assert next_tick(1.0, 101.249, BEGAN) == pytest.approx(102.25)


def test_a_look_that_takes_longer_than_a_span_goes_on_with_the_next_tick() -> None:
    assert next_tick(1.0, 103.6, BEGAN) == pytest.approx(104.25)


async def test_whatever_looks_equally_often_is_due_in_step() -> None:
    """Begun at moments of their own, they are due at one, or a whole number of spans apart."""
    every_s = 0.05

    async def look(begins_s: float) -> float:
        await asyncio.sleep(begins_s)
        return await tick(every_s)

    due = await asyncio.gather(look(0.0), look(0.013), look(0.031))
    spans = [(one - due[0]) / every_s for one in due]
    assert spans == pytest.approx([round(one) for one in spans], abs=1e-6)
