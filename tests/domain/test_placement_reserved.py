"""Reservations and maintenance windows while work comes and goes."""

from hypothesis import given, settings
from hypothesis import strategies as st
from placement.domain.engine.calendar import TURNAROUND_MS
from placement.domain.engine.notice import Booked
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Placed

from tests.domain.halls import HOUR, Hall

JOB = TURNAROUND_MS["job"]

Step = tuple[str, int, int, int, bool]
steps = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "ask", "tick", "reserve", "maintain", "release")),
        st.sampled_from((1, 2, 4)),
        st.integers(0, 8),
        st.integers(1, 3),
        st.booleans(),
    ),
    max_size=40,
)


def stop(hall: Hall) -> None:
    """Have all that is over by now end, at the latest when its seats are to be free."""
    for one, held in list(hall.engine.holdings.items()):
        if held.until is not None and held.until <= hall.now:
            hall.release(one)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_a_reservation_is_there_at_its_start_whatever_happened_before(taken: list[Step]) -> None:
    hall = Hall(domains=4, nodes=1)
    kept: dict[str, tuple[int, int, int]] = {}
    windows: list[tuple[int, int, tuple[str, ...]]] = []
    for kind, gpus, hours, members, soft in taken:
        if kind == "ask":
            hall.ask(
                "other",
                gpus,
                members=members,
                run_ms=hours * HOUR,
                preemptible=soft,
                queue=gpus == 4,
            )
        elif kind == "reserve":
            start = hall.now + hours * HOUR
            end = start + 2 * HOUR
            found = hall.reserve("acme", start, end, size=Size(gpus=gpus), members=members)
            if isinstance(found, Booked):
                kept[found.name] = (start, gpus, members)
        elif kind == "maintain":
            start = hall.now + hours * HOUR
            found = hall.maintain(start, start + HOUR, nodes=(f"d{members}n0",))
            assert isinstance(found, Booked)
            if not any(
                one.name in kept for one in hall.engine.turns.admission.calendar.bookings.values()
            ):
                windows.append((start, start + HOUR, found.nodes))
        elif kind == "release" and hall.running:
            hall.release(hall.running[hours % len(hall.running)])
        else:
            hall.now += HOUR // 2
            stop(hall)
            hall.tick(hall.now)
            check_windows(hall, windows)
            check_kept(hall, kept)
    for _ in range(20):
        hall.now += HOUR // 2
        stop(hall)
        hall.tick(hall.now)
        check_kept(hall, kept)


def check_windows(hall: Hall, windows: list[tuple[int, int, tuple[str, ...]]]) -> None:
    for start, end, nodes in windows:
        for held in hall.engine.holdings.values():
            there = {hall.engine.site.specs[part.row].node for part in held.parts}
            if (
                there & set(nodes)
                and held.at < end
                and held.until is not None
                and not held.wish.reservation
            ):
                late = held.until + JOB
                assert late <= start or held.at >= end or held.at <= start


def check_kept(hall: Hall, kept: dict[str, tuple[int, int, int]]) -> None:
    for name, (start, gpus, members) in list(kept.items()):
        booking = hall.engine.turns.admission.calendar.bookings.get(name)
        if booking is None or hall.now < start:
            continue
        del kept[name]
        others = [
            one
            for one in hall.engine.turns.admission.calendar.bookings.values()
            if one.wanted is None and set(one.rows) & set(booking.rows)
        ]
        if others:
            continue  # somebody works on a node of it: that is told when the window is made
        found = hall.ask("acme", gpus, members=members, reservation=name)
        assert isinstance(found, Placed), (found, booking)
        hall.release(found.workload)
