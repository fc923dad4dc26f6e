"""Gangs on any small site: what is decided is what trying everything says."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement.domain.engine.engine import Engine
from placement.domain.engine.relax import relaxed
from placement.domain.engine.size import Size
from placement.domain.engine.wish import (
    Placed,
    Refused,
    Released,
    Wish,
)

from tests.domain.gang_rules import (
    allowed,
    cards_left,
    columns,
    drawn_w,
    place,
    room,
    seated_nodes,
    seatings,
    segments_hold,
)
from tests.domain.gang_world import ask, drawn_wish, site

pytestmark = pytest.mark.slow

TRAY = Size(gpus=4)


SEEDS = st.integers(0, 2**32 - 1)


def drawn(
    seed: int, *, shares: bool = False, crossing: bool = False, alike: bool = True
) -> tuple[Engine, Wish]:
    """Return a site and a gang that wishes for seats there."""
    chance = Random(seed)
    engine = site(chance, short=chance.random() < 0.4, crossing=crossing, alike=alike)
    avoid = chance.choice(((), (), ("n0",)))
    return engine, drawn_wish(chance, "new", least=2, shares=shares, avoid=avoid)


@settings(max_examples=30)
@given(SEEDS, st.booleans())
def test_a_gang_is_seated_if_and_only_if_some_way_to_seat_it_exists(seed: int, alike: bool) -> None:
    engine, wished = drawn(seed, alike=alike)
    possible = next(seatings(engine, wished), None) is not None
    assert engine.gangs.admits(wished) == possible
    assert isinstance(ask(engine, wished), Placed) == possible


@settings(max_examples=30)
@given(SEEDS)
def test_whatever_the_site_nothing_is_broken_and_no_gang_is_partial(seed: int) -> None:
    engine, wished = drawn(seed, shares=True, crossing=True, alike=False)
    before, twin = columns(engine), engine.copy()
    outcome = ask(engine, wished)
    if isinstance(outcome, Refused):
        assert columns(engine) == before
        return
    assert isinstance(outcome, Placed)
    seated = seated_nodes(outcome)
    assert len(outcome.seats) == wished.members
    assert allowed(twin, wished, seated)
    assert all(count <= room(twin, node, wished) for node, count in seated.items())
    assert segments_hold(engine, wished, [seat.node for seat in outcome.seats])
    for node, row in engine.site.row_of.items():
        left = cards_left(engine, node)
        assert min(left, default=0) >= 0
        assert engine.site.free[row, : len(left)].tolist() == left
    for level, sums in engine.power.planned.items():
        for domain, code in engine.site.domains[level].items():
            inside = [node for node in engine.site.row_of if place(engine, node, level) == domain]
            assert sums[code] == sum(drawn_w(engine, node) for node in inside)


@settings(max_examples=30)
@given(SEEDS)
def test_a_refusal_of_a_gang_names_a_change_that_admits_it(seed: int) -> None:
    engine, wished = drawn(seed)
    outcome = ask(engine, wished)
    if isinstance(outcome, Refused) and outcome.why.relaxation is not None:
        inputs, less = relaxed(engine, wished, outcome.why.relaxation)
        for each in inputs:
            engine.apply(each)
        assert isinstance(ask(engine, less), Placed)


@settings(max_examples=30)
@given(SEEDS)
def test_no_gang_of_more_members_than_a_refusal_says_has_its_seats(seed: int) -> None:
    engine, wished = drawn(seed)
    outcome = ask(engine, wished)
    if isinstance(outcome, Refused):
        relaxation = outcome.why.relaxation
        fewer = relaxation.amount if relaxation and relaxation.kind == "members" else wished.members
        for less in range(1, fewer):
            larger = msgspec.structs.replace(wished, members=wished.members - less)
            assert next(seatings(engine, larger), None) is None


@settings(max_examples=30)
@given(SEEDS)
def test_a_gang_that_comes_and_goes_leaves_all_as_it_was(seed: int) -> None:
    engine, wished = drawn(seed, shares=True)
    before = columns(engine)
    ask(engine, wished)
    engine.apply(Released(workload="new", at=1))
    assert columns(engine) == before
