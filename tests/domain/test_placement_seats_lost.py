"""Some members of a gang are lost: they alone sit elsewhere, or the gang gives up all its seats and waits."""

from random import Random
from typing import Any

import msgspec
import pytest
from placement.domain.engine.engine import Engine
from placement.domain.engine.redo import Decided, have
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.wish import (
    Advanced,
    Capped,
    Near,
    NodeTurned,
    Placed,
    Queued,
    Reseated,
    SeatsLost,
    Stranded,
    Wish,
)

from tests.domain.gang_rules import columns
from tests.domain.gang_world import ask, racks, wish
from tests.domain.halls import HOUR, Hall

TRAY = Size(gpus=4)


def gang(name: str = "a", members: int = 4, **fields: Any) -> Wish:
    return wish(name, members, **{"size": TRAY, "elastic": True, "queue": True, **fields})


def lose(engine: Engine, *members: int, workload: str = "a", at: int = 5) -> tuple[Any, ...]:
    outcome = engine.apply(SeatsLost(workload=workload, members=members, at=at))
    assert isinstance(outcome, Advanced)
    return outcome.outcomes


def nodes(engine: Engine, workload: str = "a") -> list[str]:
    return [seat.node for seat in engine.seats(engine.holdings[workload].parts)]


def test_only_the_lost_member_sits_elsewhere_and_the_others_go_on_since_when_they_did() -> None:
    engine = racks(2, 4)
    ask(engine, gang(members=3), at=1)
    before = nodes(engine)
    (found,) = lose(engine, 1)
    assert isinstance(found, Reseated)
    assert found.members == (1,)
    assert nodes(engine) == [before[0], "n000-03", before[2]]
    assert [seat.node for seat in found.seats] == nodes(engine)
    assert engine.holdings["a"].at == 1
    assert int(engine.site.taken.sum()) == 12
    assert engine.site.free[engine.site.row_of[before[1]]].sum() == 4_000


def test_a_node_that_is_closed_takes_no_lost_member_and_its_own_only_where_no_other_does() -> None:
    engine = racks(1, 4)
    ask(engine, gang(members=3))
    spare = ({"n000-00", "n000-01", "n000-02", "n000-03"} - set(nodes(engine))).pop()
    engine.apply(NodeTurned(node=spare, closed=True))
    before = nodes(engine)
    (found,) = lose(engine, 2)
    assert isinstance(found, Reseated)
    assert nodes(engine) == before, "its node is open: it begins anew there"
    engine.apply(NodeTurned(node=before[2], closed=True))
    gone, *_ = lose(engine, 2)
    assert isinstance(gone, Stranded)
    assert (gone.released, gone.queued) == (True, True)
    assert gone.why.failed
    assert engine.holdings == {}
    assert int(engine.site.taken.sum()) == 0
    assert list(engine.turns.queue.entries) == ["a"]


def test_of_two_lost_members_none_is_seated_where_one_has_no_room() -> None:
    engine = racks(1, 5)
    ask(engine, gang(members=4))
    for node in nodes(engine)[:2]:
        engine.apply(NodeTurned(node=node, closed=True))
    found, *_ = lose(engine, 0, 1)
    assert isinstance(found, Stranded)
    assert int(engine.site.taken.sum()) == 0


def test_a_gang_that_cannot_be_mended_where_it_must_be_near_begins_whole_elsewhere_at_once() -> None:
    engine = racks(2, 4)
    ask(engine, gang(members=4, near=Near(level="nvlink", required=True)))
    home = nodes(engine)
    engine.apply(NodeTurned(node=home[0], closed=True))
    stranded, placed = lose(engine, 0)
    assert isinstance(stranded, Stranded)
    assert isinstance(placed, Placed)
    assert not {node[:4] for node in nodes(engine)} & {node[:4] for node in home}
    assert engine.holdings["a"].at == 5


def test_a_lost_member_of_a_segment_stays_in_its_domain_or_strands_the_gang() -> None:
    engine = racks(3, 4)
    ask(engine, gang(members=6, near=Near(segment=3)))
    (found,) = lose(engine, 3)
    assert isinstance(found, Reseated)
    assert nodes(engine)[3] == "n001-03"
    for node in ("n001-00", "n001-03"):
        engine.apply(NodeTurned(node=node, closed=True))
    found, *_ = lose(engine, 3)
    assert isinstance(found, Stranded)


def test_whose_seats_are_kept_for_others_are_not_taken() -> None:
    hall = Hall(domains=2, nodes=2)
    gang = hall.placed("acme", 4, members=2, elastic=True, preemptible=False, queue=True)
    hall.placed("acme", 4)
    hall.reserve("beta", HOUR, 2 * HOUR, nodes=(free_of(hall),))
    seat = gang.seats[0].node
    hall.hear(NodeTurned(node=seat, closed=True))
    found, *_ = hall.hear(SeatsLost(workload=gang.workload, members=(0,), at=hall.now)).outcomes
    assert isinstance(found, Stranded), "the only free node is booked"


