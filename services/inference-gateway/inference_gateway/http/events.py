"""``/api/v1/events``: everything that happened to a tenant, in order, resumable to the event."""

import asyncio
import contextlib
from typing import Any
from urllib.parse import parse_qs

import msgspec
from mesh_contracts.ask import Problem
from mesh_contracts.identity import AccessEntry
from mesh_contracts.units import is_id
from meshkit.errors import Unavailable
from meshkit.telemetry import METRICS

from inference_gateway.access import Access
from inference_gateway.domain.cursors import Place, opened, sealed
from inference_gateway.domain.events import Event, Wish, goes_on
from inference_gateway.domain.faults import Fault
from inference_gateway.eventring import EventRing
from inference_gateway.http.principals import principal_of
from inference_gateway.http.problems import PROBLEM_JSON, Refused, from_fault, refused
from inference_gateway.http.wire import (
    JSON,
    NO_CACHE,
    SSE,
    Headers,
    Receive,
    Scope,
    Send,
    header,
    send_whole,
)
from inference_gateway.settings import CLIENT_STUCK_S, HEARTBEAT_S, SUBSCRIBERS_MAX

PATH = "/api/v1/events"
LIMIT_MAX = 1_000
SCANNED_MAX = 5_000
"""Events looked at for one page; past it the page ends early and says where to go on."""

TYPES_MAX = 32
AWAY_S = 1.0


