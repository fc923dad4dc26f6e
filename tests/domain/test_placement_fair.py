"""Fair shares: by the largest part of any resource, by weight, and with what was had lately."""

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement.domain.engine.fair import (
    GRAIN_MS,
    HALF_LIFE_MS,
    NOTHING,
    ONE,
    SHARE,
    Account,
    Amount,
    amount,
    decay,
    share,
)
from placement.domain.engine.size import Size

from tests.domain.halls import HOUR, MINUTE, Hall, started

pytestmark = pytest.mark.slow

WHOLE = Amount(1_000_000, 1_000_000, 1_000_000)
SEED = 11


def part(account: Account, at: int = 0, weight: int = 1, more: Amount = NOTHING) -> int:
    """Return a share in parts of a million of the site."""
    found = share(account.base(at, HALF_LIFE_MS), more, WHOLE, weight)
    return round(Fraction(found, SHARE) * 1_000_000)


def test_after_a_half_life_half_is_left() -> None:
    for halves in range(33):
        assert decay(halves * HALF_LIFE_MS, HALF_LIFE_MS) == ONE >> halves
    assert decay(100 * HALF_LIFE_MS, HALF_LIFE_MS) == 0


@given(st.integers(0, 40 * HALF_LIFE_MS))
def test_decay_is_what_the_power_says_to_four_digits_and_falls(passed: int) -> None:
    left = decay(passed, HALF_LIFE_MS)
    assert left == pytest.approx(ONE * 2 ** (-passed / HALF_LIFE_MS), rel=3e-5, abs=2)
    assert decay(passed + MINUTE, HALF_LIFE_MS) <= left


def test_the_share_is_the_largest_part_of_any_resource_by_weight() -> None:
    account = Account()
    account.charge(Amount(100_000, 400_000, 10_000), 1, 0, HALF_LIFE_MS)
    assert part(account) == 200_000  # half of what it holds now, and of nothing before
    assert part(account, weight=2) == 100_000
    assert part(account, more=Amount(500_000, 0, 0)) == 300_000


def test_what_was_held_counts_less_and_less() -> None:
    account = Account()
    account.charge(Amount(800_000, 0, 0), 1, 0, HALF_LIFE_MS)
    account.charge(Amount(800_000, 0, 0), -1, HALF_LIFE_MS, HALF_LIFE_MS)
    assert part(account, HALF_LIFE_MS) == 200_000
    assert part(account, 2 * HALF_LIFE_MS) == 100_000


@given(
    st.lists(st.tuples(st.integers(0, HOUR), st.integers(0, 3)), max_size=30),
    st.integers(0, 20 * HOUR),
)
def test_looking_at_a_share_does_not_change_it(taken: list[tuple[int, int]], later: int) -> None:
    seen, unseen, now = Account(), Account(), 0
    for passed, gpus in taken:
        now += passed
        for account in (seen, unseen):
            account.charge(Amount(gpus, gpus, gpus), 1, now, HALF_LIFE_MS)
        for ahead in range(0, 3 * GRAIN_MS, GRAIN_MS):
            seen.base(now + ahead, HALF_LIFE_MS)
    assert seen.base(now + later, HALF_LIFE_MS) == unseen.base(now + later, HALF_LIFE_MS)


def test_an_instance_counts_by_its_slices_rounded_up() -> None:
    assert amount(Size(mig="1g.10gb"), 7).gpu == 7 * 143
    assert amount(Size(gpu_milli=250, cpu_milli=5, memory_mib=7), 3) == Amount(750, 15, 21)


def test_the_project_that_had_less_lately_is_first() -> None:
    hall = Hall(preempts=False)
    early = [hall.placed("acme", 4).workload for _ in range(4)]
    hall.now = 12 * HOUR
    for one in early:
        hall.release(one)
    fill = [hall.placed("other", 4).workload for _ in range(4)]
    waits = [hall.queued(name, 4).workload for name in ("acme", "beta")]
    assert started(hall.release(fill[0])) == [waits[1]]


def test_what_a_project_had_long_ago_is_forgotten() -> None:
    hall = Hall(preempts=False)
    early = hall.placed("acme", 4).workload
    hall.now = MINUTE
    hall.release(early)
    hall.now = 40 * HALF_LIFE_MS
    fill = [hall.placed("other", 4).workload for _ in range(4)]
    waits = [hall.queued(name, 4).workload for name in ("acme", "beta")]
    # Of equal shares, who came first.
    assert started(hall.release(fill[0])) == [waits[0]]


