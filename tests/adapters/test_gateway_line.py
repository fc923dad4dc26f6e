"""The line before full replicas: nobody is lost, passed or forgotten in it, and it has an end."""

import asyncio

import pytest
from inference_gateway import waiting as line
from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.routing.fleet import Chosen
from inference_gateway.waiting import Waiting
from meshkit.testing import test_id

from tests.adapters.lines import end, entered, got, lines_of, narrow, queued
from tests.domain.routes import ask, route


async def test_who_comes_to_a_free_replica_does_not_wait() -> None:
    to = narrow()
    lines = lines_of(to)
    chosen = await lines.place(to, ask())
    assert isinstance(chosen, Chosen)
    assert chosen.began is not None
    assert lines.queued(to.endpoint_id) == 0


async def test_the_next_is_let_in_when_a_request_ends_and_nobody_passes_them() -> None:
    to = narrow()
    lines = lines_of(to)
    first = entered(lines, to)
    waiting = [queued(lines, to, key_id=f"k{at}") for at in range(3)]
    assert [one.position for one in waiting] == [1, 2, 3]
    for at, one in enumerate(waiting):
        end(lines, first)
        assert isinstance(lines.enter(to, ask(key_id=f"late{at}")), Waiting), "those in line come first"
        first = await got(one)
    assert lines.fleet.in_flight(to.endpoint_id) == (1, 100)


async def test_the_choice_is_made_when_a_place_is_free_and_not_before() -> None:
    to = narrow(2)
    lines = lines_of(to)
    held = [entered(lines, to), entered(lines, to)]
    one = queued(lines, to)
    end(lines, held[1])
    assert (await got(one)).replica == held[1].replica


async def test_a_client_that_leaves_the_line_costs_nobody_a_place() -> None:
    to = narrow()
    lines = lines_of(to)
    held = entered(lines, to)
    gone = asyncio.create_task(lines.place(to, ask()))
    stays = asyncio.create_task(lines.place(to, ask()))
    await asyncio.sleep(0)
    assert lines.queued(to.endpoint_id) == 2
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert lines.queued(to.endpoint_id) == 1
    end(lines, held)
    assert isinstance(await stays, Chosen)


async def test_a_place_given_to_a_client_that_has_just_left_goes_to_the_next() -> None:
    to = narrow()
    lines = lines_of(to)
    held = entered(lines, to)
    gone = asyncio.create_task(lines.place(to, ask()))
    stays = asyncio.create_task(lines.place(to, ask()))
    await asyncio.sleep(0)
    end(lines, held)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
    assert isinstance(await stays, Chosen)
    assert lines.fleet.in_flight(to.endpoint_id) == (1, 100)


async def test_a_full_line_is_answered_at_once_with_when_to_come_again() -> None:
    to = narrow(queue_max=2)
    lines = lines_of(to)
    entered(lines, to)
    for _ in range(2):
        queued(lines, to)
    fault = lines.enter(to, ask())
    assert isinstance(fault, Fault)
    assert (fault.status, fault.code) == (503, "queue_full")
    assert fault.retry_after_s
    none = narrow(queue_max=0)
    lines = lines_of(none)
    entered(lines, none)
    assert isinstance(lines.enter(none, ask()), Fault)
    assert lines.waited_for() == []


async def test_who_has_waited_long_enough_is_told_so_and_is_out_of_the_line() -> None:
    to = narrow(queue_wait_ms=10)
    lines = lines_of(to)
    held = entered(lines, to)
    fault = await lines.place(to, ask())
    assert isinstance(fault, Fault)
    assert (fault.status, fault.code) == (503, "queue_timeout")
    assert lines.queued(to.endpoint_id) == 0
    end(lines, held)
    assert lines.fleet.in_flight(to.endpoint_id) == (0, 0)


async def test_a_wait_can_be_looked_at_while_it_lasts() -> None:
    to = narrow()
    lines = lines_of(to)
    held = entered(lines, to)
    waiting = queued(lines, to)
    assert await waiting.chosen(0.001) is None
    assert lines.queued(to.endpoint_id) == 1
    end(lines, held)
    chosen = await got(waiting)
    waiting.leave()
    assert lines.fleet.in_flight(to.endpoint_id) == (1, 100), "what was taken is not given back"
    end(lines, chosen)


