"""Which batches the ledger holds of a producer, and what it may forget."""

import random

from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.metering import EARLIER_SHOWN_MAX, MISSING_SHOWN_MAX
from metering.domain import numbers
from metering.domain.numbers import Ranges

some = st.sets(st.integers(1, 60), max_size=40)


def ranges(held: set[int], seed: int = 0) -> Ranges:
    order = sorted(held)
    random.Random(seed).shuffle(order)
    found: Ranges = ()
    for number in order:
        found = numbers.added(found, number)
    return found


@given(some, st.integers(0, 9))
def test_numbers_come_to_the_same_ranges_in_any_order(held: set[int], seed: int) -> None:
    found = ranges(held, seed)
    assert found == ranges(held)
    assert {n for low, high in found for n in range(low, high + 1)} == held


@given(some.filter(bool), st.data())
def test_a_number_that_is_held_changes_nothing(held: set[int], data: st.DataObject) -> None:
    found = ranges(held)
    assert numbers.added(found, data.draw(st.sampled_from(sorted(held)))) == found


@given(some)
def test_what_is_neither_up_to_the_mark_nor_missing_nor_above_all_is_held(held: set[int]) -> None:
    found = ranges(held)
    whole = numbers.up_to(found)
    assert all(number in held for number in range(1, whole + 1))
    assert whole + 1 not in held
    missing = list(numbers.gaps(found))
    assert missing == [n for n in range(1, max(held, default=0)) if n not in held]
    assert numbers.gap_count(found) == len(missing)


@given(st.dictionaries(st.integers(1, 8), some.filter(bool), min_size=1))
def test_a_mark_covers_only_what_the_ledger_holds(epochs: dict[int, set[int]]) -> None:
    mark = numbers.mark("gw", {epoch: ranges(held) for epoch, held in epochs.items()})
    for epoch in range(10):
        for number in range(1, 62):
            if mark.covers(epoch, number):
                assert number in epochs[epoch]
    assert mark.epoch == max(epochs)
    wished = {tuple(one) for one in mark.missing}
    assert wished == {
        (epoch, n) for epoch, held in epochs.items() for n in range(1, max(held)) if n not in held
    }


def test_the_end_of_an_epoch_that_never_came_stays_uncovered_when_the_next_epoch_begins() -> None:
    mark = numbers.mark("gw", {4: ranges({1, 2, 3, 4, 5}), 5: ranges({1})})
    assert (mark.epoch, mark.sequence) == (5, 1)
    assert mark.covers(4, 5)
    assert not mark.covers(4, 6)
    assert mark.missing == []


def test_a_gap_heals_when_the_batch_comes_late() -> None:
    gapped = ranges({1, 2, 4})
    assert list(numbers.gaps(gapped)) == [3]
    healed = numbers.added(gapped, 3)
    assert numbers.mark("gw", {1: healed}).sequence == 4
    assert list(numbers.gaps(healed)) == []


def test_a_wild_jump_is_listed_in_bites() -> None:
    mark = numbers.mark("gw", {1: numbers.added(numbers.added((), 1), 10**15)})
    assert mark.sequence == 1
    assert len(mark.missing) == MISSING_SHOWN_MAX
    assert mark.missing[0] == (1, 2)
    assert numbers.gap_count(((1, 1), (10**15, 10**15))) == 10**15 - 2


def test_a_mark_lists_the_newest_earlier_epochs_and_no_more_than_its_bound() -> None:
    mark = numbers.mark("gw", dict.fromkeys(range(1, 200), ((1, 2),)))
    assert mark.epoch == 199
    assert [epoch for epoch, _ in mark.earlier] == list(range(198, 198 - EARLIER_SHOWN_MAX, -1))
