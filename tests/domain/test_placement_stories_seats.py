"""Seats as users of other schedulers found them given wrongly: to too many, to nobody, or again and again.

Told after kai-scheduler/KAI-Scheduler 848, 1454 and 2153, hashicorp/nomad 13017, 25808 and 28444.
"""

from collections import Counter
from random import Random

import pytest
from placement.domain.engine.engine import Engine
from placement.domain.engine.fit import BIT
from placement.domain.engine.notice import Queued
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size
from placement.domain.engine.wish import (
    Asked,
    Found,
    NodePut,
    Noted,
    Outcome,
    Placed,
    Refused,
    Released,
    Seat,
    Ticked,
)

from tests.domain.gang_rules import columns
from tests.domain.gang_world import drawn_wish
from tests.domain.gang_world import site as drawn_site
from tests.domain.halls import HOUR, Hall, followed, started
from tests.domain.placement_sites import ask, node, placed, refused, site, wish

HALF = Size(gpu_milli=500)


@pytest.mark.parametrize("members", [1, 2, 16])
def test_halves_asked_for_all_at_once_sit_two_to_a_card(members: int) -> None:
    # Three and four sat on one card, and beside it was room (KAI 2153).
    engine = site(node("n0"))
    outcomes = [
        placed(engine, wish(f"w{number}", HALF, members=members)) for number in range(16 // members)
    ]
    cards = Counter(card for one in outcomes for seat in one.seats for card in seat.cards)
    assert cards == dict.fromkeys(range(8), 2)
    refused(engine, wish("one more", HALF))
    engine.apply(Released(workload="w0", at=1))
    assert len(placed(engine, wish("again", HALF, members=members)).seats) == members


@pytest.mark.parametrize("size", [Size(gpus=1), HALF, Size(gpu_milli=1)])
def test_a_card_that_was_taken_before_this_memory_began_is_given_to_nobody(size: Size) -> None:
    # Work was bound to a card that was full, and bound there again without end (KAI 848).
    engine = site(node("n0", gpus=1))
    there = wish("there", Size(gpus=1))
    engine.apply(Found(wish=there, seats=(Seat("n0", (0,), 1_000),), at=0))
    assert isinstance(ask(engine, wish("a", size, queue=True)), Queued)
    before = columns(engine)
    assert [engine.apply(Ticked(at=number * HOUR)) for number in range(1, 5)] == [Noted()] * 4
    assert columns(engine) == before
    told = followed(engine.apply(Released(workload="there", at=5 * HOUR)))
    assert started(told) == ["a"]


def test_what_others_run_on_a_node_is_left_to_them() -> None:
    # Two that each knew only of their own gave the same CPUs away (KAI 1454).
    engine = site(node("n0"), node("n1"))
    placed(engine, wish("a", Size(gpus=4, cpu_milli=8_000)))
    engine.apply(NodePut(spec=node("n0", cpu_milli=12_000)))
    size = Size(gpus=1, cpu_milli=6_000)
    assert placed(engine, wish("b", size)).seats[0].node == "n1"
    engine.apply(NodePut(spec=node("n1", cpu_milli=6_000)))
    found = refused(engine, wish("c", size))
    assert found.why.failed[list(BIT).index("cpu")] == 2
    assert found.why.relaxation is not None
    assert (found.why.relaxation.kind, found.why.relaxation.amount) == ("cpu", 2_000)


def test_where_something_is_found_to_fit_it_is_seated_and_where_not_nothing_is_tried_again() -> None:
    # Who planned and who applied did not agree, and the same plan was made without end (Nomad 13017, 25808).
    seen: Counter[type] = Counter()
    for seed in range(16):
        chance = Random(seed)
        engine = drawn_site(chance)
        for number in range(4):
            wished = drawn_wish(chance, f"w{number}")
            would, before = engine.would(wished), columns(engine)
            outcome = ask(engine, wished)
            assert isinstance(outcome, Placed | Refused)
            assert type(outcome) is type(would), seed
            seen[type(outcome)] += 1
            if isinstance(outcome, Placed):
                assert outcome.seats == engine.seats(engine.holdings[wished.workload].parts)
                assert (outcome.seats, outcome.why) == (would.seats, would.why)  # type: ignore[union-attr]
            else:
                assert columns(engine) == before
                assert ask(engine, wished) == outcome
    assert min(seen.values()) > 12


def all_taken() -> Hall:
    hall = Hall(domains=1, nodes=1)
    hall.placed("acme", 4)
    assert isinstance(hall.ask("acme", 4), Refused)
    return hall


def test_what_came_free_just_before_is_there_for_whoever_asks_next() -> None:
    # What was not in an older picture of the site failed, and was tried again a second later (Nomad 28444).
    hall = all_taken()
    hall.release("w1")
    assert isinstance(hall.ask("acme", 4), Placed)


def test_a_node_that_was_told_of_just_before_is_there_for_whoever_asks_next() -> None:
    hall = all_taken()
    hall.hear(NodePut(spec=NodeSpec(node="new", model="GB200", gpus=4, cpu_milli=1_000)))
    assert hall.placed("acme", 4).seats[0].node == "new"


def test_a_quota_that_was_raised_just_before_counts_for_whoever_asks_next() -> None:
    hall = Hall()
    hall.quota("acme", limit=4)
    hall.placed("acme", 4, preemptible=True)
    assert isinstance(hall.ask("acme", 4, preemptible=True), Refused)
    hall.quota("acme", limit=8)
    assert isinstance(hall.ask("acme", 4, preemptible=True), Placed)


def test_each_of_many_asked_in_the_same_moment_is_answered_once_and_at_once() -> None:
    engine = site(node("n0"), node("n1"))
    wishes = [wish(f"w{number}", Size(gpus=1)) for number in range(20)]
    outcomes: list[Outcome] = [engine.apply(Asked(wish=one, at=7)) for one in wishes]
    assert [type(one) for one in outcomes] == [Placed] * 16 + [Refused] * 4
    assert Engine.from_snapshot(engine.snapshot()).apply(Ticked(at=8)) == Noted()
