"""MIG instances: what a GPU can be cut into, where one begins best, and that no slice is given twice."""

from itertools import combinations

import msgspec
import pytest
from mesh_contracts import wire
from mesh_contracts.node import Device
from placement.domain.engine.defrag import plan
from placement.domain.engine.engine import Engine
from placement.domain.engine.explain import explain
from placement.domain.engine.mig import (
    GEOMETRIES,
    MASKS,
    NUMBERS,
    Geometry,
    instances_of,
    number_of,
    table,
)
from placement.domain.engine.site import NodeSpec, Part
from placement.domain.engine.size import Size
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.wish import (
    Asked,
    Capped,
    NodePut,
    Placed,
    Refused,
    Released,
    Seat,
)

from tests.domain.placement_sites import ask, node, placed, refused, site, wish

KNOWN = [geometry for geometry in GEOMETRIES if geometry.profiles]
ONE = Size(mig="1g.10gb")
TWO = Size(mig="2g.20gb")
THREE = Size(mig="3g.40gb")
SEVEN = Size(mig="7g.80gb")


def cut(name: str = "n0", gpus: int = 1, **fields: object) -> NodeSpec:
    """Return a node of which all GPUs are in MIG mode."""
    return node(name, **({"gpus": gpus, "mig": tuple(range(gpus))} | fields))


def starts(engine: Engine, size: Size, count: int) -> list[int]:
    """Return at which slice each of so many instances begins."""
    found = []
    for number in range(count):
        [seat] = placed(engine, wish(f"{size.mig}/{number}", size)).seats
        found.append((seat.slices & -seat.slices).bit_length() - 1)
    return found


def packings(geometry: Geometry) -> list[tuple[int, int]]:
    """Return the slices and compute slices that each set of instances takes which fits by memory."""
    places = [
        (one.mask(start), one.compute) for one in geometry.profiles.values() for start in one.starts
    ]
    found = [(0, 0)]
    for mask, compute in places:
        found += [(had | mask, took + compute) for had, took in found if not had & mask]
    return found


@pytest.mark.parametrize("geometry", KNOWN, ids=lambda one: list(one.profiles)[-1])
def test_what_fits_by_memory_slices_never_takes_more_compute_slices_than_there_are(
    geometry: Geometry,
) -> None:
    assert max(compute for _, compute in packings(geometry)) == geometry.compute
    assert max(mask for mask, _ in packings(geometry)) == geometry.full


@pytest.mark.parametrize("geometry", KNOWN, ids=lambda one: list(one.profiles)[-1])
def test_instances_of_one_profile_are_never_in_each_other_s_way(geometry: Geometry) -> None:
    for one in geometry.profiles.values():
        for first, second in combinations(one.starts, 2):
            assert not one.mask(first) & one.mask(second)
        assert one.name.startswith(f"{one.compute}g.")


def test_an_instance_takes_the_start_that_leaves_most_to_others_by_trying_all() -> None:
    for number, geometry in enumerate(GEOMETRIES):
        for one in geometry.profiles.values():
            for free in range(MASKS):
                taken = int(table(one.name).taken[number * MASKS + free])
                able = [one.mask(start) for start in one.starts if one.mask(start) & ~free == 0]
                assert bool(taken) == bool(able and free <= geometry.full)
                if taken:
                    left = [
                        sum(
                            other.memory
                            for other in geometry.profiles.values()
                            for start in other.starts
                            if other.mask(start) & ~(free & ~mask) == 0
                        )
                        for mask in able
                    ]
                    assert taken == able[left.index(max(left))]


def test_models_are_known_by_the_names_that_nvml_gives_them() -> None:
    assert number_of("NVIDIA H100 80GB HBM3") == number_of("NVIDIA A100-SXM4-80GB") > 0
    assert "1g.18gb" in GEOMETRIES[number_of("rehearsal")].profiles
    assert number_of("NVIDIA L40S") == number_of("") == 0
    assert all(number > 0 for number in NUMBERS.values())
    assert instances_of("NVIDIA A30", 0b1) == {"1g.6gb": 3, "2g.12gb": 1, "4g.24gb": 0}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (ONE, [6, 4, 5, 0, 1, 2, 3]),
        (Size(mig="1g.20gb"), [6, 4, 0, 2]),
        (TWO, [4, 0, 2]),
        (THREE, [4, 0]),
        (Size(mig="4g.40gb"), [0]),
        (SEVEN, [0]),
    ],
)
def test_small_instances_leave_the_room_of_large_ones(size: Size, expected: list[int]) -> None:
    engine = site(cut())
    assert starts(engine, size, len(expected)) == expected
    refused(engine, wish("more", size))


