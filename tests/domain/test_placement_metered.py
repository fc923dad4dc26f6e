"""What meters and asks say beside the plan: watts beyond it, and the sizes of late."""

from collections import Counter

from placement.domain.engine.size import Size
from placement.domain.engine.wish import Capped, Expected
from placement.domain.metered import beyond
from placement.domain.usual import SIZES_MAX, usual

from tests.domain.placement_sites import node, placed, refused, site, wish

ONE = Size(gpus=1)


def test_watts_beyond_the_plan_are_nobodys_until_they_are_gone() -> None:
    engine = site(node("a"), node("b"))
    engine.apply(Capped(level="pdu", domain="p0", watts=1_000 + 2 * 700))
    (told,) = beyond(engine, {"a": 500 + 800})
    assert (told.level, told.domain, told.watts) == ("pdu", "p0", 1_000 + 800)
    engine.apply(told)
    assert list(beyond(engine, {"a": 500 + 801})) == []  # No more than a meter's tremble.
    refused(engine, wish("w1", ONE))
    (told,) = beyond(engine, {"a": 500})
    engine.apply(told)
    placed(engine, wish("w2", ONE))


def test_who_draws_less_than_planned_makes_no_room_and_uncapped_parts_are_not_measured() -> None:
    engine = site(node("a"))
    assert list(beyond(engine, {"a": 9_000})) == []
    engine.apply(Capped(level="pdu", domain="p0", watts=500 + 700))
    placed(engine, wish("w1", ONE))
    assert list(beyond(engine, {"a": 10, "unknown": 9_000})) == []
    refused(engine, wish("w2", ONE))


def test_an_excess_of_one_node_is_not_hidden_by_the_thrift_of_an_unheard_one() -> None:
    engine = site(node("a"), node("b"))
    engine.apply(Capped(level="pdu", domain="p0", watts=5_000))
    (told,) = beyond(engine, {"a": 900})
    assert told.watts == 2 * 500 + 400


def test_what_was_asked_for_of_late_counts_most_and_what_nobody_asks_for_is_forgotten() -> None:
    whole, half = Size(gpus=8), Size(gpu_milli=500)
    told = usual([(whole, 8), (ONE, 1)], Counter({half: 6}))
    assert told == Expected(sizes=[(half, 6), (whole, 4)])
    many = Counter({Size(gpus=1, cpu_milli=number): 1 for number in range(SIZES_MAX + 9)})
    assert len(usual([], many).sizes) == SIZES_MAX