async def test_the_expected_wait_is_unknown_until_requests_have_ended() -> None:
    to = narrow(2)
    lines = lines_of(to)
    loop = asyncio.get_running_loop()
    held = [entered(lines, to), entered(lines, to)]
    assert queued(lines, to).expected_s is None
    lines = lines_of(to)
    for _ in range(4):
        one = entered(lines, to)
        lines.fleet.end(one, loop.time() + 3, "ok")
    held = [entered(lines, to), entered(lines, to)]
    assert len(held) == 2
    for position in (1, 2, 3):
        waiting = queued(lines, to)
        assert waiting.position == position
        assert waiting.expected_s == pytest.approx(position * 3 / 2, abs=0.2)


async def test_a_retry_goes_before_those_that_wait_and_holds_up_none_of_them() -> None:
    to = narrow(2)
    lines = lines_of(to)
    held = {one.replica.workload_id: one for one in (entered(lines, to), entered(lines, to))}
    a, b = test_id("workload", "a"), test_id("workload", "b")
    plain, more = queued(lines, to), queued(lines, to)
    again = queued(lines, to, "a")
    end(lines, held[a])
    assert (await got(plain)).replica.workload_id == a, "the retry has no use for this place"
    end(lines, held[b])
    assert (await got(again)).replica.workload_id == b
    assert not more.answer.done()


async def test_a_request_that_was_tried_everywhere_is_not_kept_waiting() -> None:
    to = narrow(2)
    lines = lines_of(to)
    fault = lines.enter(to, ask("a", "b"))
    assert isinstance(fault, Fault)
    assert fault.code == "engine_unavailable"


async def test_an_old_route_is_judged_by_what_is_known_now() -> None:
    old, new = narrow(1), narrow(2)
    lines = lines_of(new)
    held = [entered(lines, old), entered(lines, old)]
    waiting = queued(lines, old, "a")
    end(lines, held[0])
    end(lines, held[1])
    assert (await got(waiting)).replica == new.replicas[1]
    lines.put(new.endpoint_id, None)
    fault = lines.enter(old, ask())
    assert isinstance(fault, Fault)
    assert fault.code == "engine_unavailable"


async def test_an_endpoint_that_wakes_holds_its_requests_and_says_that_somebody_waits() -> None:
    asleep = route(0, state="asleep", wakes=True)
    heard: list[str] = []
    lines = lines_of(asleep, heard=heard)
    waiting = [asyncio.create_task(lines.place(asleep, ask())) for _ in range(3)]
    await asyncio.sleep(0)
    assert heard == [asleep.endpoint_id] * 3
    assert lines.waited_for() == [asleep.endpoint_id]
    awake = route(1)
    lines.put(awake.endpoint_id, awake)
    assert all(isinstance(one, Chosen) for one in await asyncio.gather(*waiting))
    assert lines.waited_for() == []


async def test_an_endpoint_without_replicas_that_does_not_wake_holds_nobody() -> None:
    down = route(0, state="starting")
    lines = lines_of(down)
    fault = lines.enter(down, ask())
    assert isinstance(fault, Fault)
    assert fault.code == "endpoint_starting"


async def test_those_who_wait_are_told_when_their_endpoint_goes_or_the_door_closes() -> None:
    to = route(0, state="asleep", wakes=True)
    lines = lines_of(to)
    one = queued(lines, to)
    stopped = route(0, state="stopped")
    lines.put(to.endpoint_id, stopped)
    assert (await one.chosen(5)).code == "endpoint_stopped"  # type: ignore[union-attr]
    lines.put(to.endpoint_id, to)
    two = queued(lines, to)
    lines.put(to.endpoint_id, None)
    assert (await two.chosen(5)).code == "engine_unavailable"  # type: ignore[union-attr]
    lines.put(to.endpoint_id, to)
    three = queued(lines, to)
    lines.close(unavailable("gateway_stopping", "This gateway is stopping."))
    assert (await three.chosen(5)).code == "gateway_stopping"  # type: ignore[union-attr]
    assert lines.waited_for() == []


async def test_a_line_looks_again_by_itself_when_only_time_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "LOOK_EVERY_S", 0.01)
    to = narrow()
    lines = lines_of(to)
    end(lines, entered(lines, to), "busy")
    assert isinstance(await asyncio.wait_for(lines.place(to, ask()), 5), Chosen)
