"""Events over HTTP: in order, resumable to the event, each tenant its own."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from inference_gateway import eventring
from inference_gateway.http import events
from mesh_contracts import wire
from mesh_contracts.fact import subject_of
from mesh_contracts.identity import ProjectAdmitted
from meshkit.errors import Unavailable
from meshkit.testing import envelope, test_id

from tests.adapters.gateways import PROJECT, Town, drawn_key, town
from tests.adapters.roads import until
from tests.servers_nats import NatsServer

pytestmark = pytest.mark.slow

THEIRS = test_id("project", "theirs")
WITHIN_S = 10


async def tell(here: Town, name: str, project: str = PROJECT) -> str:
    """Tell a fact of a project as its owner would; return its id."""
    fact = ProjectAdmitted(**envelope(project, project=project), name=name, organization_name="rail")
    async with asyncio.timeout(WITHIN_S):
        while True:
            with suppress(Unavailable):
                await here.bus.store(subject_of(fact), wire.encode(fact), msg_id=fact.fact_id)
                return fact.fact_id
            await asyncio.sleep(0.05)


async def kept(here: Town, count: int) -> None:
    """Wait until the stream of events has that many: it is filled from other streams."""
    async with asyncio.timeout(WITHIN_S):
        while await here.bus.at("EVENTS", count) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Stream:
    """A reader of the event stream."""

    def __init__(self, here: Town, *, key: str = "", after: str = "", query: str = "") -> None:
        headers = {"accept": "text/event-stream", **({"last-event-id": after} if after else {})}
        self._asked = here.get(f"/api/v1/events{query}", key or None, **headers)

    async def __aenter__(self) -> Self:
        self._answer: aiohttp.ClientResponse = await self._asked.__aenter__()
        assert self._answer.status == 200, await self._answer.text()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._answer.close()

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Return the next event's cursor and content."""
        cursor = ""
        async with asyncio.timeout(WITHIN_S):
            while True:
                line = (await self._answer.content.readline()).decode().rstrip("\n")
                if line.startswith("id: "):
                    cursor = line[4:]
                if line.startswith("data: "):
                    return cursor, json.loads(line[6:])


async def problem(asked: Any) -> tuple[int, dict[str, Any]]:
    async with asked as answer:
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status, json.loads(await answer.read())


async def page(here: Town, query: str = "", key: str = "") -> dict[str, Any]:
    async with here.get(f"/api/v1/events?limit=100{query}", key or None) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = json.loads(await answer.read())
        return found


async def test_a_dropped_stream_resumes_at_the_next_event(here: Town) -> None:
    told = [await tell(here, f"before-{n}") for n in range(3)]
    async with Stream(here) as reader:
        seen = [await reader.next() for _ in range(2)]
    told += [await tell(here, f"meanwhile-{n}") for n in range(2)]
    async with Stream(here, after=seen[-1][0]) as reader:
        seen += [await reader.next() for _ in range(3)]
        told.append(await tell(here, "live"))
        seen.append(await reader.next())
    assert [event["id"] for _, event in seen] == told
    assert len({cursor for cursor, _ in seen}) == len(told)


async def test_a_tenant_sees_only_its_own_and_an_admin_all_or_one(here: Town) -> None:
    admin = drawn_key("admin")
    await here.put_key(admin, role="admin", organization=None, project=None, project_name=None)
    await here.knows(admin)
    ours, theirs = await tell(here, "ours"), await tell(here, "theirs", THEIRS)
    await kept(here, 2)
    assert [item["id"] for item in (await page(here))["items"]] == [ours]
    assert [item["id"] for item in (await page(here, f"&project={THEIRS}"))["items"]] == []
    assert [item["id"] for item in (await page(here, key=admin))["items"]] == [ours, theirs]
    one = await page(here, f"&project={THEIRS}", key=admin)
    assert [item["id"] for item in one["items"]] == [theirs]
    async with Stream(here) as reader:
        assert (await reader.next())[1]["id"] == ours
        later = await tell(here, "ours again")
        assert (await reader.next())[1]["id"] == later


