"""Whether a request under ``/v1`` comes in: its key, its body, its model, its limits. From memory, without a wait.

Only the body may have to be waited for.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec
from mesh_contracts.identity import AccessEntry
from mesh_contracts.placement import Route

from inference_gateway.access import Access
from inference_gateway.domain.admission import Held, upper_bound
from inference_gateway.domain.body import (
    CHAT,
    OPERATIONS,
    Operation,
    Wanted,
    read,
    uncountable,
    unshortened,
)
from inference_gateway.domain.dialects import DIALECTS, Dialect
from inference_gateway.domain.directory import no_such_model, not_serving
from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.names import Way
from inference_gateway.http.wire import Receive, Scope, header, read_body
from inference_gateway.room import Room


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """One of the hot routes: what it does, and in which shape it speaks, where that is not the engine's own."""

    path: str
    name: str
    operation: Operation
    dialect: Dialect | None = None


DOORS = {
    **{
        path: Door(path=path, name=operation.name, operation=operation)
        for path, operation in OPERATIONS.items()
    },
    **{
        path: Door(path=path, name=dialect.name, operation=CHAT, dialect=dialect)
        for path, dialect in DIALECTS.items()
    },
}


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, what for, which ways it may go, and what is held of the limits until it ends."""

    entry: AccessEntry
    wanted: Wanted
    ways: tuple[Way, ...]
    held: Held
    at: datetime
    asked: bytes
    """The body as the client sent it, in the shape of its door."""


class Deciding:
    """Decides with what the room knows; ``chance`` draws among endpoints that share a name."""

    def __init__(self, room: Room, access: Access, chance: Callable[[], float]) -> None:
        self._room = room
        self._access = access
        self._chance = chance
        self._time = room.lines.loop.time

    def key_of(self, given: dict[bytes, bytes], dialect: Dialect | None) -> AccessEntry | Fault:
        """Return what the request's key opens, wherever its clients put the key."""
        authorization = header(given, b"authorization")
        if authorization is None and dialect is not None and dialect.key_header is not None:
            key = header(given, dialect.key_header)
            authorization = None if key is None else f"Bearer {key}"
        return self._access.project_of(authorization)

    async def let_in(
        self,
        scope: Scope,
        given: dict[bytes, bytes],
        receive: Receive,
        dialect: Dialect | None = None,
    ) -> tuple[AccessEntry, bytes] | Fault:
        """Return who calls and the whole body, or why it is not read. Raises ``ClientLeft``."""
        if scope["method"] != "POST":
            return Fault(status=405, code="method_not_allowed", message=f"POST to {scope['path']}.")
        entry = self.key_of(given, dialect)
        if isinstance(entry, Fault):
            return entry
        crowded = self._crowded()
        if crowded is not None:
            return crowded
        body = await read_body(scope, given, receive)
        return body if isinstance(body, Fault) else (entry, body)

    async def decide(
        self, scope: Scope, given: dict[bytes, bytes], receive: Receive, door: Door
    ) -> Admitted | Fault:
        """Return what was admitted, or why nothing was. Raises ``ClientLeft``."""
        came = await self.let_in(scope, given, receive, door.dialect)
        if isinstance(came, Fault):
            return came
        entry, asked = came
        body = asked if door.dialect is None else door.dialect.read(asked)
        if isinstance(body, Fault):
            return body
        wanted = read(body, door.operation)
        if isinstance(wanted, Fault):
            return wanted
        return self._admit(entry, wanted, door.operation, asked)

    def _crowded(self) -> Fault | None:
        """Return why nobody comes in now, whoever it is."""
        if self._room.calls.closing:
            return unavailable("gateway_stopping", "This gateway is stopping. Send the request again.")
        if self._room.calls.full:
            self._room.tally.crowded()
            return unavailable("overloaded", "Too many requests are in progress here. Try again.")
        return None

    def _admit(
        self, entry: AccessEntry, wanted: Wanted, operation: Operation, asked: bytes
    ) -> Admitted | Fault:
        room = self._room
        assert entry.project is not None
        assert entry.organization is not None
        ways = room.directory.resolve(
            entry.project, wanted.model, session=wanted.session, chance=self._chance()
        )
        unfit = fitting(ways, wanted, operation)
        if unfit is not None:
            return unfit
        at = room.clock.now()
        held = admitted(room, entry, wanted, operation=operation, route=ways[0].route, at=at)
        if isinstance(held, Fault):
            return held
        return Admitted(entry=entry, wanted=wanted, ways=ways, held=held, at=at, asked=asked)

    def route_of(self, entry: AccessEntry, model: str) -> Route | Fault:
        """Return the route of a project's model, where anything could answer for it."""
        assert entry.project is not None
        ways = self._room.directory.resolve(entry.project, model, chance=self._chance())
        if not ways or ways[0].route.state == "stopped":
            return no_such_model(model)
        return ways[0].route


def admitted(
    room: Room,
    entry: AccessEntry,
    wanted: Wanted,
    *,
    operation: Operation,
    route: Route,
    at: datetime,
) -> Held | Fault:
    """Count a request in at its organisation, project, key and endpoint; or say why not."""
    assert entry.project is not None
    assert entry.organization is not None
    estimate = upper_bound(wanted.body, wanted.fields, route.routing, operation, wanted.prompts)
    return room.admission.admit(
        scopes=(entry.organization, entry.project, entry.key_id, route.endpoint_id),
        model=route.name,
        estimate=estimate,
        now=room.lines.loop.time(),
        at=at,
    )


def fitting(ways: tuple[Way, ...], wanted: Wanted, operation: Operation) -> Fault | None:
    """Return why no way can answer this operation, or nothing where one may."""
    if not ways or ways[0].route.state == "stopped":
        return no_such_model(wanted.model)
    route = ways[0].route
    if route.embedding != operation.embeds:
        other = "/v1/embeddings" if route.embedding else "/v1/chat/completions"
        return Fault(
            status=422,
            code="wrong_endpoint",
            param="model",
            message=f"The model '{route.name}' is not for {operation.path}; call {other} with it.",
        )
    if not route.replicas and not route.wakes and len(ways) == 1:
        return not_serving(route)
    unfit = unshortened if operation.embeds else uncountable
    return unfit(wanted, route.engine)