def test_in_an_organisation_the_project_that_has_less_is_first() -> None:
    hall = Hall(preempts=False)
    hall.placed("acme/red", 4)
    fill = [hall.placed("other", 4).workload for _ in range(3)]
    waits = [hall.queued(name, 4).workload for name in ("acme/red", "acme/blue")]
    assert started(hall.release(fill[0])) == [waits[1]]


def test_organisations_share_first_and_their_projects_share_what_is_theirs() -> None:
    hall = Hall(preempts=False)
    fill = [hall.placed("other", 4).workload for _ in range(4)]
    names = ["acme/red", "acme/blue", "acme/green", "beta/one", "beta/one", "beta/one"]
    order = {hall.queued(name, 4).workload: name for name in names}
    got = [order[one] for old in fill for one in started(hall.release(old))]
    assert sorted(name.partition("/")[0] for name in got) == ["acme", "acme", "beta", "beta"]
    assert len({name for name in got if name.startswith("acme")}) == 2


@pytest.mark.parametrize(("has", "first"), [(1, "gamma"), (2, "acme")])
def test_half_a_seat_is_counted_for_whoever_asks_for_a_whole_one(has: int, first: str) -> None:
    """With all of it, who has little weight gets too little; with none, too much."""
    hall = Hall(preempts=False)
    hall.quota("owner", gpus=16)
    for name, weight in (("acme", 1), ("gamma", 4)):
        hall.quota(name, weight=weight)
    for _ in range(has):
        hall.placed("gamma", 4, preemptible=True)
    fill = [hall.placed("owner", 4).workload for _ in range(4 - has)]
    waits = {hall.queued(name, 4, preemptible=True).workload: name for name in ("acme", "gamma")}
    assert [waits[one] for one in started(hall.release(fill[0]))] == [first]


def run(weights: dict[str, int], hours: int, sizes: tuple[int, ...]) -> dict[str, int]:
    """Have projects with endless work borrow a whole hall; return the part that each had of it, in percent."""
    chance = Random(SEED)
    hall = Hall(preempts=False)
    hall.quota("owner", gpus=16)
    for name, weight in weights.items():
        hall.quota(name, weight=weight)
    had = dict.fromkeys(weights, 0)
    ends: list[tuple[int, str]] = []

    def want(name: str) -> None:
        hall.ask(name, chance.choice(sizes), preemptible=True, queue=True, run_ms=HOUR)

    for name in weights:
        for _ in range(12):
            want(name)
    known: set[str] = set()
    for step in range(6 * hours):
        hall.now = 10 * MINUTE * step
        for at, one in sorted(ends):
            if at <= hall.now:
                ends.remove((at, one))
                hall.release(one)
        for one, held in list(hall.engine.holdings.items()):
            if one not in known:
                known.add(one)
                ends.append((hall.now + 10 * MINUTE * chance.randrange(2, 7), one))
                want(held.wish.project)
            had[held.wish.project] += held.wish.size.gpus
    total = sum(had.values())
    assert total > 6 * hours * 14
    return {name: round(Fraction(100 * count, total)) for name, count in had.items()}


@pytest.mark.parametrize(("sizes", "hours", "off"), [((1,), 16, 3), ((4,), 16, 7), ((1, 2, 4), 16, 6)])
def test_in_the_long_run_everybody_has_its_weight_of_what_is_lent(
    sizes: tuple[int, ...], hours: int, off: int
) -> None:
    """Of whole nodes there are four, and as many starts were told, and are kept: that costs a little."""
    weights = {"acme": 1, "beta": 2, "gamma": 5}
    had = run(weights, hours, sizes)
    for name, weight in weights.items():
        assert abs(had[name] - 100 * weight / 8) <= off, (SEED, had)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(("acme/red", "acme/blue", "beta/one")), min_size=1, max_size=12))
def test_positions_are_the_order_in_which_seats_are_given(names: list[str]) -> None:
    hall = Hall(preempts=False)
    fill = [hall.placed("other", 1).workload for _ in range(16)]
    waits = [hall.queued(name, 1).workload for name in names]
    turns = hall.engine.turns
    standing = [turns.standing(one) for one in waits]
    places = {one.workload: one.position for one in standing if one is not None}
    got = [one for old in fill[: len(waits)] for one in started(hall.release(old))]
    assert [places[one] for one in got] == list(range(1, len(waits) + 1))
