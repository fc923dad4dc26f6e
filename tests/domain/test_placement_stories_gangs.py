"""Gangs as users of other schedulers found them broken: what is idle is found, and nobody sits in part.

Told after kai-scheduler/KAI-Scheduler 577 and 1217, NVIDIA/nvcf 598, kubernetes-sigs/kueue 4329, 5243 and 5621.
"""

from random import Random

import pytest
from placement.domain.engine.engine import Engine
from placement.domain.engine.notice import Queued, Reseated
from placement.domain.engine.size import Size
from placement.domain.engine.wish import (
    Advanced,
    Near,
    NodesLost,
    NodeTurned,
    Outcome,
    Placed,
    Refused,
    Relaxation,
)

from tests.domain.gang_rules import columns
from tests.domain.gang_world import ask, racks, send_away, wish
from tests.domain.halls import Hall, started

TRAY = Size(gpus=4)
TOGETHER = Near(level="nvlink", required=True)


def racks_of(outcome: Outcome) -> list[str]:
    """Return the racks in which a workload has its seats."""
    assert isinstance(outcome, Placed)
    return sorted({seat.node[:4] for seat in outcome.seats})


def idle_trays(engine: Engine, rack: str) -> int:
    """Return how many trays of a rack are in service with nothing on them."""
    site = engine.site
    rows = [row for node, row in site.row_of.items() if node.startswith(rack)]
    return sum(not site.closed[row] and not site.taken[row] for row in rows)


def something_happens(engine: Engine, chance: Random, number: int) -> None:
    """Have somebody come, somebody leave, or a tray go out of service or return."""
    trays, draw = list(engine.site.row_of), chance.random()
    if draw < 0.45:
        fields = {"size": chance.choice((TRAY, Size(gpus=1))), "elastic": True}
        ask(engine, wish(f"w{number}", chance.choice((1, 2, 6, 12)), **fields), at=number)
    elif draw < 0.8 and engine.holdings:
        send_away(engine, [chance.choice(list(engine.holdings))], at=number)
    elif draw < 0.9:
        engine.apply(NodeTurned(node=chance.choice(trays), closed=chance.random() < 0.3))
    else:
        engine.apply(NodesLost(nodes=(chance.choice(trays),), at=number))


def test_an_idle_rack_takes_a_gang_whatever_came_and_went_before() -> None:
    # It did so again only once the scheduler was restarted (KAI 1217).
    engine, chance, seen = racks(4, 18), Random(1217), set()
    gang = wish("gang", 16, size=TRAY, near=TOGETHER)
    for number in range(100):
        something_happens(engine, chance, number)
        there = any(idle_trays(engine, f"n{rack:03}") >= 16 for rack in range(4))
        assert isinstance(engine.would(gang), Placed) == there, number
        seen.add(there)
        if number % 50 == 49:
            assert Engine.from_snapshot(engine.snapshot()).would(gang) == engine.would(gang)
    assert seen == {True, False}


@pytest.mark.parametrize("members", range(15, 19))
def test_a_gang_of_nearly_a_whole_rack_has_it(members: int) -> None:
    # 17 of 18 trays, all idle: seats were found for five (KAI 577).
    engine = racks(3, 18)
    ask(engine, wish("other", 10, size=TRAY, near=TOGETHER))
    gang = wish("gang", members, size=TRAY, near=TOGETHER)
    assert len(racks_of(ask(engine, gang))) == 1
    assert len(engine.holdings["gang"].parts) == members


def test_a_gang_that_one_tray_out_of_service_keeps_out_is_told_that_one_member_fewer_fits() -> None:
    engine = racks(1, 18)
    for tray in ("n000-03", "n000-11"):
        engine.apply(NodeTurned(node=tray, closed=True))
    found = ask(engine, wish("gang", 17, size=TRAY, near=TOGETHER))
    assert isinstance(found, Refused)
    assert found.why.relaxation == Relaxation("members", 1)
    assert racks_of(ask(engine, wish("gang", 16, size=TRAY, near=TOGETHER))) == ["n000"]


def test_a_gang_is_not_begun_in_a_fuller_domain_that_does_not_hold_all_of_it() -> None:
    # The first member was bound to the fullest clique, the next found no room there (nvcf 598).
    engine = racks(2, 4)
    ask(engine, wish("there", 2, size=TRAY))
    pair = wish("pair", 3, size=TRAY, near=TOGETHER)
    assert racks_of(ask(engine, pair)) == ["n001"]
    before = columns(engine)
    assert isinstance(ask(engine, wish("next", 3, size=TRAY, near=TOGETHER)), Refused)
    assert columns(engine) == before


def test_what_quota_allows_and_no_domain_holds_takes_nothing_and_keeps_nobody_waiting() -> None:
    # Admitted by the sum of quota, it was never seated, and all behind it waited (Kueue 4329, 5243).
    hall = Hall(domains=4)
    hall.quota("acme", gpus=32)
    hall.quota("acme", "red", gpus=32)
    there = []
    for domain in range(4):
        others = tuple(node for node in hall.engine.site.row_of if not node.startswith(f"d{domain}"))
        there.append(hall.placed("acme/red", 4, avoid=others).workload)
    project, site = hall.engine.turns.admission.quota.project("acme", "red"), hall.engine.site
    before = project.held, int(site.taken.sum())
    gang = hall.queued("acme/red", 4, members=2, near=TOGETHER)
    assert (project.held, int(site.taken.sum())) == before == (16_000, 16)
    behind = hall.ask("acme/red", 4, queue=True)
    assert isinstance(behind, Placed)
    hall.release(behind.workload)
    assert started(hall.release(there[2])) == [gang.workload]
    assert {seat.node[:2] for seat in hall.engine.seats(hall.engine.holdings[gang.workload].parts)} == {
        "d2"
    }
    assert not isinstance(hall.ask("acme/red", 4, queue=True), Queued)


@pytest.mark.parametrize("lost", [("n000-01", "n001-02"), ("n000-01", "n000-02")])
@pytest.mark.parametrize("at_once", [True, False])
def test_several_trays_are_replaced_while_all_other_members_stay(
    lost: tuple[str, str], at_once: bool
) -> None:
    # A second failure had the whole workload evicted (Kueue 5621).
    engine = racks(2, 6)
    assert isinstance(ask(engine, wish("a", 8, size=TRAY, elastic=True)), Placed)
    before = engine.seats(engine.holdings["a"].parts)
    gone: set[int] = set()
    for nodes in (lost,) if at_once else ((lost[0],), (lost[1],)):
        outcome = engine.apply(NodesLost(nodes=nodes, at=5))
        assert isinstance(outcome, Advanced)
        (found,) = outcome.outcomes
        assert isinstance(found, Reseated)
        gone |= set(found.members)
    after = engine.seats(engine.holdings["a"].parts)
    assert gone == {number for number, seat in enumerate(before) if seat.node in lost}
    assert [seat for number, seat in enumerate(after) if number not in gone] == [
        seat for number, seat in enumerate(before) if number not in gone
    ]
    assert len({seat.node for seat in after} - set(lost)) == 8
