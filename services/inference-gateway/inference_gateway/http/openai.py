"""The hot routes under ``/v1``: raw ASGI, decided from memory, asking nobody but the engine."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from mesh_contracts.identity import AccessEntry
from mesh_contracts.inference import UsageRow
from mesh_contracts.placement import Route
from mesh_contracts.units import new_id
from meshkit import semconv
from meshkit.telemetry import METRICS, Sampler, SpanKind, edge_parent, span, traceparent, unkept

from inference_gateway.access import Access
from inference_gateway.call import Call
from inference_gateway.domain.body import OPERATIONS, Operation, Wanted, read, uncountable, unshortened
from inference_gateway.domain.directory import Directory, no_such_model, not_serving
from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.records import Opening
from inference_gateway.http.wire import (
    JSON,
    LEAVING,
    ClientLeft,
    Headers,
    Receive,
    Scope,
    Send,
    header,
    own_headers,
    read_body,
    send_fault,
    send_whole,
)
from inference_gateway.recording import Recording
from inference_gateway.room import Room
from inference_gateway.settings import TRACES_PER_S_MAX


class Admitted(msgspec.Struct, frozen=True):
    """Who calls, what for, and which endpoint answers."""

    entry: AccessEntry
    wanted: Wanted
    route: Route


class Asked(msgspec.Struct, frozen=True):
    """An admitted request, and what its answer begins with."""

    request_id: str
    operation: Operation
    admitted: Admitted
    headers: Headers
    began: float


class Door:
    """The OpenAI-compatible door: keys and routes from memory, engines over HTTP."""

    def __init__(self, room: Room, access: Access) -> None:
        self._room = room
        self._access = access
        self._loop_time = asyncio.get_running_loop().time
        self._sampler = Sampler(TRACES_PER_S_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request under ``/v1``."""
        began = self._loop_time()
        request_id = new_id("request")
        given: dict[bytes, bytes] = dict(scope["headers"])
        headers = own_headers(given, request_id)
        path: str = scope["path"]
        operation = OPERATIONS.get(path)
        if operation is None:
            await self._models(scope, given, send, headers)
            return
        kept = self._sampler.keeps(began)
        try:
            decided = await self._decide(scope, given, receive, operation)
        except ClientLeft:
            return
        incoming = header(given, b"traceparent")
        if isinstance(decided, Fault):
            tally = self._room.tally
            tally.answered(operation.name, decided.status, self._loop_time() - began)
            tally.refused(decided.code)
            if kept:
                with span(
                    f"POST {path}", kind=SpanKind.SERVER, parent=edge_parent(incoming, kept=True)
                ) as seen:
                    seen.set_attribute(semconv.MESH_REQUEST_ID, request_id)
                    seen.set_attribute(semconv.HTTP_ROUTE, operation.path)
                    seen.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, decided.status)
                    seen.set_attribute(semconv.ERROR_TYPE, decided.code)
            await send_fault(send, decided, headers)
            return
        asked = Asked(request_id, operation, decided, headers, began)
        if kept:
            await self._seen(scope, send, asked, edge_parent(incoming, kept=True))
        else:
            await self._call(scope, send, asked, unkept(incoming), kept=False)

    async def _decide(
        self, scope: Scope, given: dict[bytes, bytes], receive: Receive, operation: Operation
    ) -> "Fault | Admitted":
        if scope["method"] != "POST":
            return Fault(status=405, code="method_not_allowed", message=f"POST to {operation.path}.")
        entry = self._access.project_of(header(given, b"authorization"))
        if isinstance(entry, Fault):
            return entry
        crowded = self._crowded()
        if crowded is not None:
            return crowded
        raw = await read_body(scope, given, receive)
        if isinstance(raw, Fault):
            return raw
        wanted = read(raw, operation)
        if isinstance(wanted, Fault):
            return wanted
        route = _fitting(self._room.directory, entry, wanted, operation)
        return route if isinstance(route, Fault) else Admitted(entry, wanted, route)

    def _crowded(self) -> Fault | None:
        if self._room.calls.closing:
            return unavailable("gateway_stopping", "This gateway is stopping. Send the request again.")
        if self._room.calls.full:
            METRICS.count("mesh_gateway_overloaded_total")
            return unavailable("overloaded", "Too many requests are in progress here. Try again.")
        return None

    async def _seen(self, scope: Scope, send: Send, asked: "Asked", parent: str | None) -> None:
        """Answer a request whose trace is kept."""
        operation, route = asked.operation, asked.admitted.route
        attributes: dict[str, Any] = {
            semconv.GEN_AI_OPERATION_NAME: operation.name,
            semconv.GEN_AI_REQUEST_MODEL: route.name,
            semconv.HTTP_REQUEST_METHOD: "POST",
            semconv.HTTP_ROUTE: operation.path,
            semconv.MESH_REQUEST_ID: asked.request_id,
            semconv.MESH_ENDPOINT_ID: route.endpoint_id,
        }
        with span(
            f"{operation.name} {route.name}", kind=SpanKind.SERVER, parent=parent, attributes=attributes
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
        self, scope: Scope, send: Send, asked: "Asked", trace: str | None, *, kept: bool
    ) -> UsageRow | None:
        room, admitted = self._room, asked.admitted
        entry, route = admitted.entry, admitted.route
        assert entry.project is not None
        assert entry.organization is not None
        opening = Opening(
            request_id=asked.request_id,
            organization=entry.organization,
            project=entry.project,
            key_id=entry.key_id,
            endpoint_id=route.endpoint_id,
            model=route.name,
            route=asked.operation.path,
            streamed=admitted.wanted.stream,
            started_at=room.clock.now(),
            traceparent=trace,
            admitted_epoch=room.meter.epoch,
        )
        recording = Recording(room.meter, room.clock, opening, began=asked.began)
        call = Call(room, asked.operation, admitted.wanted, recording, kept=kept)
        leaving: Callable[[Callable[[], None]], None] | None = scope.get(LEAVING)
        if leaving is not None:
            leaving(call.left)
        row = await call.run(send, asked.headers)
        status = 503 if row is None else row.status
        room.tally.answered(asked.operation.name, status, self._loop_time() - asked.began)
        if row is not None:
            room.tally.used(row)
        return row

    async def _models(
        self, scope: Scope, given: dict[bytes, bytes], send: Send, headers: Headers
    ) -> None:
        path: str = scope["path"]
        entry = self._access.project_of(header(given, b"authorization"))
        if isinstance(entry, Fault):
            await send_fault(send, entry, headers)
            return
        assert entry.project is not None
        listed = path == "/v1/models"
        if not listed and not path.startswith("/v1/models/"):
            await send_fault(send, _no_such_path(path), headers)
            return
        if scope["method"] not in {"GET", "HEAD"}:
            fault = Fault(status=405, code="method_not_allowed", message="GET /v1/models.")
            await send_fault(send, fault, headers)
            return
        if listed:
            found: Any = {
                "object": "list",
                "data": [_model(route) for route in self._room.directory.of(entry.project)],
            }
        else:
            name = path.removeprefix("/v1/models/")
            route = self._room.directory.find(entry.project, name)
            if route is None:
                await send_fault(send, no_such_model(name), headers)
                return
            found = _model(route)
        body = b"" if scope["method"] == "HEAD" else msgspec.json.encode(found)
        await send_whole(send, 200, [*headers, JSON], body)


def _fitting(
    directory: Directory, entry: AccessEntry, wanted: Wanted, operation: Operation
) -> Route | Fault:
    """Return the route of a project's model, where it can answer this operation now."""
    assert entry.project is not None
    route = directory.find(entry.project, wanted.model)
    if route is None or route.state == "stopped":
        return no_such_model(wanted.model)
    if route.embedding != operation.embeds:
        other = "/v1/embeddings" if route.embedding else "/v1/chat/completions"
        return Fault(
            status=422,
            code="wrong_endpoint",
            param="model",
            message=f"The model '{route.name}' is not for {operation.path}; call {other} with it.",
        )
    if not route.replicas:
        return not_serving(route)
    unfit = unshortened if operation.embeds else uncountable
    return unfit(wanted, route.engine) or route


def _model(route: Route) -> dict[str, Any]:
    return {
        "id": route.name,
        "object": "model",
        "created": int(route.created_at.timestamp()),
        "owned_by": route.organization,
        "state": route.state,
        "embedding": route.embedding,
    }


def _no_such_path(path: str) -> Fault:
    known = ", ".join([*OPERATIONS, "/v1/models"])
    return Fault(
        status=404, code="unknown_path", message=f"There is no {path[:80]} here. There are {known}."
    )
