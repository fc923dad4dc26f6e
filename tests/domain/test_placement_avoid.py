"""Nodes that will not do are taken by nobody who names them, be it one member or many, now or after a move."""

from typing import Any

import pytest
from placement.domain.engine.defrag import plan
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Moved, NodeTurned, Relaxation, Seat

from tests.domain.halls import Hall, started
from tests.domain.placement_sites import node, placed, refused, site, wish

ALL = Size(gpus=8)
AVOIDS: dict[str, Any] = {"avoid": ("n0", "unknown")}


@pytest.mark.parametrize("fields", [{}, {"group": "g"}, {"members": 2}, {"members": 2, "group": "g"}])
def test_a_node_to_avoid_takes_no_member(fields: dict[str, Any]) -> None:
    engine = site(node("n0"), node("n1"))
    found = placed(engine, wish("a", Size(gpus=2), **fields, **AVOIDS))
    assert {seat.node for seat in found.seats} == {"n1"}


def test_a_node_to_avoid_is_told_as_one_that_does_not_take_the_work_and_is_no_way_out() -> None:
    engine = site(node("n0"), node("n1"))
    placed(engine, wish("a", ALL, **AVOIDS))
    end = Relaxation("workload", 1, ("a",))
    for closed in (False, True):
        engine.apply(NodeTurned(node="n0", closed=closed))
        found = refused(engine, wish("b", ALL, **AVOIDS))
        assert (found.why.failed[0], found.why.relaxation) == (1, end)
    engine.apply(NodeTurned(node="n1", closed=True))
    found = refused(engine, wish("b", Size(gpus=4), avoid=("n1",)))
    assert found.why.relaxation == Relaxation("ready", 1, ("n0",))


def test_who_waits_is_not_seated_on_a_node_to_avoid_nor_is_anybody_there_sent_away_for_it() -> None:
    hall = Hall(domains=2, nodes=1)
    low = [hall.placed("acme", 4, preemptible=True).workload for _ in range(2)]
    high = hall.placed("acme", 4, priority=200, avoid=("d0n0",))
    assert high.preempted == (low[1],)
    waits = hall.queued("acme", 4, priority=200, min_run_ms=1, avoid=("d0n0",))
    assert started(hall.release(low[0])) == []
    assert started(hall.release(high.workload)) == [waits.workload]


def test_nobody_moves_to_a_node_it_avoids() -> None:
    engine = site(node("n0"), node("n1"))
    placed(engine, wish("a", Size(gpus=1), kind="endpoint", **AVOIDS))
    placed(engine, wish("b", Size(gpus=1), avoid=("n1",)))
    assert plan(engine, ALL).moves == ()
    with pytest.raises(ValueError, match="does not fit on n0"):
        engine.apply(Moved(workload="a", member=0, to=Seat("n0", (7,), 1_000)))
