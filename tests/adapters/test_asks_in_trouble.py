"""Asks in trouble: late, slow, nobody there, too many, a bus that is lost, a service that stops."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from mesh_contracts import wire
from mesh_contracts.ask import Principal, subject_of_ask
from mesh_contracts.fact import tag_of
from mesh_contracts.identity import ListOrganizations, Organizations
from mesh_contracts.units import DEFAULT_SITE
from meshkit import answering
from meshkit.bus import Bus
from meshkit.errors import Unavailable
from meshkit.telemetry import METRICS

from tests.adapters.test_asks import Owner, principal, problem, serving
from tests.servers_nats import Connect, NatsServer


async def test_an_ask_past_its_deadline_is_dropped_and_not_handled(bus: Bus) -> None:
    owner = Owner()
    served = await serving(bus, listed=owner)
    before = METRICS.value("mesh_asks_late_total", tag=tag_of(ListOrganizations))
    late = ListOrganizations(**{**bus.wish(principal()), "deadline": datetime.now(UTC)})
    assert problem(await bus.ask(late)) == (504, "deadline_exceeded")
    subject = subject_of_ask(ListOrganizations, DEFAULT_SITE)
    with pytest.raises(Unavailable):
        await bus.request(subject, wire.encode(late), within_s=0.2)
    assert METRICS.value("mesh_asks_late_total", tag=tag_of(ListOrganizations)) == before + 1
    assert owner.asked == []
    await served.stop()


async def test_an_answer_that_does_not_come_in_time_is_504(bus: Bus) -> None:
    release = asyncio.Event()

    async def slow(_ask: Any, _by: Principal) -> Organizations:
        await release.wait()
        return Organizations(items=[])

    served = await serving(bus, listed=slow)
    answer = await bus.ask(ListOrganizations(**bus.wish(principal(), timeout_s=0.2)))
    assert problem(answer) == (504, "deadline_exceeded")
    release.set()
    await served.stop()


async def test_nobody_there_is_503_at_once(bus: Bus) -> None:
    async with asyncio.timeout(1):
        answer = await bus.ask(ListOrganizations(**bus.wish(principal())))
    assert problem(answer) == (503, "unavailable")


async def test_the_bus_lost_in_the_middle_is_503_at_once(bus: Bus, nats_server: NatsServer) -> None:
    asked = asyncio.Event()

    async def slow(_ask: Any, _by: Principal) -> Organizations:
        asked.set()
        await asyncio.sleep(10)
        return Organizations(items=[])

    served = await serving(bus, listed=slow)
    asking = asyncio.create_task(bus.ask(ListOrganizations(**bus.wish(principal()))))
    await asked.wait()
    nats_server.kill()
    async with asyncio.timeout(1):
        assert problem(await asking) == (503, "unavailable")
        assert problem(await bus.ask(ListOrganizations(**bus.wish(principal())))) == (
            503,
            "unavailable",
        )
    for task in list(served._tasks):
        task.cancel()


async def test_past_the_bound_an_ask_is_told_to_come_back(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "ASKS_MAX", 2)
    release = asyncio.Event()

    async def slow(_ask: Any, _by: Principal) -> Organizations:
        await release.wait()
        return Organizations(items=[])

    served = await serving(bus, listed=slow)
    first = [asyncio.create_task(bus.ask(ListOrganizations(**bus.wish(principal())))) for _ in range(2)]
    async with asyncio.timeout(2):
        while len(served._tasks) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert problem(await bus.ask(ListOrganizations(**bus.wish(principal())))) == (503, "busy")
    release.set()
    assert await asyncio.gather(*first) == [Organizations(items=[])] * 2
    await served.stop()


async def test_a_stop_answers_what_is_at_work_and_takes_no_more(bus: Bus, connect: Connect) -> None:
    release, begun = asyncio.Event(), asyncio.Event()

    async def slow(_ask: Any, _by: Principal) -> Organizations:
        begun.set()
        await release.wait()
        return Organizations(items=[])

    served = await serving(bus, listed=slow)
    asker = await connect("gateway")
    working = asyncio.create_task(asker.ask(ListOrganizations(**asker.wish(principal()))))
    await begun.wait()
    stopping = asyncio.create_task(served.stop())
    said = None
    async with asyncio.timeout(10):
        # What is on its way when the stop begins is still taken; it waits, as the first does.
        while said != (503, "unavailable"):
            more = ListOrganizations(**asker.wish(principal(), timeout_s=0.3))
            said = problem(await asker.ask(more))
    assert not stopping.done()
    release.set()
    assert await working == Organizations(items=[])
    await stopping


async def test_asks_on_their_way_while_a_service_stops_are_answered(bus: Bus, connect: Connect) -> None:
    owner = Owner()
    served = await serving(bus, listed=owner)
    asker = await connect("gateway")
    asking = [
        asyncio.create_task(asker.ask(ListOrganizations(**asker.wish(principal())))) for _ in range(300)
    ]
    async with asyncio.timeout(2):
        while not owner.asked:  # noqa: ASYNC110 - one turn of the loop at a time
            await asyncio.sleep(0)
    await served.stop()
    async with asyncio.timeout(2):
        answers = await asyncio.gather(*asking)
    # Whoever came too late is told so at once, not left to wait for the deadline.
    late = [answer for answer in answers if not isinstance(answer, Organizations)]
    assert {problem(answer) for answer in late} <= {(503, "unavailable"), (503, "busy")}
    assert len(late) < 300
