"""The line in front of full replicas: who comes when all are full waits, for so long, and not too many."""

import asyncio
from collections.abc import Callable
from math import ceil

from mesh_contracts.placement import Route

from inference_gateway.domain.directory import not_serving
from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.queueing import FairQueue, Ticket
from inference_gateway.domain.refusals import unreachable
from inference_gateway.domain.routing.ask import Ask
from inference_gateway.domain.routing.fleet import Chosen, Fleet

LOOK_EVERY_S = 0.25
"""How often a line looks again by itself: a probe falls due, an ejection ends, and nobody says so."""

WAKE_WAIT_S = 120.0
"""How long a request is held at least for an endpoint that wakes: an engine loads its weights first."""

RETRY_AFTER_MAX_S = 120
"""Clients give up where they are told to wait longer."""

AGAIN_LOOK_MAX = 16
"""Retries in line that are looked at, one after the other, each time a place is free."""


class Waiting:
    """One request in line. ``position`` (from 1) and ``expected_s`` are what it was told when it came.

    Whoever holds it calls ``leave`` in the end, whatever happened: it does nothing once the choice is taken.
    """

    def __init__(self, line: "_Line", ask: Ask) -> None:
        self._line = line
        self.ask = ask
        self.ticket: Ticket | None = None
        self.position = 0
        self.expected_s: float | None = None
        self.answer: asyncio.Future[Chosen | Fault] = line.lines.loop.create_future()
        self._taken = False
        self._timer: asyncio.TimerHandle | None = None

    def expire_after(self, seconds: float) -> None:
        """Wait so long and no longer."""
        self._timer = self._line.lines.loop.call_later(seconds, self._line.expire, self)

    def tell(self, answer: Chosen | Fault) -> None:
        """Answer, once."""
        if self._timer is not None:
            self._timer.cancel()
        self.answer.set_result(answer)

    async def chosen(self, within_s: float | None = None) -> Chosen | Fault | None:
        """Return the replica, begun, or why there is none; nothing where it still waits after ``within_s``."""
        await asyncio.wait({self.answer}, timeout=within_s)
        if not self.answer.done():
            return None
        self._taken = True
        return self.answer.result()

    def leave(self) -> None:
        """Wait no more; a place that was given meanwhile goes to the next."""
        if self._taken:
            return
        self._taken = True
        if not self.answer.done():
            self._line.remove(self)
            self.tell(unavailable("left", "The client left the line."))
        elif isinstance(given := self.answer.result(), Chosen):
            lines = self._line.lines
            lines.fleet.end(given, lines.loop.time(), "left")


class Lines:
    """The lines of all endpoints, and the one way to a replica: whoever is let in has begun there.

    It follows the bucket ``routes`` for the fleet too. ``on_waiting`` is called with an endpoint's id
    each time a request begins to wait there. Times are the running loop's.
    """

    def __init__(
        self,
        fleet: Fleet,
        chance: Callable[[], float],
        on_waiting: Callable[[str], None] | None = None,
    ) -> None:
        self.fleet = fleet
        self.chance = chance
        self.on_waiting = on_waiting
        self.loop = asyncio.get_running_loop()
        self._lines: dict[str, _Line] = {}
        fleet.freed = self._freed

    def put(self, endpoint_id: str, route: Route | None) -> None:
        """Learn a route, or (``None``) forget it: those in line are let in, or told why not."""
        self.fleet.put(endpoint_id, route)
        line = self._lines.get(endpoint_id)
        if line is not None:
            line.follow(route)

    def enter(self, route: Route, ask: Ask) -> Chosen | Fault | Waiting:
        """Return a replica, begun there; or, where all are full, a place in line; or why there is neither.

        A retry (with something ``tried``) does not stand behind those that were not asked for yet.
        """
        line = self._lines.get(route.endpoint_id)
        if line is None or ask.tried or not line.ordered:
            now = self.loop.time()
            chosen = self.fleet.choose(route, ask, now, self.chance())
            if chosen is not None:
                self.fleet.begin(chosen, now)
                return chosen
        # A call that has waited, or was asked elsewhere, holds a route that may be an old one.
        known = self.fleet.route(route.endpoint_id)
        no = unreachable(route.name) if known is None else hopeless(known, ask)
        if no is not None:
            return no
        if line is None:
            line = self._lines[route.endpoint_id] = _Line(self, known or route)
        return line.add(ask)

    async def place(self, route: Route, ask: Ask) -> Chosen | Fault:
        """Return a replica, begun there, once there is one; or why there is none."""
        got = self.enter(route, ask)
        if not isinstance(got, Waiting):
            return got
        try:
            answer = await got.chosen()
        finally:
            got.leave()
        assert answer is not None, "without a time it is answered"
        return answer

    def queued(self, endpoint_id: str) -> int:
        """Return how many wait for an endpoint."""
        line = self._lines.get(endpoint_id)
        return line.count if line is not None else 0

    def waited_for(self) -> list[str]:
        """Return the endpoints that somebody waits for."""
        return list(self._lines)

    def close(self, fault: Fault) -> None:
        """Send everybody away."""
        for line in list(self._lines.values()):
            line.refuse_all(fault)

    def drop(self, line: "_Line") -> None:
        """Forget a line that nobody stands in."""
        if self._lines.get(line.route.endpoint_id) is line:
            del self._lines[line.route.endpoint_id]

    def _freed(self, endpoint_id: str) -> None:
        line = self._lines.get(endpoint_id)
        if line is not None:
            line.pump()


