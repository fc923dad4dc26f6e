"""Halls as users of other schedulers found them: scattered, in pieces, and blind to what they draw.

Told after kubernetes-sigs/kueue 10406, ray-project/ray 35422 and kai-scheduler/KAI-Scheduler 1717.
"""

from itertools import product
from random import Random
from typing import Any

import pytest
from placement.domain.engine.engine import Engine
from placement.domain.engine.mix import ONE
from placement.domain.engine.prefer import watt_costs
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size
from placement.domain.engine.wish import (
    Near,
    NodePut,
    Placed,
    Released,
    Weighed,
    Wish,
)

from tests.domain.gang_world import ask, send_away
from tests.domain.gang_world import wish as gang
from tests.domain.placement_sites import node, placed, site, wish

TRAYS = 18
ORDERS = ("by rack", "by tray", "at random")


def hall(racks: int, order: str) -> Engine:
    """Return racks of 18 trays that are an NVLink domain each, whose trays joined in some order."""
    engine = Engine()
    trays = list(product(range(racks), range(TRAYS)))
    if order == "by tray":
        trays.sort(key=lambda one: one[1])
    elif order == "at random":
        Random(33).shuffle(trays)
    for rack, tray in trays:
        spec = NodeSpec(
            node=f"r{rack:02}-{tray:02}",
            gpus=4,
            cpu_milli=144_000,
            place={"rack": f"r{rack}", "nvlink": f"v{rack}"},
        )
        engine.apply(NodePut(spec=spec))
    return engine


def racks_in_use(engine: Engine) -> set[str]:
    return {
        engine.site.specs[part.row].place["rack"]
        for holding in engine.holdings.values()
        for part in holding.parts
    }


def single(number: int, **fields: Any) -> Wish:
    return gang(f"w{number}", kind="endpoint", **fields)


@pytest.mark.parametrize("order", ORDERS)
def test_single_gpus_leave_racks_whole_in_whichever_order_trays_joined(order: str) -> None:
    # 33 of them lay in 33 racks, and none was left for a gang (Kueue 10406).
    engine = hall(10, order)
    for number in range(33):
        ask(engine, single(number))
    assert len(racks_in_use(engine)) == 1
    rack: dict[str, Any] = {"size": Size(gpus=4), "near": Near(level="nvlink", required=True)}
    for number in range(9):
        assert isinstance(ask(engine, gang(f"gang{number}", TRAYS, **rack)), Placed)


@pytest.mark.parametrize("order", ORDERS)
def test_replicas_that_keep_apart_on_nodes_are_not_scattered_over_racks(order: str) -> None:
    engine = hall(10, order)
    for number in range(33):
        ask(engine, single(number, group="e"))
    assert len({part.row for one in engine.holdings.values() for part in one.parts}) == 33
    assert len(racks_in_use(engine)) == 2


def test_replicas_that_keep_apart_in_racks_are_in_a_rack_each() -> None:
    engine = hall(10, "by rack")
    for number in range(10):
        ask(engine, single(number, group="e", apart="rack"))
    assert len(racks_in_use(engine)) == 10


@pytest.mark.parametrize("order", ORDERS)
def test_of_racks_that_are_in_use_the_fuller_is_filled_first_also_after_some_have_left(
    order: str,
) -> None:
    engine = hall(3, order)
    for name, rack, members in (("few", "r00", 4), ("many", "r01", 12)):
        others = tuple(node for node in engine.site.row_of if not node.startswith(rack))
        ask(engine, gang(name, members, size=Size(gpus=4), avoid=others))
    for number, rack in ((1, "r1"), (2, "r0")):
        outcome = ask(engine, single(number, size=Size(gpus=4)))
        assert isinstance(outcome, Placed)
        assert engine.site.specs[engine.site.row_of[outcome.seats[0].node]].place["rack"] == rack
        send_away(engine, ["many"])
    anew = Engine.from_snapshot(engine.snapshot())
    assert anew.would(single(3)) == engine.would(single(3))


def test_small_work_leaves_whole_nodes_for_large_work() -> None:
    # There was enough in all, and nowhere enough on one node (Ray 35422).
    engine, chance = site(*(node(f"n{number}") for number in range(12))), Random(35)
    living: list[str] = []
    for number in range(200):
        if len(living) < 40:
            placed(engine, wish(f"w{number}", Size(gpus=1)))
            living.append(f"w{number}")
        else:
            engine.apply(Released(workload=living.pop(chance.randrange(40)), at=number))
    assert int((engine.site.whole[:12] == 8).sum()) == (12 * 8 - len(living)) // 8 == 7


def test_work_without_gpus_leaves_nodes_with_idle_ones_alone_while_there_are_others() -> None:
    engine = site(node("n0"), node("n1"), node("plain", gpus=0, cpu_milli=16_000))
    cpu = Size(cpu_milli=4_000)
    nodes = [placed(engine, wish(f"w{number}", cpu)).seats[0].node for number in range(5)]
    assert nodes[:4] == ["plain"] * 4
    assert nodes[4] == "n0"


@pytest.mark.parametrize(("watt", "taken"), [(0, "dear"), (1, "thrifty"), (100, "thrifty")])
def test_what_a_watt_costs_weighs_in_where_work_goes(watt: int, taken: str) -> None:
    # A signal of what power costs was wished for, and the wish was closed (KAI 1717).
    engine = site(node("dear", gpu_w=700), node("thrifty", gpu_w=300))
    engine.apply(Weighed(watt=watt))
    outcome = placed(engine, wish("a", Size(gpus=1)))
    assert outcome.seats[0].node == taken
    assert outcome.why.best is not None
    assert (outcome.why.best.power > 0) == (watt > 0)


def test_no_whole_node_is_broken_into_for_the_sake_of_watts() -> None:
    engine = site(node("dear", gpu_w=700), node("thrifty", gpu_w=300))
    placed(engine, wish("a", Size(gpus=1), avoid=("thrifty",)))
    engine.apply(Weighed(watt=10_000))
    assert placed(engine, wish("b", Size(gpus=1))).seats[0].node == "dear"


@pytest.mark.parametrize(("used", "percent"), [(7, 6), (8, 100), (48, 100), (49, 0), (80, 0)])
def test_watts_count_while_some_of_the_site_is_in_use_and_some_is_free(used: int, percent: int) -> None:
    engine = site(*(node(f"n{number}", gpu_w=500) for number in range(10)))
    engine.apply(Weighed(watt=1_000))
    for number in range(used):
        placed(engine, wish(f"w{number}", Size(gpus=1)))
    assert watt_costs(engine.site, engine.watt_weight) == ONE * percent // 100
