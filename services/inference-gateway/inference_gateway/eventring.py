"""The newest events in memory, once for all readers; older ones are read from the stream by number."""

import asyncio
import contextlib
from collections import deque

from meshkit.bus import Bus, Message, Subscription
from meshkit.errors import Unavailable

from inference_gateway.domain.events import Event, event_of
from inference_gateway.settings import RING_EVENTS

STREAM = "EVENTS"
DOORBELL = "event.>"


class EventRing:
    """Gives the first event after a place. A missed doorbell costs a wait, never an event."""

    def __init__(self, bus: Bus, size: int = RING_EVENTS) -> None:
        self._bus = bus
        self._ring: deque[Event] = deque(maxlen=size)
        self._rung = asyncio.Event()
        self._subscription: Subscription | None = None

    async def run(self) -> None:
        """Listen to the doorbell until cancelled."""
        self._subscription = await self._bus.subscribe(DOORBELL, self._heard)
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(Unavailable):
                await self._subscription.stop()

    async def at(self, sequence: int, *, look: bool = True) -> Event | None:
        """Return the first event of the stream at or after ``sequence``. Raises ``Unavailable``.

        Without ``look`` the number after the newest that was heard of is believed not to be there.
        """
        held = self._held(sequence)
        if held is not None:
            return held
        if not look and self._ring and sequence == self._ring[-1].sequence + 1:
            return None
        while (stored := await self._bus.at(STREAM, sequence)) is not None:
            event = event_of(stored.sequence, stored.data)
            if event is not None:
                return event
            sequence = stored.sequence + 1
        return None

    def bell(self) -> asyncio.Event:
        """Return what will be set when something new is told from now on."""
        return self._rung

    def _held(self, sequence: int) -> Event | None:
        if not self._ring or not self._ring[0].sequence <= sequence <= self._ring[-1].sequence:
            return None
        return self._ring[sequence - self._ring[0].sequence]

    def _heard(self, message: Message) -> None:
        number = message.headers.get("Nats-Sequence", "")
        event = event_of(int(number), message.data) if number.isdigit() else None
        if event is None:
            self._ring.clear()
        else:
            # The ring has no holes: after a loss it starts anew.
            if self._ring and event.sequence != self._ring[-1].sequence + 1:
                self._ring.clear()
            self._ring.append(event)
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()