class EventDoor:
    """Pages and streams of events."""

    def __init__(
        self, ring: EventRing, access: Access, secret: bytes, *, subscribers_max: int = SUBSCRIBERS_MAX
    ) -> None:
        self._ring = ring
        self._access = access
        self._secret = secret
        self._subscribers_max = subscribers_max
        self._readers: set[asyncio.Task[Any]] = set()
        self._closing = False

    @property
    def readers(self) -> int:
        """How many streams are open."""
        return len(self._readers)

    def close(self) -> None:
        """End every stream; readers resume elsewhere with what they have."""
        self._closing = True
        for reader in list(self._readers):
            reader.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Answer one request."""
        try:
            await self._answer(scope, receive, send, headers)
        except Refused as no:
            await send_problem(send, no.problem, headers)
        except Unavailable:
            away = refused(
                503,
                "unavailable",
                "Not available now",
                "Events cannot be read because the bus is away; resume with the same cursor.",
                retry_after_s=2,
            )
            await send_problem(send, away.problem, headers)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        if scope["method"] != "GET":
            raise refused(405, "method_not_allowed", "Method not allowed", f"GET {PATH}.")
        query = {
            name: values[-1]
            for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()
        }
        wish = self._wish(header(dict(scope["headers"]), b"authorization"), query)
        place = await self._place(
            header(dict(scope["headers"]), b"last-event-id") or query.get("after")
        )
        accepts = header(dict(scope["headers"]), b"accept") or "*/*"
        if "text/event-stream" in accepts or ("*/*" in accepts and "limit" not in query):
            await self._stream(scope, receive, send, headers=headers, wish=wish, place=place)
        else:
            page = await self._page(wish, place, _limit(query.get("limit")))
            await send_whole(send, 200, [*headers, JSON, NO_CACHE], msgspec.json.encode(page))

    def _wish(self, authorization: str | None, query: dict[str, str]) -> Wish:
        known = {"after", "limit", "types", "project"}
        for name in query:
            if name not in known:
                raise refused(
                    422,
                    "unknown_field",
                    "Invalid request",
                    f"There is no parameter '{name[:40]}'; there are {', '.join(sorted(known))}.",
                    param=name[:40],
                )
        entry = self._access.entry_of(authorization)
        if isinstance(entry, Fault):
            raise from_fault(entry)
        principal = principal_of(entry, self._access.now())
        if not principal.may("event.read"):
            raise refused(
                403, "forbidden", "Not permitted", "Your key's role lacks the permission event.read."
            )
        types = tuple(kind for kind in query.get("types", "").split(",") if kind)
        project = query.get("project")
        if project is not None and not is_id(project, "project"):
            named = entry.project_name == project
            project = entry.project if named else project
            if not named:
                raise refused(
                    422,
                    "invalid_field",
                    "Invalid request",
                    "'project' is a project's id (GET /api/v1/projects lists them).",
                    param="project",
                )
        return Wish(principal, project, types[:TYPES_MAX])

    async def _place(self, cursor: str | None) -> Place:
        """Return where to begin. Raises ``Refused``: 400 (not ours), 410 (no longer kept)."""
        if not cursor:
            return Place(0)
        place = opened(cursor, self._secret)
        if place is None:
            raise refused(
                400,
                "invalid_cursor",
                "Not a cursor",
                "The cursor was not given by this mesh. Begin without one, or with an event's id.",
                param="after",
            )
        found = await self._ring.at(max(place.sequence, 1))
        if not goes_on(place, found):
            first = await self._ring.at(1)
            first_cursor = self._sealed(Place(first.sequence - 1 if first else 0))
            raise refused(
                410,
                "cursor_expired",
                "Events were missed",
                "Events after this cursor are no longer kept. Read your state anew, then go on with "
                f"the first cursor that is available: {first_cursor}",
                reasons=[{"code": "first_available", "cursor": first_cursor}],
            )
        return place

    async def _page(self, wish: Wish, place: Place, limit: int) -> dict[str, Any]:
        items: list[msgspec.Raw] = []
        more = False
        for _ in range(SCANNED_MAX):
            event = await self._ring.at(place.sequence + 1)
            if event is None:
                break
            if wish.takes(event):
                if len(items) == limit:
                    more = True
                    break
                items.append(msgspec.Raw(event.data))
            place = event.place
        else:
            more = True
        cursor = self._sealed(place)
        return {"items": items, "next": cursor if more else None, "cursor": cursor}

    async def _stream(
        self, scope: Scope, receive: Receive, send: Send, *, headers: Headers, wish: Wish, place: Place
    ) -> None:
        if self._closing or len(self._readers) >= self._subscribers_max:
            raise refused(
                503,
                "too_many_readers",
                "Too many readers",
                "Too many event streams are open here. Try again, or read pages with ?limit=.",
                retry_after_s=5,
            )
        authorization = header(dict(scope["headers"]), b"authorization")
        reading = asyncio.create_task(
            self._send_events(send, headers, wish, place=place, authorization=authorization)
        )
        leaving = asyncio.create_task(_left(receive))
        self._readers.add(reading)
        METRICS.set("mesh_gateway_event_readers", len(self._readers))
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._readers.discard(reading)
            METRICS.set("mesh_gateway_event_readers", len(self._readers))
            for task in (reading, leaving):
                task.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b""})

    async def _send_events(
        self, send: Send, headers: Headers, wish: Wish, *, place: Place, authorization: str | None
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, SSE, NO_CACHE]})
        await _said(send, b": events follow\n\n")
        shown, look = place, True
        while True:
            bell = self._ring.bell()
            event = await self._next(place, look=look)
            if event is not None:
                place = event.place
                if wish.takes(event):
                    shown = place
                    cursor = self._sealed(place).encode()
                    await _said(send, b"id: " + cursor + b"\ndata: " + event.data + b"\n\n")
                continue
            # Who hears the bell need not ask the stream; after a silence the stream is asked all the same.
            look = not await _rings(bell, HEARTBEAT_S)
            if look:
                if not isinstance(self._access.entry_of(authorization), AccessEntry):
                    return
                # A reader that sees little still learns how far it has come.
                ahead = place != shown
                beat = b"id: " + self._sealed(place).encode() + b"\n" if ahead else b""
                shown = place
                await _said(send, beat + b": heartbeat\n\n")

    async def _next(self, place: Place, *, look: bool) -> Event | None:
        try:
            return await self._ring.at(place.sequence + 1, look=look)
        except Unavailable:
            await asyncio.sleep(AWAY_S)
            return None

    def _sealed(self, place: Place) -> str:
        return sealed(place, self._secret)


async def _said(send: Send, said: bytes) -> None:
    async with asyncio.timeout(CLIENT_STUCK_S):
        await send({"type": "http.response.body", "body": said, "more_body": True})


async def _rings(bell: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await bell.wait()
    except TimeoutError:
        return False


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _limit(text: str | None) -> int:
    if text is None:
        return 100
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIMIT_MAX:
        raise refused(
            422,
            "invalid_field",
            "Invalid request",
            f"'limit' is 1 to {LIMIT_MAX}.",
            param="limit",
        )
    return int(text)


async def send_problem(send: Send, problem: Problem, headers: Headers) -> None:
    """Send a problem without the framework."""
    more: Headers = [(b"content-type", PROBLEM_JSON.encode())]
    if problem.retry_after_s is not None:
        more.append((b"retry-after", str(problem.retry_after_s).encode()))
    if problem.status == 401:
        more.append((b"www-authenticate", b"Bearer"))
    await send_whole(send, problem.status, [*headers, *more], msgspec.json.encode(problem))
