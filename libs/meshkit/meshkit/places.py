"""Which deliveries are settled, and whether an earlier one may still be on its way.

A reader that dies, or a connection that breaks, leaves deliveries behind which come again only
after the ack wait, while newer ones come at once. The consumer numbers its deliveries without a
gap: where the number is not the one expected, everything waits until what is old has come again,
and is then taken in the stream's order. A reader that stops in order says how many it gave back.
"""

from collections import deque
from collections.abc import Collection
from typing import Final

from meshkit.ears import Heard

SETTLE_WAIT_S: Final = 11.0
"""Past the ack wait (10 s), everything left behind has been delivered again."""


class Places:
    """The order of one consumer's deliveries, as this reader sees it."""

    last: int
    """The newest delivery seen."""
    held_until: float | None
    """Monotonic time until which deliveries are held back, while they are."""

    def __init__(self) -> None:
        self._open: deque[Heard] = deque()
        self._held: list[Heard] = []
        self._owed = 0
        self._settled = 0
        self._done_to = 0
        self.last = 0
        self.held_until = None

    def expect(self, settled: int, given_back: int, now: float) -> None:
        """Begin after ``settled``: all up to there had their effect, but for ``given_back`` that come again."""
        self._settled = self._done_to = self.last = settled
        if given_back:
            self._owed = given_back
            self.held_until = now + SETTLE_WAIT_S

    def arrived(self, heard: Heard, now: float) -> bool:
        """Note a delivery; false where it is held back because an earlier one may still come."""
        if heard.place != self.last + 1:
            # How many were left behind is not known.
            self._owed = 0
            self.held_until = now + SETTLE_WAIT_S
        self.last = heard.place
        self._open.append(heard)
        if self.held_until is None:
            return True
        self._held.append(heard)
        if self._owed and heard.delivered > 1:
            self._owed -= 1
            if not self._owed:
                self.held_until = now
        return False

    def released(self, now: float) -> list[Heard]:
        """Return what was held back, in the stream's order, once everything earlier has come."""
        if self.held_until is None or now < self.held_until:
            return []
        self.held_until = None
        self._owed = 0
        released, self._held = sorted(self._held, key=lambda held: held.sequence), []
        return released

    def settled_with(self, batch: Collection[Heard]) -> int:
        """Return up to which delivery all are settled once ``batch`` is."""
        if self.held_until is not None:
            return self._settled
        now_done = {id(heard) for heard in batch}
        settled = self._done_to
        for heard in self._open:
            if not heard.done and id(heard) not in now_done:
                break
            settled = heard.place
        return settled

    def settle(self) -> None:
        """Forget the deliveries that are done, from the oldest on."""
        while self._open and self._open[0].done:
            self._done_to = self._open.popleft().place
        # While some may still come again, what is known to be settled does not move.
        if self.held_until is None:
            self._settled = self._done_to
