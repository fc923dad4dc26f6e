"""What is asked twice is a share of what is asked, whatever fails and however long."""

from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.routing.twice import (
    HEDGE_SHARE,
    RETRY_SHARE,
    SPARE,
    WINDOW_S,
    Twice,
)

from tests.domain.routes import fleet_of, route, sent

NOW = 1_000.0
GAPS = st.lists(st.sampled_from([0.0, 0.001, 0.02, 0.5, 3.0, WINDOW_S, 4 * WINDOW_S]), max_size=400)


def count(twice: Twice, now: float, times: int = 1) -> None:
    if now >= twice.ends:
        twice.turn(now)
    twice.asked += times


def test_of_many_requests_a_tenth_is_hedged_and_no_more() -> None:
    twice = Twice()
    count(twice, NOW, 1_000)
    hedged = 0
    while twice.hedge(NOW):
        count(twice, NOW)
        hedged += 1
    assert hedged == SPARE + 1_000 * HEDGE_SHARE


def test_of_few_requests_some_are_hedged_all_the_same() -> None:
    twice = Twice()
    count(twice, NOW)
    assert all(twice.hedge(NOW) for _ in range(SPARE))
    assert not twice.hedge(NOW)


def test_what_was_asked_long_ago_gives_no_room_for_hedges_now() -> None:
    twice = Twice()
    count(twice, NOW, 10_000)
    late = NOW + 2 * WINDOW_S
    assert sum(twice.hedge(late) for _ in range(100)) == SPARE


@given(GAPS)
def test_however_requests_come_hedges_stay_a_share_of_them(gaps: list[float]) -> None:
    twice, now = Twice(), NOW
    asked: list[float] = []
    hedged: list[float] = []
    for gap in gaps:
        now += gap
        count(twice, now)
        asked.append(now)
        if twice.hedge(now):
            count(twice, now)
            hedged.append(now)
        # What was counted fades over a second window: in one at most twice the share is met.
        lately = [sum(at > now - over for at in asked) for over in (WINDOW_S, 3 * WINDOW_S)]
        assert sum(at > now - WINDOW_S for at in hedged) <= 2 * SPARE + HEDGE_SHARE * lately[1] + 1


def test_a_hedge_beside_a_replica_that_gives_no_sign_is_no_hedge_but_a_rescue() -> None:
    to = route(2, routing={"hedge_after_ms": 100})
    fleet = fleet_of(to)
    flights = [sent(fleet, to, now=NOW) for _ in range(100)]
    late = NOW + 1.0
    assert SPARE < sum(fleet.hedge(one, late) for one in flights) <= SPARE + 10
    silent = NOW + 2 * WINDOW_S
    assert all(fleet.hedge(one, silent) for one in flights), "all of them may be asked again"


def test_in_an_outage_a_fifth_of_the_requests_is_asked_again_and_no_more() -> None:
    twice, asked, retried = Twice(), 0, 0
    for step in range(20_000):
        now = NOW + step * 0.01
        count(twice, now)
        asked += 1
        for _ in range(3):
            if twice.retry(now, 0):
                count(twice, now)
                retried += 1
    assert retried <= asked * RETRY_SHARE + 2 * SPARE * (1 + 200 / WINDOW_S)
    assert retried > asked * RETRY_SHARE / 2


def test_what_a_replica_that_dies_was_about_to_answer_may_all_be_asked_again() -> None:
    to = route(2, engine="vllm")
    fleet = fleet_of(to)
    flights = [sent(fleet, to, now=NOW) for _ in range(400)]
    lost = [one for one in flights if one.state is flights[0].state]
    assert len(lost) > 100
    for queued, one in enumerate(lost):
        fleet.end(one, NOW + 60.0, "fault")
        assert fleet.retry(one, NOW + 60.0, queued)
