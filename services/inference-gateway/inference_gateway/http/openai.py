"""The hot routes under ``/v1``: one raw ASGI callable, decided from memory, asking nobody but the engine."""

from typing import Any

import msgspec
from mesh_contracts.inference import UsageRow
from mesh_contracts.units import new_id
from meshkit import semconv
from meshkit.telemetry import Sampler, SpanKind, edge_parent, span, traceparent, unkept

from inference_gateway.call import Call
from inference_gateway.domain.dialects import tokenize
from inference_gateway.domain.faults import Fault
from inference_gateway.domain.records import Opening
from inference_gateway.http.counting import Counting
from inference_gateway.http.deciding import DOORS, Admitted, Deciding, Door
from inference_gateway.http.models import Models
from inference_gateway.http.wire import (
    HOOKS,
    ClientLeft,
    Headers,
    Hooks,
    Receive,
    Scope,
    Send,
    fault_headers,
    header,
    own_headers,
    send_whole,
)
from inference_gateway.recording import Recording
from inference_gateway.reply import Reply, Spoken
from inference_gateway.room import Room
from inference_gateway.settings import TRACES_PER_S_MAX

VERSION = (b"openai-version", b"2020-10-01")
"""The version of the interface that clients know."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """An admitted request, and what its answer begins with."""

    request_id: str
    door: Door
    admitted: Admitted
    headers: Headers
    began: float


class Doors:
    """The OpenAI-compatible doors: keys, routes and limits from memory, engines over HTTP."""

    def __init__(self, room: Room, deciding: Deciding) -> None:
        self._room = room
        self._deciding = deciding
        self._models = Models(room.directory, deciding)
        self._counting = Counting(room, deciding)
        self._time = room.lines.loop.time
        self._sampler = Sampler(TRACES_PER_S_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request under ``/v1``."""
        began = self._time()
        request_id = new_id("request")
        given: dict[bytes, bytes] = dict(scope["headers"])
        headers = own_headers(given, request_id)
        path: str = scope["path"]
        door = DOORS.get(path)
        if door is None:
            if path in {tokenize.PATH, tokenize.COUNT_PATH}:
                await self._counting(scope, given, receive, send, headers)
            else:
                await self._models(scope, given, send, headers)
            return
        headers.append(VERSION)
        if door.dialect is not None and door.dialect.id_header is not None:
            headers.append((door.dialect.id_header, request_id.encode()))
        kept = self._sampler.keeps(began)
        try:
            decided = await self._deciding.decide(scope, given, receive, door)
        except ClientLeft:
            return
        incoming = header(given, b"traceparent")
        if isinstance(decided, Fault):
            tally = self._room.tally
            tally.answered(door.name, decided.status, self._time() - began)
            tally.refused(decided.code)
            if kept:
                _note(door, request_id, decided, edge_parent(incoming, kept=True))
            body = decided.body() if door.dialect is None else door.dialect.refusal(decided, request_id)
            await send_whole(send, decided.status, [*headers, *fault_headers(decided)], body)
            return
        asked = Asked(request_id=request_id, door=door, admitted=decided, headers=headers, began=began)
        if kept:
            await self._seen(scope, send, asked, edge_parent(incoming, kept=True))
        else:
            await self._call(scope, send, asked, unkept(incoming), kept=False)

    async def _seen(self, scope: Scope, send: Send, asked: Asked, parent: str | None) -> None:
        """Answer a request whose trace is kept."""
        door, route = asked.door, asked.admitted.ways[0].route
        attributes: dict[str, Any] = {
            semconv.GEN_AI_OPERATION_NAME: door.name,
            semconv.GEN_AI_REQUEST_MODEL: route.name,
            semconv.HTTP_REQUEST_METHOD: "POST",
            semconv.HTTP_ROUTE: door.path,
            semconv.MESH_REQUEST_ID: asked.request_id,
            semconv.MESH_ENDPOINT_ID: route.endpoint_id,
        }
        with span(
            f"{door.name} {route.name}", kind=SpanKind.SERVER, parent=parent, attributes=attributes
        ) as seen:
            row = await self._call(scope, send, asked, traceparent(), kept=True)
            seen.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, 503 if row is None else row.status)
            if row is None:
                return
            seen.set_attribute(semconv.MESH_OUTCOME, row.state)
            if row.prompt_tokens is not None:
                seen.set_attribute(semconv.GEN_AI_USAGE_INPUT_TOKENS, row.prompt_tokens)
            if row.completion_tokens is not None:
                seen.set_attribute(semconv.GEN_AI_USAGE_OUTPUT_TOKENS, row.completion_tokens)
            if row.reason is not None and row.state != "completed":
                seen.set_attribute(semconv.ERROR_TYPE, row.reason)

    async def _call(
        self, scope: Scope, send: Send, asked: Asked, trace: str | None, *, kept: bool
    ) -> UsageRow | None:
        room, admitted = self._room, asked.admitted
        entry, route = admitted.entry, admitted.ways[0].route
        assert entry.project is not None
        assert entry.organization is not None
        opening = Opening(
            request_id=asked.request_id,
            organization=entry.organization,
            project=entry.project,
            key_id=entry.key_id,
            endpoint_id=route.endpoint_id,
            model=route.name,
            route=asked.door.path,
            streamed=admitted.wanted.stream,
            started_at=admitted.at,
            traceparent=trace,
            admitted_epoch=room.meter.epoch,
        )
        recording = Recording(room.meter, room.clock, opening, began=asked.began)
        call = Call(room, asked.door, admitted, recording, kept=kept)
        hooks: Hooks | None = scope.get(HOOKS)
        if hooks is not None:
            hooks.leaving(call.left)
        row = await call.run(self._reply(asked, send, call, hooks))
        status = 503 if row is None else row.status
        room.tally.answered(asked.door.name, status, self._time() - asked.began)
        if row is not None:
            room.tally.used(row)
        return row

    def _reply(self, asked: Asked, send: Send, call: Call, hooks: Hooks | None) -> Reply:
        admitted, dialect = asked.admitted, asked.door.dialect
        headers = asked.headers
        assert admitted.entry.organization is not None
        headers.append((b"openai-organization", admitted.entry.organization.encode()))
        headers += admitted.held.headers()
        if dialect is None:
            return Reply(send, headers, call.wait_for_client, hooks=hooks)
        return Spoken(
            send,
            headers,
            call.wait_for_client,
            hooks=hooks,
            dialect=dialect,
            asked=admitted.asked,
            name=admitted.wanted.model,
            request_id=asked.request_id,
            now_s=int(admitted.at.timestamp()),
        )


def _note(door: Door, request_id: str, fault: Fault, parent: str | None) -> None:
    """Leave a span of a request that was not admitted."""
    with span(f"POST {door.path}", kind=SpanKind.SERVER, parent=parent) as seen:
        seen.set_attribute(semconv.MESH_REQUEST_ID, request_id)
        seen.set_attribute(semconv.HTTP_ROUTE, door.path)
        seen.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, fault.status)
        seen.set_attribute(semconv.ERROR_TYPE, fault.code)
