"""What all calls share, and the watch over them: nobody waits for ever, in either direction."""

import asyncio
from typing import Protocol

WATCH_EVERY_S = 0.1


class Watched(Protocol):
    """A call as the watch sees it."""

    def look(self, now: float) -> None:
        """Do what is due at this loop time."""
        ...

    def cut(self, why: str) -> None:
        """End the call now."""
        ...


class Calls:
    """The calls in progress, at most so many."""

    def __init__(self, active_max: int) -> None:
        self.active: set[Watched] = set()
        self._active_max = active_max
        self.closing = False
        self._turn = 0

    def enter(self, call: Watched) -> None:
        """Count a call in."""
        self.active.add(call)

    def leave(self, call: Watched) -> None:
        """Count a call out."""
        self.active.discard(call)

    @property
    def full(self) -> bool:
        """Whether one more would be too many."""
        return len(self.active) >= self._active_max

    def turn(self) -> int:
        """Return a number that rises with each call: replicas that are equal take turns."""
        self._turn += 1
        return self._turn

    async def watch(self) -> None:
        """Have, for ever, each call do what is due: one look for all, not a timer for each chunk."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            self._look(loop.time())

    def _look(self, now: float) -> None:
        for call in list(self.active):
            call.look(now)

    def cut_all(self, why: str) -> None:
        """End every call now."""
        for call in list(self.active):
            call.cut(why)
