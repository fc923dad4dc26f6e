"""Gangs under quota and in the queue: whole when they wait, start, give way, and lose their nodes."""

import msgspec
import pytest
from placement.domain.engine.engine import Engine
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.wish import (
    Advanced,
    Capped,
    Curbed,
    Near,
    NodesLost,
    Placed,
    Preempted,
    Queued,
    Refused,
    Reseated,
    Stranded,
)

from tests.domain.halls import HOUR, Hall, followed, started

pytestmark = pytest.mark.slow

RACK = {"members": 2, "near": Near(level="nvlink", required=True)}


def lose(hall: Hall, *nodes: str) -> tuple[object, ...]:
    outcome = hall.hear(NodesLost(nodes=nodes, at=hall.now))
    assert isinstance(outcome, Advanced)
    return outcome.outcomes


def test_a_gang_counts_whole_against_its_quota() -> None:
    hall = Hall(domains=4)
    hall.quota("acme", gpus=16)
    hall.quota("acme", "red", gpus=16, limit=16)
    hall.placed("acme/red", 4, members=3)
    over = hall.ask("acme/red", 4, members=2)
    assert isinstance(over, Refused)
    assert over.short is not None
    assert (over.short.have, over.short.want) == (4_000, 8_000)
    assert not hall.borrowed(hall.placed("acme/red", 4).workload)


def test_a_gang_waits_whole_for_a_domain_and_is_told_from_when_on_it_has_one() -> None:
    hall = Hall(domains=2)
    first = hall.placed("acme", 4, run_ms=HOUR)
    hall.placed("acme", 4, run_ms=9 * HOUR)
    hall.placed("acme", 4, run_ms=9 * HOUR)
    waits = hall.queued("acme", 4, **RACK)
    assert (waits.position, waits.start) == (1, 9 * HOUR + 60_000)
    assert waits.why is not None
    assert waits.why.together is not None
    assert started(hall.release(first.workload)) == []
    assert hall.waiting == [waits.workload]


def test_a_guaranteed_gang_takes_back_whole_gangs_at_the_least_cost_of_restarts() -> None:
    hall = Hall(domains=4)
    hall.quota("acme", gpus=16)
    hall.quota("acme", "red", gpus=16)
    dear = [hall.placed("beta", 4, preemptible=True, restart_cost=9, **RACK) for _ in range(2)]
    cheap = hall.placed("beta", 4, preemptible=True, restart_cost=5, queue=True, **RACK)
    fresh = hall.placed("beta", 4, preemptible=True, restart_cost=1, min_run_ms=HOUR, **RACK)
    got = hall.placed("acme/red", 4, **RACK)
    assert got.preempted == (cheap.workload,)
    assert set(hall.running) == {got.workload, fresh.workload, *(one.workload for one in dear)}
    assert hall.waiting == [cheap.workload]


def test_who_gave_way_is_told_before_who_starts_and_where_it_waits_after() -> None:
    hall = Hall(domains=1, nodes=1)
    hall.quota("acme", gpus=4)
    hall.quota("acme", "red", gpus=4)
    soft = hall.placed("beta", 4, preemptible=True, queue=True, min_run_ms=HOUR)
    waits = hall.queued("acme/red", 4)
    told = hall.tick(HOUR)
    assert [type(one) for one in told] == [Preempted, Placed, Queued]
    assert [one.workload for one in told] == [soft.workload, waits.workload, soft.workload]
    assert (told[0].by, told[0].queued, told[2].position) == (waits.workload, True, 1)


def test_who_moves_up_stands_there_at_once() -> None:
    hall = Hall(domains=1, nodes=1)
    hall.placed("acme", 4)
    first, second = (hall.queued("acme", 4) for _ in range(2))
    assert second.position == 2
    assert hall.cancel(first.workload) == ()
    stands = hall.engine.turns.standing(second.workload)
    assert stands is not None
    assert stands.position == 1


@pytest.mark.parametrize("queue", [True, False])
def test_an_endpoint_is_answered_at_once_and_never_waits(queue: bool) -> None:
    hall = Hall(domains=1, nodes=1)
    hall.placed("acme", 4)
    assert isinstance(hall.ask("acme", 1, kind="endpoint", queue=queue), Refused)
    hall.queued("acme", 4)
    assert isinstance(hall.ask("acme", 1, kind="endpoint", queue=queue), Refused)
    assert len(hall.waiting) == 1


