"""The whole HTTP application: the hot routes in front, Litestar with everything else behind."""

import re
from collections.abc import Awaitable
from typing import Any

from litestar import Litestar, Router, get
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from mesh_contracts.units import Wide, dec_hook, new_id
from meshkit.telemetry import METRICS

from inference_gateway.domain.faults import unavailable
from inference_gateway.http.api import asking, fleet, ledgers, limits, logs, sites, tenants, work
from inference_gateway.http.documents import DOCUMENTS, Described, WideSchema
from inference_gateway.http.events import PATH, EventDoor, send_problem
from inference_gateway.http.openai import Doors
from inference_gateway.http.problems import (
    Refused,
    from_fault,
    on_http,
    on_late,
    on_refused,
    on_unforeseen,
    on_unreadable,
)
from inference_gateway.http.wire import BodyLate, Receive, Scope, Send, in_time, own_headers, send_fault

VERBS = re.compile(
    r"^(/api/v1/(?:nodes|sites|dead-letters)/.+):(cordon|drain|return|check|move|rearm|redrive)$"
)
"""``/nodes/n1:cordon`` reads as people write it, and is routed as ``/nodes/n1/cordon``."""


@get("/healthz", include_in_schema=False)
async def healthz() -> dict[str, str]:
    """Say that the door is open."""
    return {"status": "ok"}


def api(asker: asking.Asker) -> Litestar:
    """Return everything but the hot routes and the event stream."""

    async def admit(request: asking.AnyRequest) -> None:
        asker.admit(request)

    routes = Router(
        "/api/v1",
        route_handlers=[
            tenants.Organizations,
            tenants.Projects,
            tenants.Keys,
            tenants.JoinTokens,
            sites.Sites,
            fleet.Nodes,
            fleet.Endpoints,
            fleet.explain,
            work.Jobs,
            work.Leases,
            work.Quotas,
            logs.Workloads,
            fleet.Letters,
            ledgers.Requests,
            ledgers.list_usage,
            ledgers.list_prices,
            ledgers.Carbon,
            limits.Budgets,
            limits.Limits,
            limits.Holdings,
        ],
        before_request=admit,
    )
    return Litestar(
        [routes, healthz, *DOCUMENTS],
        dependencies={"asker": Provide(lambda: asker, sync_to_thread=False)},
        exception_handlers={
            Refused: on_refused,
            HTTPException: on_http,
            BodyLate: on_late,
            UnicodeDecodeError: on_unreadable,
            RecursionError: on_unreadable,
            500: on_unforeseen,
        },
        type_encoders={Wide: str},
        type_decoders=[(lambda kind: kind is Wide, dec_hook)],
        openapi_config=OpenAPIConfig(
            title="Compute Mesh",
            version="1",
            description="From racks of GPU servers to tokens, with the meter and the carbon ledger built in.",
            # Its own folder: there the framework answers what is not found with a page of its own.
            path="/openapi.json",
            render_plugins=[Described()],
            use_handler_docstrings=True,
        ),
        plugins=[WideSchema()],
        logging_config=None,
        request_max_body_size=asking.BODY_BYTES_MAX,
    )


class Porch:
    """What answers from the first moment: 503 until the door behind it is open."""

    def __init__(self) -> None:
        self.front: Front | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        if self.front is not None:
            return self.front(scope, receive, send)
        return self._starting(scope, send)

    async def _starting(self, scope: Scope, send: Send) -> None:
        said = "The gateway has just started and knows no keys yet. Try again."
        fault = unavailable("gateway_starting", said)
        headers = own_headers(dict(scope["headers"]), new_id("request"))
        if scope["path"].startswith("/v1/"):
            await send_fault(send, fault, headers)
        else:
            await send_problem(send, from_fault(fault).problem, headers)


class Front:
    """Sends the hot routes past the framework; gives every other answer its request id."""

    def __init__(self, door: Doors, events: EventDoor, behind: Litestar) -> None:
        self._door = door
        self._events = events
        self._behind: Any = behind

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        if scope["path"].startswith("/v1/"):
            return self._door(scope, receive, send)
        return self._other(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        headers = own_headers(dict(scope["headers"]), new_id("request"))
        if path == PATH:
            await self._events(scope, receive, send, headers)
            return
        spoken = VERBS.match(path) if scope["method"] == "POST" else None
        if spoken is not None:
            way = f"{spoken[1]}/{spoken[2]}"
            scope = {**scope, "path": way, "raw_path": way.encode()}

        async def signed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *headers]
                # The template, never the path: people may ask for any path.
                route = str(scope.get("path_template") or "other")
                METRICS.count(
                    "mesh_gateway_api_requests_total", route=route, status=str(message["status"])
                )
            await send(message)

        await self._behind(scope, in_time(receive), signed)
