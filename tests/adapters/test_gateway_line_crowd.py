"""Whatever comes, ends, fails and leaves: no place stays empty, and everybody is answered once."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from inference_gateway.domain.routing.fleet import Chosen
from inference_gateway.waiting import Waiting

from tests.adapters.lines import end, got, lines_of, narrow
from tests.domain.routes import ask

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "ok", "fault", "leave", "smaller", "larger"]),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(MOVES)
@settings(max_examples=40, deadline=None)
def test_no_place_stays_empty_while_somebody_waits_and_everybody_is_answered_once(
    moves: list[tuple[str, int]],
) -> None:
    asyncio.run(_moved(moves))


class Crowd:
    """Requests that come, end and leave at an endpoint whose replicas come and go."""

    def __init__(self) -> None:
        self.sizes = {"smaller": narrow(1), "larger": narrow(3)}
        self.to = self.sizes["larger"]
        self.lines = lines_of(self.to)
        self.flights: list[Chosen] = []
        self.waiting: list[Waiting] = []

    def come(self, at: int) -> None:
        tier = ("flex", "priority", None)[at % 3]
        came = self.lines.enter(self.to, ask(key_id=f"k{at % 3}", tier=tier))
        if isinstance(came, Chosen):
            self.flights.append(came)
        else:
            assert isinstance(came, Waiting)
            self.waiting.append(came)

    def move(self, move: str, at: int) -> None:
        if move == "come":
            self.come(at)
        elif move in self.sizes:
            self.lines.put(self.to.endpoint_id, self.sizes[move])
        elif move == "leave" and self.waiting:
            self.waiting.pop(at % len(self.waiting)).leave()
        elif move in {"ok", "fault"} and self.flights:
            end(self.lines, self.flights.pop(at % len(self.flights)), move)

    async def let_in(self) -> None:
        for one in [one for one in self.waiting if one.answer.done()]:
            self.flights.append(await got(one))
            self.waiting.remove(one)


async def _moved(moves: list[tuple[str, int]]) -> None:
    crowd = Crowd()
    lines, to = crowd.lines, crowd.to
    for move, at in moves:
        crowd.move(move, at)
        if at % 2:
            # Otherwise who was let in may leave before it has heard of it.
            await crowd.let_in()
            assert lines.queued(to.endpoint_id) == len(crowd.waiting)
        now = asyncio.get_running_loop().time()
        assert not lines.queued(to.endpoint_id) or lines.fleet.capacity(to, now) == 0
    lines.put(to.endpoint_id, to)
    while crowd.flights or crowd.waiting:
        await crowd.let_in()
        crowd.move("ok", 0)
    assert lines.waited_for() == []
    assert lines.fleet.in_flight(to.endpoint_id) == (0, 0)