def test_a_job_that_lost_its_nodes_waits_where_it_stood_and_starts_when_they_return() -> None:
    hall = Hall(domains=1)
    gang = hall.placed("acme", 4, queue=True, **RACK)
    later = hall.queued("acme", 4, **RACK)
    stranded, *_ = lose(hall, "d0n0")
    assert isinstance(stranded, Stranded)
    assert (stranded.workload, stranded.released, stranded.queued) == (gang.workload, True, True)
    assert hall.engine.site.taken.sum() == 0
    assert started(hall.turn("d0n0", closed=False)) == [gang.workload]
    assert hall.waiting == [later.workload]


def test_who_sits_elsewhere_after_a_loss_counts_once_and_takes_nothing_that_is_booked() -> None:
    hall = Hall(domains=4)
    hall.quota("acme", gpus=8)
    hall.quota("acme", "red", gpus=8)
    gang = hall.placed("acme/red", 4, run_ms=HOUR, **RACK)
    held = hall.engine.turns.admission.quota.project("acme", "red").held
    hall.maintain(HOUR // 2, None, domains=("d1", "d2"))
    nodes = {seat.node for seat in gang.seats}
    hall.now = HOUR // 4
    (moved,) = lose(hall, min(nodes))
    assert isinstance(moved, Reseated)
    assert {seat.node[:2] for seat in moved.seats} == {"d3"}
    assert hall.engine.turns.admission.quota.project("acme", "red").held == held
    assert hall.engine.holdings[gang.workload].until == HOUR // 4 + HOUR


def test_a_cap_that_sheds_has_whole_jobs_wait_the_least_valuable_first() -> None:
    hall = Hall(domains=2)
    for node in range(4):
        spec = msgspec.structs.replace(hall.engine.site.specs[node], idle_w=0, gpu_w=100)
        hall.engine.site.put(spec)
    hall.engine.power.rebuild()
    low = hall.placed("acme", 4, priority=-100, queue=True, **RACK)
    high = hall.placed("acme", 4, queue=True, **RACK)
    gave_way, *_ = followed(hall.hear(Capped(level="site", domain="site", watts=900, sheds=True)))
    assert gave_way == Preempted(workload=low.workload, by="the power cap of the site", queued=True)
    assert hall.running == [high.workload]
    assert hall.engine.power.breaches() == []


def test_a_cap_that_sheds_has_a_replica_stop_before_a_dearer_job_and_a_lease_go_on() -> None:
    hall = Hall(domains=3, nodes=1)
    for node in range(3):
        spec = msgspec.structs.replace(hall.engine.site.specs[node], idle_w=0, gpu_w=100)
        hall.engine.site.put(spec)
    hall.engine.power.rebuild()
    replica = hall.placed("acme", 4, kind="endpoint", priority=200)
    dear = hall.placed("acme", 4, priority=300, queue=True)
    hall.placed("acme", 4, kind="lease", priority=0)
    cap = "the power cap of the site"
    told = followed(hall.hear(Capped(level="site", domain="site", watts=800, sheds=True)))
    assert told == (Curbed(workload=replica.workload, by=cap),)
    # Its watts are its own until it has stopped.
    hall.queued("acme", 1)
    assert replica.workload in hall.running
    hall.release(replica.workload)
    assert hall.engine.power.breaches() == []
    lower = followed(hall.hear(Capped(level="site", domain="site", watts=400, sheds=True)))
    assert lower[0] == Preempted(workload=dear.workload, by=cap, queued=True)
    assert len(hall.running) == 1, "a lease is its tenant's to end"


def test_an_engine_restarted_amid_gangs_that_wait_goes_on_the_same() -> None:
    hall = Hall(domains=2)
    first = hall.placed("acme", 4, run_ms=HOUR, **RACK)
    hall.placed("acme", 4, run_ms=2 * HOUR, **RACK)
    hall.queued("acme", 4, **RACK)
    hall.queued("acme", 2, members=4, near=Near(segment=2))
    kept = msgspec.json.decode(msgspec.json.encode(hall.engine.snapshot()), type=Snapshot)
    again = Engine.from_snapshot(kept)
    heard = len(hall.heard)
    hall.release(first.workload)
    hall.tick(HOUR)
    assert [again.apply(given) for given in hall.heard[heard:]] == hall.told[heard:]
    assert again.snapshot() == hall.engine.snapshot()
