"""As many replicas as demand asks for: two windows keep it calm, and the way back is bounded."""

from datetime import datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.placement import Replicas
from meshkit.testing import NOW
from placement.domain.scale import Need, Scaled, Told, scale

BOUNDS = Replicas(
    min=0, max=4, target=4, up_after_ms=5_000, down_after_ms=60_000, sleep_after_ms=300_000
)
FAR = NOW + timedelta(days=9)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class Endpoint:
    """An endpoint whose demand a test changes, and that is looked at when it wished to be."""

    def __init__(self, bounds: Replicas, wanted: int | None = None) -> None:
        self.bounds = bounds
        self.wanted = bounds.min if wanted is None else wanted
        self.need = Need(awake_at=NOW)
        self.now = NOW
        self.look_at: datetime | None = None
        self.told: list[Told] = []
        self.seen = [self.wanted]

    def look(self) -> Scaled:
        scaled = scale(self.bounds, self.wanted, self.need, self.told, self.now)
        assert self.bounds.min <= scaled.wanted <= self.bounds.max
        assert scaled.look_at is None or scaled.look_at > self.now
        assert len(scaled.need.peaks) + len(scaled.need.troughs) <= self.bounds.max
        self.wanted, self.need, self.look_at = scaled.wanted, scaled.need, scaled.look_at
        self.seen.append(self.wanted)
        return scaled

    def tell(self, load: int, *, waking: bool = False, stands: datetime = FAR) -> int:
        """Have one gateway say its load, and return how many are wanted."""
        self.told = [
            Told(in_flight=load, queued=0, waking=waking, asked_at=self.now, stands_until=stands)
        ]
        return self.look().wanted

    def pass_(self, milliseconds: int) -> int:
        """Let time pass, looking only when it was asked for; return how many are wanted."""
        end = self.now + timedelta(milliseconds=milliseconds)
        while self.look_at is not None and self.look_at <= end:
            self.now = self.look_at
            self.look()
        self.now = end
        return self.wanted


def test_a_request_wakes_what_sleeps_at_once_and_one_by_one_is_enough_for_it() -> None:
    endpoint = Endpoint(BOUNDS)
    endpoint.now = at(3_600)
    assert endpoint.tell(1) == 1
    assert endpoint.pass_(250_000) == 1
    assert Endpoint(BOUNDS).tell(0, waking=True) == 1, "one that waits where nothing serves"


def test_what_sleeps_is_not_woken_by_the_word_that_nobody_asks() -> None:
    endpoint = Endpoint(BOUNDS)
    assert endpoint.tell(0) == 0
    assert endpoint.look_at is None


def test_a_crowd_wakes_one_first_and_more_once_it_stayed() -> None:
    endpoint = Endpoint(BOUNDS)
    assert endpoint.tell(11) == 1
    assert endpoint.pass_(4_999) == 1
    assert endpoint.pass_(1) == 3


def test_replicas_come_once_the_load_held_and_go_once_it_stayed_away() -> None:
    endpoint = Endpoint(msgspec.structs.replace(BOUNDS, min=1))
    assert endpoint.tell(9) == 1
    assert endpoint.pass_(5_000) == 3
    endpoint.now = at(100)
    assert endpoint.tell(2) == 3
    assert endpoint.pass_(59_999) == 3
    assert endpoint.pass_(1) == 1


def test_fewer_are_as_many_as_were_needed_at_most_in_the_window() -> None:
    endpoint = Endpoint(msgspec.structs.replace(BOUNDS, min=1), wanted=4)
    endpoint.tell(16)
    endpoint.pass_(10_000)
    endpoint.tell(1)
    endpoint.pass_(30_000)
    endpoint.tell(8)
    endpoint.pass_(1_000)
    endpoint.tell(1)
    assert endpoint.pass_(28_999) == 4
    assert endpoint.pass_(1) == 2, "the two of half a minute ago"
    assert endpoint.pass_(31_000) == 1


def test_the_last_replica_goes_to_sleep_only_where_nobody_must_be_served() -> None:
    endpoint = Endpoint(BOUNDS)
    endpoint.tell(1)
    endpoint.pass_(1_000)
    endpoint.tell(0)
    assert endpoint.pass_(299_999) == 1
    assert endpoint.pass_(1) == 0
    assert endpoint.look_at is None
    awake = Endpoint(msgspec.structs.replace(BOUNDS, min=1))
    awake.tell(0)
    assert awake.pass_(10**9) == 1


def test_what_a_gateway_said_last_counts_only_for_its_time() -> None:
    endpoint = Endpoint(BOUNDS)
    endpoint.tell(3, stands=at(15))
    assert endpoint.pass_(299_000) == 1
    assert endpoint.need.now == 0
    assert endpoint.pass_(2_000) == 0, "counted from when it was last told"


def test_a_request_within_the_time_at_any_gateway_keeps_it_awake() -> None:
    one = Told(in_flight=0, queued=0, waking=False, asked_at=at(-400), stands_until=at(15))
    other = msgspec.structs.replace(one, asked_at=at(-10), stands_until=at(-5))
    slept = Need(awake_at=at(-1_000))
    assert scale(BOUNDS, 1, slept, [one], NOW).wanted == 0
    kept = scale(BOUNDS, 1, slept, [one, other], NOW)
    assert (kept.wanted, kept.look_at) == (1, at(290))


