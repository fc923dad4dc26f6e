"""Which rule decides among several able replicas; the first that has something to say."""

from collections.abc import Callable
from heapq import nsmallest
from typing import NamedTuple

from mesh_contracts.inference import CONSIDERED_MAX

from inference_gateway.domain.routing.affinity import point
from inference_gateway.domain.routing.ask import Ask, By
from inference_gateway.domain.routing.choice import crowded, lightest, rendezvous, two_choices, warm
from inference_gateway.domain.routing.pool import Pool
from inference_gateway.domain.routing.prefixes import Prefix, PrefixTable
from inference_gateway.domain.routing.replica import State

MATCH_MIN = 0.3
"""The share of a prompt that has to be known for the prefix to decide."""

Decided = tuple[By, list[State]]
"""The rule, and the replicas it compared, the chosen one first."""


class Look(NamedTuple):
    """What a rule looks at: the able replicas, the request, and one chance from 0 to below 1."""

    pool: Pool
    able: list[State]
    ask: Ask
    prefix: Prefix | None
    table: PrefixTable | None
    now: float
    chance: float


Rule = Callable[[Look], Decided | None]


def decide(look: Look) -> Decided:
    """Return which replica is asked, and by which rule."""
    able, ask = look.able, look.ask
    if able[0].breaker.probe_at is not None:
        return "probe", able
    if ask.tried:
        return "retry", two_choices(able, look.now, look.pool.turn, look.chance)
    if len(able) == 1:
        return "only", able
    for rule in RULES:
        decided = rule(look)
        if decided is not None:
            return decided
    return "least_load", two_choices(able, look.now, look.pool.turn, look.chance)


def _session(look: Look) -> Decided | None:
    sticky = look.pool.route.routing.sticky
    kept = look.ask.key_id if sticky == "key" else look.ask.session
    if sticky == "none" or kept is None:
        return None
    return "session", _before(rendezvous(look.able, point(kept)), look)


def _lora(look: Look) -> Decided | None:
    lora = look.ask.lora
    if lora is None or lora not in look.pool.loras:
        return None
    held = warm(look.able, look.pool.warm.of(lora, look.now))
    return ("lora", _before(lightest(held, look.now, look.pool.turn), look)) if held else None


def _prefix(look: Look) -> Decided | None:
    if look.prefix is None or look.table is None or crowded(look.able):
        return None
    seen, share = look.table.longest(look.prefix, [state.id for state in look.able])
    if share < MATCH_MIN:
        return None
    known = [state for state in look.able if state.id in seen]
    return "prefix", _before(lightest(known, look.now, look.pool.turn), look)


def _round_robin(look: Look) -> Decided | None:
    if look.pool.route.routing.by != "round_robin":
        return None
    return "round_robin", _before(look.able[look.pool.turn % len(look.able)], look)


RULES: tuple[Rule, ...] = (_session, _lora, _prefix, _round_robin)


def _before(best: State, look: Look) -> list[State]:
    """Return the chosen replica, then the best of the others by load, as many as an explanation lists."""
    others = [state for state in look.able if state is not best]
    if len(others) >= CONSIDERED_MAX:
        others = nsmallest(CONSIDERED_MAX - 1, others, key=lambda state: state.load(look.now))
    return [best, *others]
