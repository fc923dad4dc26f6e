"""Gangs: all members near enough to each other under every cap, or none."""

from itertools import product
from random import Random

import msgspec
import pytest
from mesh_tools.bench.placement.gangs import saturate
from placement.domain.engine.engine import Engine
from placement.domain.engine.seating import Seating, seats_of
from placement.domain.engine.site import Part
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.tenancy import Tenancy
from placement.domain.engine.wish import (
    Asked,
    Capped,
    Maintained,
    Near,
    NodePut,
    NodeTurned,
    Placed,
    Refused,
    Released,
)

from tests.domain.gang_rules import (
    columns,
    seated_nodes,
)
from tests.domain.gang_world import GPU_W, ask, racks, wish

pytestmark = pytest.mark.slow

TRAY = Size(gpus=4)


@pytest.mark.parametrize("broken", [(Tenancy, "enter_all"), (Seating, "_join")])
def test_a_gang_of_which_something_raises_has_no_seat(
    monkeypatch: pytest.MonkeyPatch, broken: tuple[type, str]
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    engine = racks(2, 4)
    ask(engine, wish("there", 3, size=TRAY))
    before = columns(engine)
    monkeypatch.setattr(*broken, fails)
    with pytest.raises(MemoryError):
        ask(engine, wish("new", 3, size=TRAY, group="g", near=Near(level="leaf")))
    monkeypatch.undo()
    assert columns(engine) == before
    assert list(engine.holdings) == ["there"]


def test_seats_that_do_not_fit_are_not_taken_though_some_of_them_would() -> None:
    engine = racks(1, 3)
    ask(engine, wish("there", 1, size=TRAY))
    before = columns(engine)
    parts = tuple(Part(row, (0, 1, 2, 3), 1_000) for row in (1, 2, 0))
    with pytest.raises(AssertionError, match="fits"):
        engine.seating.enter(wish("new", 3, size=TRAY), seats_of(parts))
    assert columns(engine) == before


def test_the_fullest_rack_that_holds_all_is_taken() -> None:
    engine = racks(3, 4)
    ask(engine, wish("a", 1, size=TRAY))
    outcome = ask(engine, wish("b", 3, size=TRAY))
    assert isinstance(outcome, Placed)
    assert [seat.node for seat in outcome.seats] == ["n000-01", "n000-02", "n000-03"]


def test_a_rack_that_has_room_for_a_large_segment_is_kept_for_one() -> None:
    engine = racks(2, 18)
    ask(engine, wish("a", 2, size=TRAY, near=Near(level="rack", required=True)))
    outcome = ask(engine, wish("b", 2, size=TRAY))
    assert isinstance(outcome, Placed)
    assert {seat.node[:4] for seat in outcome.seats} == {"n001"}


def test_what_no_rack_holds_goes_over_as_few_racks_behind_one_leaf_as_will_do() -> None:
    engine = racks(6, 4, leaf=3)
    for rack, tray in product(range(3), range(2)):
        engine.apply(NodeTurned(node=f"n{rack:03}-{tray:02}", closed=True))
    outcome = ask(engine, wish("b", 6, size=TRAY))
    assert isinstance(outcome, Placed)
    assert {seat.node[:4] for seat in outcome.seats} == {"n003", "n004"}
    together = outcome.why.together
    assert together is not None
    assert [(reach.level, reach.holds, reach.most) for reach in together.reach] == [
        ("nvlink", 0, 4),
        ("leaf", 2, 6),
    ]
    assert together.best is not None
    assert (together.best.domain, together.best.islands, together.best.left) == ("l1", 2, 6)
    assert together.second is not None
    assert (together.second.domain, together.second.islands, together.second.left) == ("l0", 3, 0)


def test_a_gang_of_a_few_gpus_sits_on_one_node() -> None:
    engine = racks(2, 4)
    ask(engine, wish("a", size=Size(gpus=2)))
    outcome = ask(engine, wish("b", 2))
    assert isinstance(outcome, Placed)
    assert [seat.node for seat in outcome.seats] == ["n000-00", "n000-00"]
    assert [seat.cards for seat in outcome.seats] == [(2,), (3,)]


def test_members_of_a_segment_follow_each_other_in_one_nvlink_domain_and_the_rest_is_last() -> None:
    engine = racks(3, 5)
    outcome = ask(engine, wish("a", 10, size=TRAY, near=Near(segment=4)))
    assert isinstance(outcome, Placed)
    domains = [seat.node[:4] for seat in outcome.seats]
    assert [len(set(domains[at : at + 4])) for at in (0, 4, 8)] == [1, 1, 1]


def test_a_segment_needs_an_nvlink_domain_that_is_known() -> None:
    engine = racks(3, 1)
    for spec in list(engine.site.specs):
        there = {level: name for level, name in spec.place.items() if level != "nvlink"}
        engine.apply(NodePut(spec=msgspec.structs.replace(spec, place=there)))
    assert isinstance(ask(engine, wish("a", 6, near=Near(segment=2))), Refused)
    assert isinstance(ask(engine, wish("b", 2, near=Near(segment=2))), Refused)
    assert isinstance(ask(engine, wish("c", 6)), Placed)


def test_a_required_level_is_held_where_a_preferred_one_is_widened() -> None:
    engine = racks(4, 2)
    for number, near in enumerate((Near(level="leaf", required=True), Near(level="leaf"))):
        outcome = ask(engine, wish(f"a{number}", 5, size=TRAY, near=near))
        assert isinstance(outcome, Placed) == (not near.required)


def test_caps_hold_for_all_members_together() -> None:
    engine = racks(4, 4, pdu=2)
    tray_w = 4 * GPU_W
    for number in range(2):
        # Each node of both PDUs has watts for itself; together there are watts for three and for five.
        watts = 8 * GPU_W + (3, 5)[number] * tray_w
        engine.apply(Capped(level="pdu", domain=f"p{number}", watts=watts))
    assert isinstance(ask(engine, wish("a", 9, size=TRAY)), Refused)
    outcome = ask(engine, wish("b", 8, size=TRAY))
    assert isinstance(outcome, Placed)
    assert engine.power.breaches() == []
    assert sum(seat.node[:4] in {"n000", "n001"} for seat in outcome.seats) == 3


def test_a_lease_of_a_whole_nvlink_domain_has_it_alone() -> None:
    engine = racks(2, 3)
    ask(engine, wish("a", size=Size(gpus=1), terms=Terms(tenant="x")))
    alone = Terms(tenant="y", isolation="nvlink")
    whole = Near(level="nvlink", required=True)
    lease = wish("b", 3, size=TRAY, near=whole, terms=alone, kind="lease")
    outcome = ask(engine, lease)
    assert isinstance(outcome, Placed)
    assert {seat.node[:4] for seat in outcome.seats} == {"n001"}
    assert isinstance(ask(engine, wish("c", 3, size=TRAY, near=whole, terms=alone)), Refused)
    engine.apply(Released(workload="b", at=1))
    ask(engine, wish("d", 2, size=TRAY, terms=Terms(tenant="y", isolation="node")))
    refused = ask(engine, wish("e", 4, size=TRAY, terms=Terms(tenant="z")))
    assert isinstance(refused, Refused)
    assert refused.why.together is not None
    assert refused.why.together.seats == 3


def test_nodes_that_are_disliked_are_taken_only_where_no_others_hold_all() -> None:
    engine = racks(2, 3)
    dislike = ("n000-00",)
    outcome = ask(engine, wish("a", 3, size=TRAY, dislike=dislike))
    assert isinstance(outcome, Placed)
    assert {seat.node[:4] for seat in outcome.seats} == {"n001"}
    assert isinstance(ask(engine, wish("b", 3, size=TRAY, dislike=dislike)), Placed)


def test_nodes_to_avoid_and_nodes_out_of_service_take_no_member() -> None:
    engine = racks(1, 4)
    engine.apply(NodeTurned(node="n000-01", closed=True))
    outcome = ask(engine, wish("a", 2, size=TRAY, avoid=("n000-00",)))
    assert isinstance(outcome, Placed)
    assert [seat.node for seat in outcome.seats] == ["n000-02", "n000-03"]
    assert outcome.why.failed[0] == 2


def test_nodes_that_are_soon_worked_on_take_no_member() -> None:
    engine = racks(1, 4)
    engine.apply(Maintained(window="m", start=9, end=None, nodes=("n000-01", "n000-03"), at=0))
    assert isinstance(ask(engine, wish("a", 3, size=TRAY)), Refused)
    outcome = ask(engine, wish("b", 2, size=TRAY))
    assert isinstance(outcome, Placed)
    assert [seat.node for seat in outcome.seats] == ["n000-00", "n000-02"]


@pytest.mark.parametrize(("members", "segment"), [(0, 1), (4_097, 1), (2, 0)])
def test_a_gang_of_nobody_or_of_too_many_is_not_asked_for(members: int, segment: int) -> None:
    with pytest.raises(ValueError, match="members"):
        ask(racks(1, 1), wish("a", members, near=Near(segment=segment)))


def test_a_gang_of_as_many_members_as_there_may_be_is_seated() -> None:
    engine = racks(4, 16, gpus=16)
    outcome = ask(engine, wish("a", 4_096, size=Size(gpu_milli=250)))
    assert isinstance(outcome, Placed)
    assert len(outcome.seats) == 4_096
    assert int(engine.site.idle.sum()) == 0


def test_replicas_of_an_endpoint_keep_apart_all_or_none() -> None:
    engine = racks(2, 2)
    outcome = ask(engine, wish("a", 3, group="e"))
    assert isinstance(outcome, Placed)
    assert len(set(seated_nodes(outcome))) == 3
    before = columns(engine)
    assert isinstance(ask(engine, wish("b", 14, group="e")), Refused)
    assert columns(engine) == before


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_inputs_give_the_same_seats_bit_for_bit(seed: int) -> None:
    logs: list[list[bytes]] = []
    for _ in range(2):
        engine, chance = racks(6, 6), Random(seed)
        log = []
        for number in range(60):
            members, segment = chance.randrange(2, 20), chance.choice((1, 2, 4))
            wished = wish(f"w{number}", members, size=TRAY, near=Near(level="leaf", segment=segment))
            log.append(msgspec.msgpack.encode(engine.apply(Asked(wish=wished, at=number))))
            if number == 30:
                engine = Engine.from_snapshot(engine.snapshot()) if logs else engine.copy()
            if number % 3 == 2:
                engine.apply(Released(workload=f"w{number - 2}", at=number))
        logs.append(log)
    assert logs[0] == logs[1]


@pytest.mark.parametrize("seed", [1])
def test_at_saturation_a_hall_is_as_full_within_a_hundredth_as_one_that_knows_no_topology(
    seed: int,
) -> None:
    near, blind = (saturate(12, 800, seed, offered=3.0, blind=one) for one in (False, True))
    said = f"12 racks, 800 gangs, seed {seed}: {near} against {blind}"
    assert near.used_permille >= blind.used_permille - 10, said
    assert near.used_permille > 900
