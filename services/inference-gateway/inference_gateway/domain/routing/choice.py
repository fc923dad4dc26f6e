"""The rules by which one of several able replicas is chosen; each is a function of what is known."""

from collections.abc import Sequence
from math import ceil

from inference_gateway.domain.routing.affinity import drawn
from inference_gateway.domain.routing.replica import State

IMBALANCE_REQUESTS = 64
IMBALANCE_RATIO = 1.5
"""Above both, the fullest replica against the emptiest, load decides and no longer the prefix."""

ALL_COMPARED_MAX = 8
"""Replicas up to which all are compared."""

LORA_REQUESTS = 8
"""How many more requests than the emptiest replica one may have that holds the adapter."""

BOUNDED = 1.25
"""How far above the mean a session's own replica may be filled before the next in line takes over."""


def pair(count: int, chance: float) -> tuple[int, int]:
    """Return two different places among ``count``, at least two, drawn by one ``chance``."""
    spread = chance * count
    first = int(spread)
    second = int((spread - first) * (count - 1))
    return first, second + (second >= first)


def lightest(states: Sequence[State], now: float, turn: int) -> State:
    """Return the replica with the least load; of equals the next in turn."""
    first = turn % len(states)
    best = states[first]
    least = best.load(now)
    for state in (*states[first + 1 :], *states[:first]):
        load = state.load(now)
        if load < least:
            best, least = state, load
    return best


def two_choices(states: Sequence[State], now: float, turn: int, chance: float) -> list[State]:
    """Return the lightest, then the others it was compared with: of many replicas two that were drawn.

    Always taking the lightest of many would send every gateway's next request to the same one; of a few,
    two draws would leave the emptiest out too often.
    """
    if len(states) > ALL_COMPARED_MAX:
        first, second = pair(len(states), chance)
        states = (states[first], states[second])
    best = lightest(states, now, turn)
    return [best, *(state for state in states if state is not best)]


def rendezvous(states: Sequence[State], place: int) -> State:
    """Return the replica to which a session belongs, unless it is filled far above the mean.

    When a replica comes or goes, only the sessions that belong to it move.
    """
    mean = (sum(state.in_flight for state in states) + 1) / len(states)
    bound = ceil(BOUNDED * mean)
    open_to_it = [state for state in states if state.in_flight < bound] or states
    return max(open_to_it, key=lambda state: drawn(place, state.place))


def crowded(states: Sequence[State]) -> bool:
    """Tell whether the replicas are filled too unequally for anything but load to decide."""
    counts = [state.in_flight for state in states]
    most, least = max(counts), min(counts)
    return most - least > IMBALANCE_REQUESTS and most > IMBALANCE_RATIO * least


def warm(states: Sequence[State], held: set[str]) -> list[State]:
    """Return those that hold an adapter and are not filled much more than the emptiest."""
    least = min(state.in_flight for state in states)
    return [state for state in states if state.id in held and state.in_flight <= least + LORA_REQUESTS]