def free_of(hall: Hall) -> str:
    site = hall.engine.site
    (node,) = (node for node, row in site.row_of.items() if site.free[row].sum() == 4_000)
    return node


@pytest.mark.parametrize(("isolation", "kind"), [("", Reseated), ("node", Stranded)])
def test_who_is_alone_on_its_nodes_is_not_seated_beside_another_tenant(
    isolation: Any, kind: Any
) -> None:
    engine = racks(1, 3)
    ask(engine, gang(members=2, size=Size(gpus=3), terms=Terms(tenant="ada", isolation=isolation)))
    (spare,) = {"n000-00", "n000-01", "n000-02"} - set(nodes(engine))
    ask(engine, wish("b", terms=Terms(tenant="bob"), avoid=tuple(nodes(engine))))
    assert nodes(engine, "b") == [spare]
    engine.apply(NodeTurned(node=nodes(engine)[1], closed=True))
    found, *_ = lose(engine, 1)
    assert isinstance(found, kind)


def test_watts_under_a_cap_are_counted_for_the_new_seat_and_not_for_the_old() -> None:
    engine = racks(2, 4)
    ask(engine, gang(members=4))
    engine.apply(Capped(level="site", domain="site", watts=int(engine.power.planned["site"][0])))
    (found,) = lose(engine, 0)
    assert isinstance(found, Reseated)
    assert engine.power.breaches() == []


@pytest.mark.parametrize(
    ("workload", "members"),
    [("a", ()), ("a", (4,)), ("a", (-1,)), ("a", (0, 1, 2, 3)), ("b", (0,)), ("nobody", (0,))],
)
def test_what_cannot_be_lost_changes_nothing(workload: str, members: tuple[int, ...]) -> None:
    engine = racks(2, 4)
    ask(engine, gang())
    ask(engine, wish("b", 2, size=TRAY))
    before = columns(engine), dict(engine.holdings), engine.turns.now
    with pytest.raises(ValueError, match=workload):
        engine.apply(SeatsLost(workload=workload, members=members, at=9))
    assert (columns(engine), dict(engine.holdings), engine.turns.now) == before


def test_who_waits_gets_the_seats_of_a_gang_that_gave_up_its_own() -> None:
    engine = racks(1, 4)
    ask(engine, gang())
    assert isinstance(ask(engine, gang("b", 3), at=1), Queued)
    engine.apply(NodeTurned(node=nodes(engine)[0], closed=True))
    outcomes = lose(engine, 0)
    assert [type(one) for one in outcomes[:2]] == [Stranded, Placed]
    assert list(engine.holdings) == ["b"]
    assert list(engine.turns.queue.entries) == ["a"]


@pytest.mark.parametrize("seed", range(6))
def test_lost_seats_are_replayed_restarted_and_had_again_bit_for_bit(seed: int) -> None:
    chance, engine, other, again = Random(seed), racks(4, 4), racks(4, 4), racks(4, 4)
    kinds = set()
    for number in range(4):
        near = chance.choice((Near(), Near(level="leaf", required=True), Near(segment=2)))
        given = gang(f"w{number}", chance.choice((2, 4)), near=near)
        for one in (engine, other, again):
            ask(one, given, at=number)
    for at in range(10, 60):
        if chance.random() < 0.5:
            node = f"n{chance.randrange(4):03}-{chance.randrange(4):02}"
            given = NodeTurned(node=node, closed=chance.random() < 0.5)
        else:
            given = SeatsLost(workload=f"w{chance.randrange(4)}", members=(chance.randrange(2),), at=at)
        try:
            mine = engine.apply(given)
        except ValueError:
            continue
        kinds |= {type(one) for one in getattr(mine, "outcomes", ())}
        assert msgspec.msgpack.encode(other.apply(given)) == msgspec.msgpack.encode(mine)
        have(again, Decided(given, mine))
        assert columns(engine) == columns(other) == columns(again)
        assert {name: one[:4] for name, one in again.holdings.items()} == {
            name: one[:4] for name, one in engine.holdings.items()
        }
        if at % 10 == 0:
            written = msgspec.msgpack.encode(engine.snapshot())
            other = Engine.from_snapshot(msgspec.msgpack.decode(written, type=Snapshot))
    assert Reseated in kinds


def test_what_was_decided_of_lost_seats_is_had_again_by_who_would_decide_otherwise() -> None:
    engine, other = racks(2, 4), racks(2, 4)
    for one in (engine, other):
        ask(one, gang(members=3))
    given = SeatsLost(workload="a", members=(1,), at=7)
    outcome = engine.apply(given)
    for node in other.site.row_of:
        other.apply(NodeTurned(node=node, closed=True))
    have(other, Decided(given, outcome))
    assert nodes(other) == nodes(engine)
    assert (other.turns.now, other.holdings["a"]) == (7, engine.holdings["a"])
