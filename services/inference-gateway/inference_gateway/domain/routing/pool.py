"""The replicas of one endpoint: which may be asked, and which of them keeps up with its peers."""

from statistics import median

from mesh_contracts.placement import EngineKind, Route

from inference_gateway.domain.routing.affinity import Warm
from inference_gateway.domain.routing.replica import (
    PASSED_EJECTED,
    PASSED_FULL,
    PASSED_OPEN,
    PASSED_TRIED,
    SAMPLES_MIN,
    SMOOTH,
    State,
)
from inference_gateway.domain.routing.twice import Twice

ROOM: dict[EngineKind, int] = {"llama": 4, "vllm": 256, "external": 1_024}
"""Requests one replica takes at once where its endpoint does not say: what its engine computes at once."""

PEERS_MIN = 3
OUTLIER = 3.0
OUTLIER_MIN_S = 0.05
"""A replica is ejected whose first byte takes so many times its peers' median, and at least so long."""

JUDGE_EVERY = 5
"""First bytes of a replica after which it is compared with its peers again."""

SILENCE = 5.0
SILENT_MIN_S = 10.0
"""A replica that gives no sign for so many times the slow of its endpoint, and at least so long, gets no more."""

SLOW_FADES = 0.05
"""How fast the slow that was seen is forgotten, with each answer."""

TOOK_SAMPLES_MIN = 4
"""Requests that have ended before anybody is told how long a wait will be."""

Passed = tuple[State, int, str]
"""A replica that was passed over, what it had in flight then, and why."""