async def test_pages_join_without_a_gap_and_types_choose(here: Town) -> None:
    told = [await tell(here, f"e{n}") for n in range(5)]
    await kept(here, 5)
    got: list[str] = []
    after = ""
    for _ in range(5):
        async with here.get(f"/api/v1/events?limit=2{after}") as answer:
            found = json.loads(await answer.read())
        got += [item["id"] for item in found["items"]]
        if found["next"] is None:
            break
        after = f"&after={found['next']}"
    assert got == told
    assert (await page(here, f"&after={found['cursor']}"))["items"] == []
    assert (await page(here, "&types=placement.*"))["items"] == []
    assert len((await page(here, "&types=identity.project.admitted/1"))["items"]) == 5


async def test_a_cursor_that_is_not_ours_or_too_old_is_refused_with_where_to_go_on(here: Town) -> None:
    for n in range(3):
        await tell(here, f"e{n}")
    await kept(here, 3)
    async with here.get("/api/v1/events?limit=1") as answer:
        early = json.loads(await answer.read())["cursor"]
    status, said = await problem(here.get("/api/v1/events?after=AAAA&limit=1"))
    assert (status, said["code"]) == (400, "invalid_cursor")
    await here.bus.connection.request("$JS.API.STREAM.PURGE.EVENTS", b'{"seq":3}')
    assert here.door.events is not None
    here.door.events._ring._ring.clear()
    status, said = await problem(here.get(f"/api/v1/events?after={early}&limit=1"))
    assert (status, said["code"]) == (410, "cursor_expired")
    first = said["reasons"][0]["cursor"]
    assert len((await page(here, f"&after={first}"))["items"]) == 1


async def test_bad_questions_are_named(here: Town) -> None:
    for query, param in (("limit=0", "limit"), ("sort=x", "sort"), ("project=rest&limit=1", "project")):
        status, said = await problem(here.get(f"/api/v1/events?{query}"))
        assert (status, said["param"]) == (422, param)
    status, said = await problem(here.get("/api/v1/events", key="nothing"))
    assert (status, said["code"]) == (401, "invalid_api_key")


async def test_readers_are_bounded_and_leave_nothing_behind(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = here.door.events
    monkeypatch.setattr(door, "_subscribers_max", 2)
    async with Stream(here), Stream(here):
        await until(lambda: door.readers == 2)
        status, said = await problem(here.get("/api/v1/events", accept="text/event-stream"))
        assert (status, said["code"]) == (503, "too_many_readers")
    await until(lambda: door.readers == 0)


async def test_a_reader_whose_key_is_revoked_is_shut_out(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    async with here.get("/api/v1/events", accept="text/event-stream") as answer:
        assert (await answer.content.readline()).startswith(b":")
        await here.put_key(here.key, revoked=True)
        async with asyncio.timeout(WITHIN_S):
            while await answer.content.readline():
                pass


async def test_a_quiet_stream_beats_and_moves_the_cursor_past_what_is_not_seen(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    await tell(here, "theirs", THEIRS)
    await kept(here, 1)
    async with here.get("/api/v1/events", accept="text/event-stream") as answer:
        async with asyncio.timeout(WITHIN_S):
            lines: list[bytes] = []
            while not any(line.startswith(b"id: ") for line in lines):
                lines.append(await answer.content.readline())
            assert b"heartbeat" in await answer.content.readline()
    mine = await tell(here, "mine")
    async with Stream(here, after=lines[-1][4:].decode().strip()) as reader:
        assert (await reader.next())[1]["id"] == mine


async def test_a_stream_goes_on_after_the_bus_was_away(here: Town, nats_server: NatsServer) -> None:
    first = await tell(here, "first")
    async with Stream(here) as reader:
        assert (await reader.next())[1]["id"] == first
        nats_server.kill()
        nats_server.start()
        second = await tell(here, "second")
        assert (await reader.next())[1]["id"] == second


async def test_more_events_than_memory_holds_are_read_from_the_stream(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventring.EventRing.__init__, "__defaults__", (3,))
    async with town(tmp_path, nats_server.url) as here:
        told = [await tell(here, f"e{n}") for n in range(10)]
        await kept(here, 10)
        async with Stream(here) as reader:
            assert [(await reader.next())[1]["id"] for _ in told] == told