def test_an_instance_goes_to_the_gpu_that_is_cut_already_and_leaves_the_other_whole() -> None:
    engine = site(cut("n0", 2), cut("n1", 2))
    seats = [placed(engine, wish(f"w{number}", ONE)).seats[0] for number in range(7)]
    assert {(seat.node, seat.cards) for seat in seats} == {("n0", (0,))}
    for number in range(3):
        placed(engine, wish(f"whole-{number}", SEVEN))
    refused(engine, wish("another", SEVEN))


def test_of_two_gpus_that_are_cut_it_takes_the_one_whose_larger_instances_are_gone_already() -> None:
    engine = site(cut("n0", 2))
    placed(engine, wish("a", THREE))
    placed(engine, wish("b", SEVEN))
    engine.apply(Released(workload="b", at=0))
    [seat] = placed(engine, wish("c", ONE)).seats
    assert (seat.cards, placed(engine, wish("d", SEVEN)).seats[0].cards) == ((0,), (1,))


def test_a_gpu_in_mig_mode_takes_instances_only_and_any_other_takes_none() -> None:
    engine = site(node("n0", gpus=2, mig=(1,)))
    assert placed(engine, wish("share", Size(gpu_milli=500))).seats[0].cards == (0,)
    refused(engine, wish("pair", Size(gpus=2)))
    refused(engine, wish("whole", Size(gpus=1)))
    assert placed(engine, wish("cut", SEVEN)).seats == (Seat("n0", (1,), 0, 255),)
    refused(engine, wish("small", ONE))
    assert placed(engine, wish("other share", Size(gpu_milli=500))).seats[0].cards == (0,)


def test_a_mode_changes_only_where_nobody_holds_the_gpu() -> None:
    engine = site(node("n0", gpus=2, mig=(1,)))
    placed(engine, wish("whole", Size(gpus=1)))
    placed(engine, wish("cut", ONE))
    for mig in ((), (0, 1)):
        with pytest.raises(ValueError, match="drain it first"):
            engine.apply(NodePut(spec=node("n0", gpus=2, mig=mig)))
    engine.apply(Released(workload="cut", at=0))
    engine.apply(NodePut(spec=node("n0", gpus=2)))
    placed(engine, wish("another", Size(gpus=1)))
    refused(engine, wish("cut again", ONE))


def test_an_instance_wakes_its_gpu_and_the_next_on_it_draws_nothing_more() -> None:
    engine = site(cut(gpus=2))
    engine.apply(Capped(level="site", domain="site", watts=500 + 700))
    placed(engine, wish("a", ONE))
    assert engine.power.planned_of("site", "site") == 1_200
    placed(engine, wish("b", ONE))
    outcome = refused(engine, wish("c", SEVEN))
    assert outcome.why.relaxation is not None
    assert outcome.why.relaxation.kind == "mig"
    engine.apply(Released(workload="a", at=0))
    assert engine.power.planned_of("site", "site") == 1_200
    engine.apply(Released(workload="b", at=0))
    assert engine.power.planned_of("site", "site") == 500


def test_members_of_one_job_have_an_instance_each_or_none_has() -> None:
    engine = site(cut("n0"), cut("n1"))
    outcome = placed(engine, wish("job", THREE, members=4))
    assert sorted((seat.node, seat.slices) for seat in outcome.seats) == [
        ("n0", 0b1111),
        ("n0", 0b1111_0000),
        ("n1", 0b1111),
        ("n1", 0b1111_0000),
    ]
    refused(engine, wish("another", ONE, members=2))
    engine.apply(Released(workload="job", at=0))
    before = engine.snapshot()
    assert isinstance(ask(engine, wish("too many", THREE, members=5)), Refused)
    assert engine.snapshot().holdings == before.holdings


def test_who_is_preemptible_gives_its_slices_to_who_may_take_them() -> None:
    engine = site(cut("n0", 2))
    for number in range(14):
        placed(
            engine,
            wish(f"soft-{number}", ONE, preemptible=True, restart_cost=10 + number, priority=0),
        )
    outcome = placed(engine, wish("firm", THREE, priority=900))
    [seat] = outcome.seats
    cheapest = [f"soft-{number}" for number in range(3)]
    assert list(outcome.preempted) == cheapest
    assert seat == Seat("n0", (0,), 0, 0b1111_0000)


