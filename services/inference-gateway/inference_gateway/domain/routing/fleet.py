"""Which replica is asked next: the state of all replicas as one gateway knows them, and the choice."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
from mesh_contracts.inference import CONSIDERED_MAX, Considered
from mesh_contracts.placement import Replica, Route

from inference_gateway.domain.routing.ask import Ask, By
from inference_gateway.domain.routing.choice import ALL_COMPARED_MAX, pair
from inference_gateway.domain.routing.pool import Passed, Pool
from inference_gateway.domain.routing.prefixes import Prefixes, hashed
from inference_gateway.domain.routing.replica import BUSY_S, State
from inference_gateway.domain.routing.rules import Look, decide
from inference_gateway.domain.routing.signals import Signals

Outcome = Literal["ok", "fault", "left", "busy"]
"""How a request ended for its replica: answered, at fault, given up by the client, refused with 429."""


class Chosen(msgspec.Struct, eq=False, gc=False):
    """A replica to ask, and one request's way there: begun, answered, ended, each once.

    ``probe`` is true where it goes through an open circuit. ``compared`` (with load and requests in flight, the chosen one first) and ``passed`` are what stood then.
    """

    pool: Pool
    by: By
    compared: list[tuple[State, int, int]]
    passed: Sequence[Passed]
    tokens: int
    state: State
    began: float | None = None
    probe: bool = False
    answered: bool = False
    over: bool = False

    @property
    def replica(self) -> Replica:
        """Return the replica to ask."""
        return self.state.replica

    @property
    def considered(self) -> list[Considered]:
        """Return what was compared, as it stood then, the chosen one first; then what was passed over.

        Of a healthy endpoint with many replicas only the two that were drawn are looked at.
        """
        seen = [
            Considered(workload_id=state.id, load=load, in_flight=in_flight)
            for state, load, in_flight in self.compared[:CONSIDERED_MAX]
        ]
        seen += [
            Considered(workload_id=state.id, in_flight=in_flight, passed_over=why)
            for state, in_flight, why in self.passed[: CONSIDERED_MAX - len(seen)]
        ]
        return seen


class Fleet:
    """The replicas of every endpoint, as this gateway knows them.

    A request is chosen for, begun and ended exactly once; ``first_byte`` is heard at most once in between.
    ``now`` is of one clock that never steps back. ``freed`` is called with an endpoint's id when it may
    have a place again.
    """

    def __init__(self, prefixes: Prefixes | None = None) -> None:
        self._pools: dict[str, Pool] = {}
        self._prefixes = prefixes or Prefixes()
        self.freed: Callable[[str], None] | None = None

    def put(self, endpoint_id: str, route: Route | None) -> None:
        """Learn the replicas of an endpoint, or (``None``) forget it."""
        if route is None:
            self._pools.pop(endpoint_id, None)
            self._prefixes.drop(endpoint_id)
            return
        pool = self._pools.get(endpoint_id)
        if pool is None:
            self._pools[endpoint_id] = Pool(route)
        elif pool.route is not route:
            pool.follow(route)
            if route.routing.by == "prefix":
                self._prefixes.of(endpoint_id).keep({one.workload_id for one in route.replicas})
            else:
                self._prefixes.drop(endpoint_id)

    def choose(self, route: Route, ask: Ask, now: float, chance: float) -> Chosen | None:
        """Return the replica to ask; nothing where each was tried or is full. ``chance``: 0 to below 1.

        Of ``route`` only the endpoint counts: its replicas are those last ``put``, whatever a call that
        has waited still holds.
        """
        pool = self._pools.get(route.endpoint_id)
        if pool is None:
            return None
        states = pool.states
        pool.turn += 1
        # Nearly every request is decided here; what follows costs several microseconds.
        if pool.plain and not pool.open and not ask.tried and ask.lora is None:
            if len(states) > ALL_COMPARED_MAX:
                here, there = pair(len(states), chance)
                one, two = states[here], states[there]
                if pool.fits(one, now) and pool.fits(two, now):
                    load, other = one.load(now), two.load(now)
                    compared = [(one, load, one.in_flight), (two, other, two.in_flight)]
                    if other < load:
                        compared.reverse()
                    return Chosen(pool, "least_load", compared, (), ask.tokens, compared[0][0])
            elif len(states) > 1:
                few = _lightest_of(pool, now)
                if few is not None:
                    return Chosen(pool, "least_load", few, (), ask.tokens, few[0][0])
            elif len(states) == 1 and pool.fits(states[0], now):
                state = states[0]
                compared = [(state, state.load(now), state.in_flight)]
                return Chosen(pool, "only", compared, (), ask.tokens, state)
        return self._among(pool, ask, now, chance)

    def begin(self, chosen: Chosen, now: float) -> None:
        """Count a request in: it is sent to the replica that was chosen."""
        assert chosen.began is None, "a request begins once"
        chosen.began = now
        twice = chosen.pool.twice
        if now >= twice.ends:
            twice.turn(now)
        twice.asked += 1
        chosen.probe = chosen.state.begin(chosen.tokens, now)

    def first_byte(self, chosen: Chosen, seconds: float, prompt_tokens: int, now: float) -> None:
        """Learn how long a replica took to begin its answer."""
        if chosen.answered or chosen.over:
            return
        chosen.answered = True
        state, pool = chosen.state, chosen.pool
        state.answered(now)
        pool.timed(state, seconds, prompt_tokens, now)
        if chosen.probe and state.breaker.probe_at is not None:
            # A probe has told what it was sent for; its answer may go on for minutes.
            state.breaker.succeed(probe=True)
            pool.count_open()
            self._free(pool)

    def end(self, chosen: Chosen, now: float, outcome: Outcome) -> None:
        """Count a request out, and learn from how it went."""
        assert chosen.began is not None, "what ends has begun"
        assert not chosen.over, "a request ends once"
        chosen.over = True
        state, pool = chosen.state, chosen.pool
        if not chosen.answered:
            state.answered(now)
        state.end(chosen.tokens)
        if outcome == "fault":
            state.breaker.fail(now, probe=chosen.probe)
        elif outcome == "left" and not chosen.answered:
            state.breaker.forgo(probe=chosen.probe)
        else:
            state.breaker.succeed(probe=chosen.probe)
        if outcome == "ok":
            pool.took(now - chosen.began)
            if not chosen.answered:
                pool.waited(now - chosen.began)
        elif outcome == "busy":
            state.busy_until = now + BUSY_S
        if pool.open or state.breaker.probe_at is not None:
            pool.count_open()
        if state.gone:
            pool.let_go(state)
        self._free(pool)

    def route(self, endpoint_id: str) -> Route | None:
        """Return the route of an endpoint as it was last ``put``."""
        pool = self._pools.get(endpoint_id)
        return pool.route if pool is not None else None

    def capacity(self, route: Route, now: float) -> int:
        """Return how many requests would find a place now."""
        pool = self._pools.get(route.endpoint_id)
        return pool.room(now) if pool is not None else 0

    def heed(self, endpoint_id: str, workload_id: str, signals: Signals, now: float) -> None:
        """Learn what an engine says of its own load."""
        pool = self._pools.get(endpoint_id)
        state = pool.known(workload_id) if pool is not None else None
        if state is not None:
            state.heed(signals, now)

    def in_flight(self, endpoint_id: str) -> tuple[int, int]:
        """Return how many requests are at an endpoint's replicas, and what tokens they may still take."""
        pool = self._pools.get(endpoint_id)
        if pool is None:
            return 0, 0
        return pool.under_way()

    def elsewhere(self, chosen: Chosen, now: float) -> bool:
        """Tell whether another replica of the endpoint is well and has a place."""
        pool = chosen.pool
        return any(one is not chosen.state and pool.fits(one, now) for one in pool.states)

    def hedge(self, chosen: Chosen, now: float) -> bool:
        """Count a hedge beside a late replica; false where there were enough.

        Who gives no sign any more, or was but probed, is not late: from there it is a retry.
        """
        pool = chosen.pool
        if chosen.probe or chosen.state.silent(now, pool.patience_s):
            return pool.twice.retry(now, pool.under_way()[0])
        return pool.twice.hedge(now)

    def retry(self, failed: Chosen, now: float, queued: int) -> bool:
        """Count a retry after a replica's failure; false where there were enough. So many are ``queued``."""
        pool = failed.pool
        return pool.twice.retry(now, pool.under_way()[0] + queued)

    def wait_s(self, endpoint_id: str, position: int) -> float | None:
        """Return how long the ``position``-th in line will wait; nothing while that is unknown."""
        pool = self._pools.get(endpoint_id)
        return pool.wait_s(position) if pool is not None else None

    def usual_s(self, route: Route) -> float:
        """Return how long an endpoint's first byte usually takes; nought while unknown."""
        pool = self._pools.get(route.endpoint_id)
        return pool.usual_s if pool is not None else 0.0

    def _free(self, pool: Pool) -> None:
        if self.freed is not None:
            self.freed(pool.route.endpoint_id)

    def _among(self, pool: Pool, ask: Ask, now: float, chance: float) -> Chosen | None:
        """Choose with all that is known of the replicas, one by one."""
        able, passed = pool.able(ask.tried, now)
        probed = pool.due(now) if pool.open and not ask.tried else None
        if probed is not None:
            able, passed = [probed], [one for one in passed if one[0] is not probed]
        if not able:
            return None
        endpoint_id = pool.route.endpoint_id
        prefix, table = None, None
        if ask.prefix is not None and pool.route.routing.by == "prefix":
            prefix, table = hashed(ask.prefix), self._prefixes.of(endpoint_id)
        by, order = decide(Look(pool, able, ask, prefix, table, now, chance))
        best = order[0]
        if prefix is not None:
            self._prefixes.note(endpoint_id, prefix, best.id)
        if ask.lora is not None and ask.lora in pool.loras:
            pool.warm.note(ask.lora, best.id, now)
        compared = [(state, state.load(now), state.in_flight) for state in order]
        return Chosen(pool, by, compared, passed, ask.tokens, best)


def _lightest_of(pool: Pool, now: float) -> list[tuple[State, int, int]] | None:
    """Return all of a few replicas, the lightest first (of equals the next in turn), where all are well."""
    states = pool.states
    if not all(pool.fits(state, now) for state in states):
        return None
    compared = [(state, state.load(now), state.in_flight) for state in states]
    first = pool.turn % len(compared)
    best = first
    for place in (*range(first + 1, len(compared)), *range(first)):
        if compared[place][1] < compared[best][1]:
            best = place
    compared[0], compared[best] = compared[best], compared[0]
    return compared
