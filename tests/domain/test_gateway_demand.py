"""What a gateway tells of demand: at once where somebody waits, seldom else, and never too late."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.demand import (
    AGAIN_S,
    EVERY_S,
    IDLE_AFTER_MS,
    IDLE_AGAIN_S,
    MOVED_SHARE,
    STANDS_MS,
    Said,
    Seen,
    demand_of,
    remembered,
    worth_telling,
)

LOOK_S = 0.25


class Teller:
    """Looks every quarter of a second at what a test shows it, and keeps what it told."""

    def __init__(self) -> None:
        self.said: dict[str, Said] = {}
        self.now = 100.0
        self.told: list[tuple[float, dict[str, Said]]] = []

    def look(self, **seen: Seen) -> list[str]:
        self.now += LOOK_S
        worth = worth_telling(self.said, seen, self.now)
        self.said = remembered(self.said, worth, seen)
        if worth:
            self.told.append((self.now, worth))
        return sorted(worth)

    def looks(self, seconds: float, **seen: Seen) -> int:
        """Look for a while at what stays the same; return how many facts that made."""
        before = len(self.told)
        for _ in range(int(seconds / LOOK_S)):
            self.look(**seen)
        return len(self.told) - before


IDLE = Seen(idle_ms=60_000)


def test_nothing_is_told_of_what_nobody_ever_asked() -> None:
    assert Teller().looks(1_000, a=IDLE, b=IDLE) == 0


def test_the_first_request_a_queue_and_one_that_must_wake_are_told_at_the_next_look() -> None:
    teller = Teller()
    assert teller.look(a=Seen(in_flight=1)) == ["a"]
    assert teller.look(a=Seen(in_flight=1), b=Seen(queued=1, waking=True)) == ["b"]
    assert teller.look(a=Seen(in_flight=1, queued=1), b=Seen(queued=1, waking=True)) == ["a"]
    assert teller.look(a=Seen(in_flight=1, queued=1), b=Seen(queued=1, waking=True)) == []


def test_load_that_moves_is_told_once_a_second_and_a_little_of_it_not_at_all() -> None:
    teller = Teller()
    teller.look(a=Seen(in_flight=10))
    assert teller.looks(EVERY_S - LOOK_S, a=Seen(in_flight=40)) == 0
    assert teller.look(a=Seen(in_flight=40)) == ["a"]
    assert teller.looks(AGAIN_S - LOOK_S, a=Seen(in_flight=48)) == 0, "a fifth more is as much"
    assert teller.look(a=Seen(in_flight=48)) == ["a"], "but it does not stand for ever"
    small = Teller()
    small.look(a=Seen(in_flight=1))
    assert small.looks(EVERY_S, a=Seen(in_flight=2)) == 1


def test_one_that_is_urgent_takes_along_what_would_have_waited() -> None:
    teller = Teller()
    teller.look(a=Seen(in_flight=10))
    assert teller.look(a=Seen(in_flight=30), b=Seen(in_flight=1)) == ["a", "b"]


def test_that_nobody_asks_any_more_is_told_once_and_then_rarely() -> None:
    teller = Teller()
    teller.look(a=Seen(in_flight=1))
    assert teller.looks(3, a=Seen(idle_ms=IDLE_AFTER_MS - 1)) == 0
    assert teller.look(a=Seen(idle_ms=IDLE_AFTER_MS)) == ["a"]
    assert demand_of("e", teller.said["a"], None).idle_ms == IDLE_AFTER_MS
    assert teller.looks(IDLE_AGAIN_S - LOOK_S, a=IDLE) == 0
    assert teller.look(a=IDLE) == ["a"]


def test_short_requests_in_a_row_are_one_load() -> None:
    teller = Teller()
    for number in range(100):
        teller.look(a=Seen(in_flight=1) if number % 2 else Seen(idle_ms=100))
    assert len(teller.told) <= 1 + 100 * LOOK_S / (AGAIN_S - LOOK_S)


def test_an_endpoint_that_is_gone_is_told_to_be_idle_and_then_forgotten() -> None:
    teller = Teller()
    teller.look(a=Seen(in_flight=3))
    assert teller.looks(EVERY_S) == 1
    [(_, word)] = teller.told[1:]
    assert not word["a"].seen.busy
    assert teller.said == {}


def test_the_rate_of_tokens_is_that_since_the_word_before() -> None:
    before = Said(seen=Seen(in_flight=1, tokens_total=100), at=10.0)
    word = Said(seen=Seen(in_flight=1, in_flight_tokens=50, tokens_total=700), at=12.0)
    told = demand_of("e", word, before)
    assert (told.tokens_per_s, told.in_flight_tokens, told.idle_ms) == (300, 50, 0)
    assert demand_of("e", word, None).tokens_per_s == 0
    begun_anew = msgspec.structs.replace(word, seen=Seen(in_flight=1, tokens_total=5))
    assert demand_of("e", begun_anew, before).tokens_per_s == 0


SEEN = st.builds(
    Seen,
    in_flight=st.integers(0, 30),
    queued=st.integers(0, 3),
    idle_ms=st.sampled_from([0, 500, 2_000]),
    waking=st.booleans(),
)


@given(st.lists(st.tuples(SEEN, st.integers(1, 40)), min_size=1, max_size=12))
def test_what_was_told_last_is_never_far_from_what_is_nor_past_its_time_and_never_a_flood(
    course: list[tuple[Seen, int]],
) -> None:
    teller = Teller()
    for seen, looks in course:
        for look in range(looks):
            before = teller.said.get("a")
            teller.look(a=seen)
            word = teller.said.get("a")
            if seen.busy:
                assert word is not None
                assert teller.now - word.at < STANDS_MS / 1_000 / 2
            if word is None or not (seen.busy or seen.idle_ms >= IDLE_AFTER_MS):
                continue
            if look * LOOK_S >= EVERY_S:
                assert abs(seen.load - word.seen.load) <= MOVED_SHARE * word.seen.load
                assert (seen.waking, seen.busy) == (word.seen.waking, word.seen.busy)
            if before is not None and word.at != before.at and word.at - before.at < EVERY_S:
                assert seen.busy, "only who waits, or comes, is hurried for"