def test_a_larger_instance_that_gives_way_makes_room_for_several() -> None:
    engine = site(cut("n0"))
    placed(engine, wish("soft", SEVEN, preemptible=True))
    outcome = placed(engine, wish("firm", TWO, members=3, priority=900))
    assert outcome.preempted == ("soft",)


def test_moves_make_room_for_a_larger_instance() -> None:
    engine = site(cut("n0"), cut("n1"))
    placed(engine, wish("a", Size(mig="4g.40gb"), kind="endpoint", dislike=("n1",)))
    placed(engine, wish("b", ONE, kind="endpoint", dislike=("n0",)))
    refused(engine, wish("whole", SEVEN))
    found = plan(engine, SEVEN)
    assert [(move.workload, move.to) for move in found.moves] == [("a", Seat("n1", (0,), 0, 0b1111))]
    assert (found.before, found.after, found.gain_milli) == (0, 1, 1_000)
    engine.apply(found.moves[0])
    placed(engine, wish("whole", SEVEN))


def test_a_refusal_says_how_many_gpus_have_one_free_and_what_would_admit_it() -> None:
    engine = site(cut("n0", 2), node("n1", gpus=1, model="L40S"))
    placed(engine, wish("a", SEVEN, priority=5))
    placed(engine, wish("b", Size(mig="4g.40gb")))
    wanted = wish("c", SEVEN)
    outcome = refused(engine, wanted)
    told = explain(engine.site, wanted, outcome)
    assert told.reasons[0].code == "no_mig_instance"
    assert told.reasons[1].detail == "it would fit as an instance 3g.40gb"
    assert told.survivors[-1].detail == "0 of 2 GPUs in MIG mode have a free 7g.80gb"
    least = wish("d", ONE)
    placed(engine, wish("e", THREE))
    ends = refused(engine, least)
    assert ends.why.relaxation is not None
    assert (ends.why.relaxation.kind, ends.why.relaxation.names) == ("workload", ("e",))
    engine.apply(NodePut(spec=node("n2", gpus=1)))
    on = refused(engine, least)
    assert on.why.relaxation is not None
    assert (on.why.relaxation.kind, on.why.relaxation.names) == ("mig_mode", ("n2",))


def test_instances_survive_a_snapshot_bit_for_bit() -> None:
    engine = site(cut("n0", 2), node("n1", gpus=2, mig=(0,)))
    for number, size in enumerate((ONE, THREE, TWO, ONE, Size(gpus=1), SEVEN)):
        ask(engine, wish(f"w{number}", size))
    engine.apply(Released(workload="w1", at=0))
    kept = msgspec.json.encode(engine.snapshot())
    again = Engine.from_snapshot(msgspec.json.decode(kept, type=Snapshot))
    assert msgspec.json.encode(again.snapshot()) == kept
    for number, size in enumerate((THREE, ONE, ONE, TWO, SEVEN, Size(gpus=1))):
        given = Asked(wish=wish(f"later-{number}", size), at=1)
        assert again.apply(given) == engine.apply(given)
        assert again.copy().snapshot() == engine.snapshot()


def test_what_was_written_before_there_were_instances_is_read_as_it_was() -> None:
    assert msgspec.json.decode(b"[3,[1,2],1000]", type=Part) == Part(3, (1, 2), 1_000)
    assert msgspec.json.decode(b'["n0",[1],250]', type=Seat) == Seat("n0", (1,), 250)
    old = b'{"device_id":"d","index":0,"model":"m","memory_mib":1,"rehearsal":true}'
    device = wire.decode(old, Device)
    assert not device.mig
    assert wire.encode(device) == old


def test_what_an_older_one_reads_of_what_is_written_now_is_what_it_knows() -> None:
    class OldSeat(msgspec.Struct, frozen=True, array_like=True):
        node: str
        cards: tuple[int, ...]
        milli_each: int

    now = msgspec.json.encode(Seat("n0", (1,), 0, 15))
    assert msgspec.json.decode(now, type=OldSeat) == OldSeat("n0", (1,), 0)


def test_a_site_without_gpus_in_mig_mode_keeps_nothing_of_slices() -> None:
    engine = site(node("n0"), node("n1"))
    assert engine.site.slices.shape[1] == engine.site.copy().mig.shape[1] == 0
    outcome = refused(engine, wish("a", ONE))
    assert outcome.why.relaxation is not None
    assert outcome.why.relaxation.kind == "mig_mode"
    assert isinstance(ask(engine, wish("b", Size(gpus=8))), Placed)
