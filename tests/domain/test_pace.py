"""Transactions of facts: short where facts are dear, few where they are cheap."""

from meshkit.pace import FACTS_LEAST, FACTS_PER_TRANSACTION, HOLD_S, Pace


def settled(cost_s: float, pace: Pace, turns: int = 12) -> int:
    """Return how many go into one transaction once so many of them took so long a fact."""
    for _ in range(turns):
        pace.took(pace.room, pace.room * cost_s)
    return pace.room


def test_facts_that_are_dear_go_in_transactions_that_take_no_longer_than_they_should() -> None:
    assert settled(0.004, Pace()) * 0.004 <= HOLD_S
    assert settled(10.0, Pace()) == FACTS_LEAST


def test_facts_that_are_cheap_go_many_at_once_again() -> None:
    pace = Pace()
    settled(0.1, pace)
    assert settled(0.0001, pace) == FACTS_PER_TRANSACTION


def test_a_few_that_came_alone_tell_nothing_of_how_many_would_fit() -> None:
    pace = Pace()
    dear = settled(0.005, pace)
    pace.took(1, 0.0001)
    assert pace.room == dear
