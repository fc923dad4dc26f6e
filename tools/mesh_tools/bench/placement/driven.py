"""The engine driven as the service drives it: inputs one after the other, each answer timed."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from placement.domain.engine.engine import Engine
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Asked, Expected, NodePut, Placed, Wish

P50, P99 = 0.50, 0.99


class Timed(NamedTuple):
    """What one run of decisions took."""

    placed: int
    rejected: int
    decisions_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def engine_of(specs: Iterable[NodeSpec], mix: Sequence[tuple[Size, int]]) -> Engine:
    """Return an engine that knows these nodes and expects that mix."""
    engine = Engine()
    for spec in specs:
        engine.apply(NodePut(spec=spec))
    engine.apply(Expected(sizes=list(mix)))
    return engine


def asked(number: int, size: Size, **more: Any) -> Asked:
    """Return one wish of that size, as a tenant's."""
    wish = Wish(workload=f"w{number}", organization="o", project="p", kind="job", size=size, **more)
    return Asked(wish=wish, at=number)


def drive(
    engine: Engine, given: Sequence[Asked], note: Callable[[Size, bool], None] = lambda _s, _p: None
) -> Timed:
    """Give each wish to the engine; return what was decided, and how long each took."""
    took: list[int] = []
    placed = 0
    for one in given:
        began = time.perf_counter_ns()
        outcome = engine.apply(one)
        took.append(time.perf_counter_ns() - began)
        done = isinstance(outcome, Placed)
        placed += done
        note(one.wish.size, done)
    return timed(took, placed)


def timed(took: Sequence[int], placed: int) -> Timed:
    """Return the figures of decisions that took so many nanoseconds each."""
    ranked = sorted(took)
    at = [ranked[min(len(ranked) - 1, int(len(ranked) * share))] / 1e6 for share in (P50, P99, 1.0)]
    return Timed(placed, len(took) - placed, len(took) / (sum(took) / 1e9), *at)
