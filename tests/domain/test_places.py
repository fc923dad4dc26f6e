"""Deliveries that a dead reader left behind come before new ones, whatever the server sends first."""

from hypothesis import given
from hypothesis import strategies as st
from meshkit.consumer import Pulled
from meshkit.ears import Fate, Heard
from meshkit.places import SETTLE_WAIT_S, Places


def delivery(place: int, sequence: int, delivered: int = 1) -> Heard:
    ack_to = (
        f"$JS.ACK.IDENTITY.placement_IDENTITY_00.{delivered}.{sequence}.{place}.1795469688231983184.0"
    )
    return Heard(Pulled("identity.x", b"", ack_to.encode(), None), Fate.DROP)


def test_deliveries_without_a_gap_are_handled_as_they_come() -> None:
    places = Places()
    places.expect(7, 0, 0.0)
    assert places.arrived(delivery(8, 100), 0.0)
    assert places.arrived(delivery(9, 101), 0.0)


def test_after_a_gap_everything_waits_and_leaves_in_the_streams_order() -> None:
    places = Places()
    places.expect(7, 0, 0.0)
    assert not places.arrived(delivery(10, 102), 0.0)
    assert not places.arrived(delivery(11, 101, 2), 1.0)
    assert not places.arrived(delivery(12, 100, 2), 2.0)
    assert places.released(SETTLE_WAIT_S - 0.1) == []
    assert [heard.sequence for heard in places.released(SETTLE_WAIT_S)] == [100, 101, 102]
    assert places.arrived(delivery(13, 103), SETTLE_WAIT_S)


def test_what_was_given_back_is_waited_for_and_no_longer() -> None:
    places = Places()
    places.expect(7, 2, 0.0)
    assert not places.arrived(delivery(8, 101, 2), 0.1)
    assert not places.arrived(delivery(9, 102), 0.1)
    assert places.released(0.2) == []
    assert not places.arrived(delivery(10, 100, 2), 0.3)
    assert [heard.sequence for heard in places.released(0.3)] == [100, 101, 102]


def test_a_place_is_settled_only_once_all_before_it_are() -> None:
    places = Places()
    places.expect(0, 0, 0.0)
    heard = [delivery(place, place) for place in (1, 2, 3)]
    for each in heard:
        places.arrived(each, 0.0)
    assert places.settled_with([heard[1]]) == 0
    assert places.settled_with([heard[0]]) == 1
    heard[1].done = True
    assert places.settled_with([heard[0]]) == 2


def test_nothing_counts_as_settled_while_something_may_still_come() -> None:
    places = Places()
    places.expect(7, 0, 0.0)
    late = delivery(10, 102)
    places.arrived(late, 0.0)
    assert places.settled_with([late]) == 7
    late.done = True
    places.settle()
    assert places.settled_with([]) == 7
    places.released(SETTLE_WAIT_S)
    places.settle()
    assert places.settled_with([]) == 10


@given(st.permutations(range(6)), st.integers(0, 6))
def test_in_whatever_order_facts_come_back_they_are_taken_in_the_streams_order(
    order: list[int], new: int
) -> None:
    places = Places()
    places.expect(0, 0, 0.0)
    deliveries = [delivery(10 + at, sequence, 2) for at, sequence in enumerate(order)]
    deliveries += [delivery(20 + at, 10 + at) for at in range(new)]
    taken = [each.sequence for each in deliveries if places.arrived(each, 0.0)]
    taken += [heard.sequence for heard in places.released(SETTLE_WAIT_S)]
    assert taken == sorted(taken)
    assert len(taken) == len(deliveries)
