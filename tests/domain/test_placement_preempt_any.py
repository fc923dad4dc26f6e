"""Preemption plans on any small site: no choice costs less, and nobody in one can be spared."""

from collections.abc import Mapping
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement.domain.engine import preempt
from placement.domain.engine.engine import Engine
from placement.domain.engine.preempt import May, plan
from placement.domain.engine.wish import Asked, Placed, Refused, Released, Wish

from tests.domain.gang_rules import columns
from tests.domain.gang_world import ask, drawn_wish, send_away, site

pytestmark = pytest.mark.slow

SEEDS = st.integers(0, 2**32 - 1)


def at_cost(costs: Mapping[str, int | None]) -> May:
    return lambda holding, _now: costs[holding.wish.workload]


def drawn(seed: int, *, most: int = 5) -> tuple[Engine, Wish, dict[str, int | None]]:
    """Return a site, a wish, and what it costs to preempt each workload that is there."""
    chance = Random(seed)
    engine = site(chance, short=chance.random() < 0.4, before=(2, most))
    costs = {workload: chance.choice((1, 2, 3, 5, 8, None)) for workload in engine.holdings}
    return engine, drawn_wish(chance, "new"), costs


def cheapest(engine: Engine, wished: Wish, costs: Mapping[str, int | None]) -> int | None:
    """Return the least that any choice of workloads costs with whose end the wish has its seats."""
    soft = [workload for workload, cost in costs.items() if cost is not None]
    best: int | None = None
    for size in range(len(soft) + 1):
        for some in combinations(soft, size):
            cost = sum(costs[workload] or 0 for workload in some)
            if best is None or cost < best:
                trial = engine.copy()
                for workload in some:
                    trial.apply(Released(workload=workload, at=0))
                best = cost if isinstance(ask(trial, wished), Placed) else best
    return best


@settings(max_examples=30)
@given(SEEDS)
def test_a_plan_costs_the_least_that_any_choice_costs_and_is_there_if_one_is(seed: int) -> None:
    engine, wished, costs = drawn(seed)
    found = plan(engine, wished, at_cost(costs), 0)
    assert (found.cost if found else None) == cheapest(engine, wished, costs)


@settings(max_examples=30)
@given(SEEDS)
def test_a_plan_is_true_and_nobody_in_it_can_be_spared(seed: int) -> None:
    engine, wished, costs = drawn(seed)
    before = columns(engine)
    found = plan(engine, wished, at_cost(costs), 0)
    assert columns(engine) == before
    if found is None:
        return
    assert sum(costs[workload] or 0 for workload in found.victims) == found.cost
    for spared in (None, *found.victims):
        if spared is not None and costs[spared] == 0:
            continue
        trial = engine.copy()
        for workload in found.victims:
            if workload != spared:
                trial.apply(Released(workload=workload, at=0))
        assert isinstance(ask(trial, wished), Placed) == (spared is None)


@settings(max_examples=30)
@given(SEEDS)
def test_without_looking_at_every_choice_a_plan_is_true_and_spares_whom_it_can(seed: int) -> None:
    engine, wished, costs = drawn(seed)
    exact, preempt.EXACT_MAX = preempt.EXACT_MAX, 0
    try:
        found = plan(engine, wished, at_cost(costs), 0)
    finally:
        preempt.EXACT_MAX = exact
    least = cheapest(engine, wished, costs)
    assert (found is None) == (least is None)
    if found is not None:
        assert least is not None
        assert found.cost >= least
        for spared in found.victims:
            others = tuple(workload for workload in found.victims if workload != spared)
            trial = engine.copy()
            send_away(trial, others)
            outcome = trial.apply(Asked(wish=wished, at=0))
            assert isinstance(outcome, Refused)
        send_away(engine, found.victims)
        outcome = engine.apply(Asked(wish=wished, at=0))
        assert isinstance(outcome, Placed)
        assert not engine.holdings.keys() & set(found.victims)