def test_several_gateways_add_up_in_any_order() -> None:
    words = [
        Told(in_flight=load, queued=1, waking=False, asked_at=NOW, stands_until=FAR)
        for load in (2, 3, 4)
    ]
    at_once = msgspec.structs.replace(BOUNDS, up_after_ms=0)
    assert scale(at_once, 1, Need(awake_at=NOW), words, NOW).wanted == 3
    assert scale(at_once, 1, Need(), words, NOW) == scale(at_once, 1, Need(), words[::-1], NOW)


def test_new_bounds_hold_at_once() -> None:
    assert scale(msgspec.structs.replace(BOUNDS, min=2), 0, Need(), [], NOW).wanted == 2
    crowd = [Told(in_flight=16, queued=0, waking=False, asked_at=NOW, stands_until=FAR)]
    assert scale(msgspec.structs.replace(BOUNDS, max=2), 4, Need(now=4), crowd, NOW).wanted == 2
    assert scale(msgspec.structs.replace(BOUNDS, min=1), 4, Need(), [], NOW).wanted == 1


WINDOWS = st.integers(0, 20_000)
SIZES = st.builds(
    Replicas,
    min=st.integers(0, 3),
    max=st.integers(3, 8),
    target=st.integers(1, 5),
    up_after_ms=WINDOWS,
    down_after_ms=WINDOWS,
    sleep_after_ms=WINDOWS,
)
LOADS = st.integers(0, 50)
HISTORY = st.lists(st.tuples(LOADS, st.integers(0, 15_000)), max_size=12)


def after(bounds: Replicas, history: list[tuple[int, int]]) -> Endpoint:
    endpoint = Endpoint(bounds)
    for load, lasted_ms in history:
        endpoint.tell(load)
        endpoint.pass_(lasted_ms)
    return endpoint


def enough(bounds: Replicas, load: int) -> int:
    return min(max(-(-load // bounds.target), bounds.min, 1), bounds.max)


@given(SIZES, HISTORY, LOADS.filter(bool))
def test_whatever_came_before_a_constant_load_gets_what_it_needs_within_the_windows_and_never_flaps(
    bounds: Replicas, history: list[tuple[int, int]], load: int
) -> None:
    endpoint = after(bounds, history)
    endpoint.seen.clear()
    endpoint.tell(load)
    endpoint.pass_(max(bounds.up_after_ms, bounds.down_after_ms))
    assert endpoint.wanted == enough(bounds, load)
    assert endpoint.seen in (sorted(endpoint.seen), sorted(endpoint.seen, reverse=True))
    endpoint.seen.clear()
    endpoint.pass_(10**7)
    assert endpoint.seen == []


@given(SIZES, HISTORY)
def test_whatever_came_before_an_endpoint_without_requests_comes_to_rest(
    bounds: Replicas, history: list[tuple[int, int]]
) -> None:
    endpoint = after(bounds, history)
    endpoint.tell(0)
    endpoint.pass_(max(bounds.sleep_after_ms, bounds.down_after_ms))
    assert endpoint.wanted == bounds.min
    assert endpoint.look_at is None


@given(SIZES, LOADS.filter(bool), LOADS, st.integers(1, 20_000))
def test_a_spike_shorter_than_its_window_does_nothing(
    bounds: Replicas, steady: int, more: int, lasted_ms: int
) -> None:
    bounds = msgspec.structs.replace(bounds, up_after_ms=lasted_ms + 1)
    endpoint = after(bounds, [(steady, 100_000)])
    before = endpoint.wanted
    endpoint.tell(steady + more)
    assert endpoint.pass_(lasted_ms) == before
    endpoint.tell(steady)
    assert endpoint.pass_(100_000) == before


@given(SIZES, LOADS.filter(bool), LOADS, st.integers(1, 20_000))
def test_a_dip_shorter_than_its_windows_does_nothing(
    bounds: Replicas, steady: int, less: int, lasted_ms: int
) -> None:
    bounds = msgspec.structs.replace(bounds, down_after_ms=lasted_ms + 1, sleep_after_ms=lasted_ms + 1)
    endpoint = after(bounds, [(steady, 100_000)])
    before = endpoint.wanted
    endpoint.tell(max(0, steady - less))
    assert endpoint.pass_(lasted_ms) == before
    endpoint.tell(steady)
    assert endpoint.pass_(100_000) == before


@given(SIZES, HISTORY, LOADS, st.integers(0, 14_999), st.integers(0, 40_000))
def test_no_look_before_its_time_gives_another_number(
    bounds: Replicas, history: list[tuple[int, int]], load: int, stands_ms: int, later_ms: int
) -> None:
    endpoint = after(bounds, history)
    stands = endpoint.now + timedelta(milliseconds=stands_ms)
    endpoint.tell(load, stands=stands)
    soon = endpoint.now + timedelta(milliseconds=later_ms)
    if endpoint.look_at is None or soon < endpoint.look_at:
        looked = scale(bounds, endpoint.wanted, endpoint.need, endpoint.told, soon)
        assert (looked.wanted, looked.look_at) == (endpoint.wanted, endpoint.look_at)