class Pool:
    """The states of one endpoint's replicas, in the order of its route."""

    __slots__ = (
        "_known",
        "_slow_s",
        "_took_s",
        "_took_samples",
        "loras",
        "open",
        "patience_s",
        "plain",
        "route",
        "states",
        "turn",
        "twice",
        "usual_s",
        "warm",
    )

    def __init__(self, route: Route) -> None:
        self._known: dict[str, State] = {}
        self.usual_s = 0.0
        self._slow_s = 0.0
        self._took_s = 0.0
        self._took_samples = 0
        self.states: list[State] = []
        self.open = 0
        self.plain = True
        self.loras: frozenset[str] = frozenset()
        self.patience_s = SILENT_MIN_S
        self.turn = 0
        self.twice = Twice()
        self.warm = Warm()
        self.follow(route)

    def follow(self, route: Route) -> None:
        """Hold the replicas of ``route`` from now on; what is known of those that stay, stays.

        A replica that is gone is remembered while it has a request: it may come back in the meantime.
        """
        room = room_of(route)
        self.route = route
        self.states = []
        for replica in route.replicas:
            state = self._known.get(replica.workload_id)
            if state is None:
                state = self._known[replica.workload_id] = State(replica, room)
            state.replica, state.room, state.gone = replica, room, False
            self.states.append(state)
        present = {state.id for state in self.states}
        for state in list(self._known.values()):
            if state.id not in present:
                state.gone = True
                self.let_go(state)
        self.plain = route.routing.by == "least_load" and route.routing.sticky == "none"
        self.loras = frozenset(route.routing.loras)
        self.warm.keep(self.loras, present)
        self.count_open()

    def let_go(self, state: State) -> None:
        """Forget a replica that is gone, once nothing is in flight there."""
        if state.gone and not state.in_flight:
            self._known.pop(state.id, None)

    def known(self, workload_id: str) -> State | None:
        """Return what is known of a replica."""
        return self._known.get(workload_id)

    def under_way(self) -> tuple[int, int]:
        """Return how many requests are at its replicas, those on their way out too, and the tokens they may take."""
        known = self._known.values()
        return sum(one.in_flight for one in known), sum(one.tokens for one in known)

    def count_open(self) -> None:
        """Count the open circuits anew: while there are none nobody looks for a probe that is due."""
        self.open = sum(1 for state in self.states if state.breaker.probe_at is not None)

    def fits(self, state: State, now: float) -> bool:
        """Tell whether a replica is well and has a place."""
        return (
            state.in_flight < state.room
            and state.breaker.probe_at is None
            and state.ejected_until <= now
            and state.busy_until <= now
            and (state.awaiting == 0 or now - state.silent_since <= self.patience_s)
        )

    def able(self, tried: tuple[str, ...], now: float) -> tuple[list[State], list[Passed]]:
        """Return the replicas to choose among, and those passed over with the reason; none fit that is full.

        The well come first; then the slow, then the silent, then those with an open circuit, where the
        ones before have no place: what could be served is not refused. A place that a healthy replica
        will have again is worth more than one at a replica that gives no sign.
        """
        well: list[State] = []
        slow: list[State] = []
        silent: list[State] = []
        shut: list[State] = []
        passed: list[Passed] = []
        crowded = False
        for state in self.states:
            if state.id in tried:
                passed.append((state, state.in_flight, PASSED_TRIED))
                continue
            if self.fits(state, now):
                well.append(state)
                continue
            free = state.free(now) > 0
            if state.breaker.probe_at is not None:
                kind, why = shut, PASSED_OPEN
            elif not free:
                crowded = True
                passed.append((state, state.in_flight, PASSED_FULL))
                continue
            elif state.silent(now, self.patience_s):
                kind, why = silent, PASSED_EJECTED
            else:
                kind, why = slow, PASSED_EJECTED
            passed.append((state, state.in_flight, why))
            if free:
                kind.append(state)
        if well:
            return well, passed
        able = slow or ([] if crowded else silent or _soonest(shut))
        return able, [one for one in passed if one[0] not in able]

    def due(self, now: float) -> State | None:
        """Return a replica whose circuit is open and whose probe is due."""
        for state in self.states:
            if state.breaker.due(now) and state.free(now):
                return state
        return None

    def room(self, now: float) -> int:
        """Return how many requests would find a place now."""
        return sum(state.free(now) for state in self.able((), now)[0])

    def took(self, seconds: float) -> None:
        """Learn how long a request took from its begin to its end."""
        self._took_samples += 1
        step = SMOOTH if self._took_samples > 1 else 1.0
        self._took_s += step * (seconds - self._took_s)

    def waited(self, seconds: float) -> None:
        """Learn how long an answer without fault may be waited for: for its first byte, or all of it.

        Few of many are slow where some answers come whole, so the slow ones are remembered.
        """
        self._slow_s = max(seconds, self._slow_s + SLOW_FADES * (seconds - self._slow_s))
        self.patience_s = max(SILENT_MIN_S, SILENCE * self._slow_s)

    def wait_s(self, position: int) -> float | None:
        """Return how long the ``position``-th in line will wait; nothing while that is unknown.

        Full replicas end as many requests in a second as are in flight, divided by what one takes.
        """
        busy = sum(state.in_flight for state in self.states)
        if not busy or self._took_samples < TOOK_SAMPLES_MIN:
            return None
        return position * self._took_s / busy

    def timed(self, state: State, seconds: float, prompt_tokens: int, now: float) -> None:
        """Learn how long a first byte took, and what that says of the replica."""
        self.usual_s += SMOOTH * (seconds - self.usual_s)
        self.waited(seconds)
        state.timed(seconds, prompt_tokens)
        if state.samples >= SAMPLES_MIN and state.samples % JUDGE_EVERY == 0:
            self._judge(state, now)

    def _judge(self, state: State, now: float) -> None:
        """Eject a replica whose first bytes come much later than its peers'; never more than a third."""
        peers = [
            other.first_byte_s
            for other in self.states
            if other is not state and other.samples >= SAMPLES_MIN
        ]
        if len(peers) + 1 < PEERS_MIN:
            return
        usual = median(peers)
        if state.first_byte_s <= max(OUTLIER * usual, OUTLIER_MIN_S):
            state.absolve()
            return
        out = sum(1 for other in self.states if other.ejected_until > now)
        if out < len(self.states) // 3 and state.ejected_until <= now:
            state.eject(now)


def room_of(route: Route) -> int:
    """Return how many requests one replica of an endpoint takes at once."""
    return route.routing.parallel_max or ROOM[route.engine]


def _soonest(shut: list[State]) -> list[State]:
    """Return the one whose probe is due soonest, before any that is being probed."""
    if not shut:
        return []
    return [min(shut, key=lambda state: (state.breaker.probing, state.breaker.probe_at or 0.0))]