class _Line:
    """One endpoint's line; it is there as long as somebody stands in it."""

    def __init__(self, lines: Lines, route: Route) -> None:
        self.lines = lines
        self.route = route
        self._queue: FairQueue[Waiting] = FairQueue()
        self._again: list[Waiting] = []
        self._look: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """How many stand here."""
        return len(self._queue) + len(self._again)

    @property
    def ordered(self) -> bool:
        """Whether somebody waits who was not asked for anywhere yet: nobody passes those."""
        return len(self._queue) > 0

    def add(self, ask: Ask) -> Waiting | Fault:
        """Return a place at the end, or why there is none."""
        routing = self.route.routing
        if self.count >= routing.queue_max:
            self._settle()
            return self._full()
        waiting = Waiting(self, ask)
        if ask.tried:
            self._again.append(waiting)
            waiting.position = len(self._again)
        else:
            waiting.ticket = self._queue.add(waiting, key=ask.key_id, cost=ask.tokens, tier=ask.tier)
            waiting.position = len(self._again) + (self._queue.position(waiting.ticket) or 0)
        waiting.expected_s = self.lines.fleet.wait_s(self.route.endpoint_id, waiting.position)
        wait_s = routing.queue_wait_ms / 1_000
        waiting.expire_after(wait_s if self.route.replicas else max(wait_s, WAKE_WAIT_S))
        self._settle()
        if self.lines.on_waiting is not None:
            self.lines.on_waiting(self.route.endpoint_id)
        return waiting

    def follow(self, route: Route | None) -> None:
        """Hold the endpoint's new route; those it gives no hope are told so."""
        if route is not None:
            self.route = route
        gone = None if route is not None else unreachable(self.route.name)
        for waiting in [*self._again, *self._queue.items()]:
            no = gone or hopeless(self.route, waiting.ask)
            if no is not None:
                self.remove(waiting)
                waiting.tell(no)
        self.pump()

    def pump(self) -> None:
        """Let in whoever finds a place, in order."""
        fleet, now = self.lines.fleet, self.lines.loop.time()
        for waiting in self._again[:AGAIN_LOOK_MAX]:
            chosen = fleet.choose(self.route, waiting.ask, now, self.lines.chance())
            if chosen is not None:
                self._again.remove(waiting)
                fleet.begin(chosen, now)
                waiting.tell(chosen)
        while len(self._queue):
            waiting = self._queue.first()
            chosen = fleet.choose(self.route, waiting.ask, now, self.lines.chance())
            if chosen is None:
                break
            self._queue.take()
            fleet.begin(chosen, now)
            waiting.tell(chosen)
        self._settle()

    def remove(self, waiting: Waiting) -> None:
        """Let one leave the line."""
        if waiting.ticket is not None:
            self._queue.remove(waiting.ticket)
        elif waiting in self._again:
            self._again.remove(waiting)
        self._settle()

    def expire(self, waiting: Waiting) -> None:
        """Tell one that has waited long enough."""
        self.remove(waiting)
        if not self.route.replicas:
            waiting.tell(not_serving(self.route))
            return
        said = (
            f"Every engine of the model '{self.route.name}' stayed busy for as long as a request waits. "
            "Nothing was charged; try again."
        )
        waiting.tell(unavailable("queue_timeout", said, retry_after_s=self._retry_after_s()))

    def refuse_all(self, fault: Fault) -> None:
        """Send everybody away."""
        for waiting in [*self._again, *self._queue.items()]:
            self.remove(waiting)
            waiting.tell(fault)

    def _full(self) -> Fault:
        said = (
            f"Every engine of the model '{self.route.name}' is busy and {self.count} requests wait already. "
            "Nothing was charged; try again."
        )
        return unavailable("queue_full", said, retry_after_s=self._retry_after_s())

    def _retry_after_s(self) -> int:
        wait_s = self.lines.fleet.wait_s(self.route.endpoint_id, max(self.count, 1)) or 1.0
        return min(max(ceil(wait_s), 1), RETRY_AFTER_MAX_S)

    def _settle(self) -> None:
        """Look again in a while, where somebody waits; else be gone."""
        if self.count:
            if self._look is None:
                self._look = self.lines.loop.call_later(LOOK_EVERY_S, self._look_again)
            return
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self.lines.drop(self)

    def _look_again(self) -> None:
        self._look = None
        self.pump()


def hopeless(route: Route, ask: Ask) -> Fault | None:
    """Return why no place will ever be free, or nothing where it is worth waiting for one."""
    if any(replica.workload_id not in ask.tried for replica in route.replicas):
        return None
    if ask.tried:
        return unreachable(route.name)
    return None if route.wakes else not_serving(route)
