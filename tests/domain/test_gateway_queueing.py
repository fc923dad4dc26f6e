"""Who is next in line: fair by tokens, in bands that starve nobody, with a position that is true."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.queueing import FLOWS_SPARE, ROTA, FairQueue

TIERS = st.sampled_from(["priority", "default", "flex", None, "auto"])
COMERS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 500), TIERS), max_size=80)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=2), st.data())
def test_no_key_gets_more_than_its_share_and_one_while_others_wait(
    wanted: dict[str, int], data: st.DataObject
) -> None:
    queue: FairQueue[str] = FairQueue()
    comers = data.draw(st.permutations([key for key, count in wanted.items() for _ in range(count)]))
    for key in comers:
        queue.add(key, key=key, cost=10)
    left, got = Counter(wanted), Counter[str]()
    while len(queue):
        key = queue.take()
        left[key] -= 1
        got[key] += 1
        waiting = [one for one in wanted if left[one]]
        if len(waiting) > 1:
            counts = [got[one] for one in waiting]
            assert max(counts) - min(counts) <= 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 1_000)), min_size=1, max_size=80))
def test_keys_that_wait_throughout_are_served_equal_tokens_but_for_one_request(
    comers: list[tuple[str, int]],
) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for key, cost in comers:
        queue.add((key, cost), key=key, cost=cost)
    left = Counter(key for key, _ in comers)
    served = Counter[str]()
    largest = max(cost for _, cost in comers)
    while len(queue):
        key, cost = queue.take()
        left[key] -= 1
        served[key] += cost
        tokens = [served[one] for one in left if left[one]]
        if len(tokens) > 1:
            assert max(tokens) - min(tokens) <= largest


def test_a_key_that_comes_late_waits_for_no_more_than_one_request_of_each_other() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(50):
        queue.add("heavy", key="heavy", cost=1_000)
    assert [queue.take() for _ in range(10)] == ["heavy"] * 10
    ticket = queue.add("light", key="light", cost=10)
    assert (queue.position(ticket) or 99) <= 2


def test_a_key_that_comes_late_is_not_given_what_it_did_not_ask_for() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(50):
        queue.add("early", key="early", cost=10)
    for _ in range(20):
        queue.take()
    for _ in range(20):
        queue.add("late", key="late", cost=10)
    assert Counter(queue.take() for _ in range(10)) == {"early": 5, "late": 5}


@given(COMERS, st.integers(0, 20))
def test_a_position_is_the_number_of_turns_until_its_own(
    comers: list[tuple[str, int, str | None]], before: int
) -> None:
    queue: FairQueue[int] = FairQueue()
    for _ in range(before):
        queue.add(-1, key="z", cost=1)
        queue.take()
    tickets = {
        at: queue.add(at, key=key, cost=cost, tier=tier) for at, (key, cost, tier) in enumerate(comers)
    }
    told = {at: queue.position(ticket) for at, ticket in tickets.items()}
    seen = {}
    turn = 0
    while len(queue):
        turn += 1
        first = queue.first()
        assert queue.take() == first
        seen[first] = turn
    assert told == seen
    assert all(queue.position(ticket) is None for ticket in tickets.values())


@given(
    st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.sampled_from(["flex", "priority"])
)
def test_a_position_is_true_in_a_long_line_of_three_bands(
    priority: int, default: int, flex: int, tier: str
) -> None:
    queue: FairQueue[str] = FairQueue()
    for name, count in (("priority", priority), ("default", default), ("flex", flex)):
        for _ in range(count):
            queue.add("other", key="k", cost=1, tier=name)
    ticket = queue.add("mine", key="k", cost=1, tier=tier)
    told = queue.position(ticket)
    turns = next(turn for turn in range(1, len(queue) + 1) if queue.take() == "mine")
    assert told == turns


def test_priority_goes_first_and_nobody_starves() -> None:
    queue: FairQueue[str] = FairQueue()
    for tier in ("flex", "default", "priority"):
        for _ in range(len(ROTA)):
            queue.add(tier, key="k", cost=1, tier=tier)
    served = Counter(queue.take() for _ in range(len(ROTA)))
    assert served == {"priority": len(ROTA) - 2, "default": 1, "flex": 1}


@given(COMERS, st.data())
def test_who_leaves_is_not_served_and_everybody_else_is_once(
    comers: list[tuple[str, int, str | None]], data: st.DataObject
) -> None:
    queue: FairQueue[int] = FairQueue()
    tickets = [
        queue.add(at, key=key, cost=cost, tier=tier) for at, (key, cost, tier) in enumerate(comers)
    ]
    leaving = data.draw(st.sets(st.sampled_from(range(len(comers))))) if comers else set()
    for at in leaving:
        assert queue.remove(tickets[at])
        assert not queue.remove(tickets[at])
    assert sorted(queue.items()) == sorted(set(range(len(comers))) - leaving)
    served = [queue.take() for _ in range(len(queue))]
    assert sorted(served) == sorted(set(range(len(comers))) - leaving)


def test_who_leaves_is_not_charged() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add("other", key="b", cost=10)
    for _ in range(20):
        queue.remove(queue.add("gone", key="a", cost=1_000))
    queue.add("other", key="b", cost=10)
    queue.add("mine", key="a", cost=10)
    assert [queue.take() for _ in range(3)] == ["other", "mine", "other"]


def test_what_is_remembered_of_keys_is_bounded_while_somebody_always_waits() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.add(-1, key="always", cost=10**9)
    queue.add(-1, key="always", cost=10**9)
    for at in range(5 * FLOWS_SPARE):
        queue.add(at, key=f"k{at}", cost=5)
        queue.take()
    for band in queue._bands:
        assert len(band._finish) <= len(band.waiting) + FLOWS_SPARE + 1
