"""What would be decided, and what would break, if something were otherwise: on a copy, which is then discarded."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from placement.domain.engine.engine import Engine
from placement.domain.engine.shed import Shed, shed
from placement.domain.engine.wish import (
    Asked,
    Input,
    NodePut,
    NodeTurned,
    Outcome,
    Released,
    Wish,
)

NODES_MAX = 10_000
"""Nodes that a question may add."""
NEAR = ("nvlink", "rack", "leaf", "pdu", "row")
"""Levels of which nodes that are added make new domains, as many nodes in each as in the one they are like."""


class Displaced(NamedTuple):
    """A workload that would lose its seats, and what it would be told on asking for others."""

    workload: str
    outcome: Outcome


class Answer(NamedTuple):
    """What would be: what each wish would be told, who would be displaced, what would be shed.

    ``engine`` is the copy as it would be then: who wants to say it in words needs its nodes.
    """

    engine: Engine
    decisions: tuple[Outcome, ...]
    displaced: tuple[Displaced, ...]
    shed: Shed


def what_if(
    engine: Engine, changes: Sequence[Input] = (), wishes: Sequence[Wish] = (), *, at: int = 0
) -> Answer:
    """Return what would be decided after ``changes``; the engine that is asked stays as it is.

    Changes apply in order. What draws too much for its caps then ends (``shed``); work on nodes that were
    closed by a change asks for other seats, the highest priority first; then come the wishes. Raises
    ``ValueError`` for what cannot be.
    """
    copy = engine.copy()
    for given in changes:
        copy.apply(given)
    plan = shed(copy)
    for workload in plan.workloads:
        copy.apply(Released(workload=workload, at=at))
    closed = {given.node for given in changes if isinstance(given, NodeTurned) and given.closed}
    displaced = _displaced(copy, closed, at)
    decisions = tuple(copy.apply(Asked(wish=wish, at=at)) for wish in wishes)
    return Answer(copy, decisions, displaced, plan)


def lost(engine: Engine, level: str, domain: str) -> list[Input]:
    """Return what it is to lose all nodes of a domain (a rack, a PDU)."""
    names = [spec.node for spec in engine.site.specs if spec.place.get(level) == domain]
    return [NodeTurned(node=name, closed=True) for name in names]


def more_like(engine: Engine, node: str, nodes: int) -> list[Input]:
    """Return what it is to have so many nodes more that are built like this one, in new racks of its hall.

    Raises ``ValueError`` where there is no such node, or more are asked for than ``NODES_MAX``.
    """
    row = engine.site.row_of.get(node)
    if row is None:
        raise ValueError(f"there is no node {node}")
    if not 0 < nodes <= NODES_MAX:
        raise ValueError(f"{nodes} nodes more: at least 1, at most {NODES_MAX}")
    spec = engine.site.specs[row]
    there = Counter((level, one.place.get(level)) for one in engine.site.specs for level in NEAR)
    found: list[Input] = []
    for number in range(nodes):
        place = {
            level: f"{domain}+{number // there[level, domain] + 1}" if level in NEAR else domain
            for level, domain in spec.place.items()
        }
        found.append(NodePut(spec=replace(spec, node=f"{node}+{number + 1}", place=place)))
    return found


def _displaced(engine: Engine, closed: set[str], at: int) -> tuple[Displaced, ...]:
    """Have all work on closed nodes ask for other seats; return what each is told."""
    rows = np.zeros(engine.site.rows, bool)
    rows[[engine.site.row_of[node] for node in sorted(closed)]] = True
    held = [engine.holdings[workload] for workload in engine.ends.on(rows)]
    held.sort(key=lambda holding: -holding.wish.priority)
    for holding in held:
        engine.apply(Released(workload=holding.wish.workload, at=at))
    return tuple(
        Displaced(holding.wish.workload, engine.apply(Asked(wish=holding.wish, at=at)))
        for holding in held
    )
