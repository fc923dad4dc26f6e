"""From HTTP to an ask and back: who asks, what, and the typed answer or problem."""

from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from mesh_contracts import wire
from mesh_contracts.ask import Ask, Page, Principal, Problem
from mesh_contracts.identity import AccessEntry
from meshkit import semconv
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.telemetry import SpanKind, edge_parent, span

from inference_gateway.access import Access
from inference_gateway.domain.faults import Fault
from inference_gateway.http.principals import principal_of
from inference_gateway.http.problems import Refused, from_fault, invalid, refused

ASK_WAIT_S = 5.0
IDEMPOTENCY_KEY_CHARS_MAX = 255
BODY_BYTES_MAX = 256 * 1024
"""A body under ``/api``."""

LIMIT_MAX = 1_000
NO_PARAMETERS = frozenset({"self", "request", "asker", "data"})
"""What a handler takes that is not said in a path or a query."""

AnyRequest = Request[Any, Any, Any]


class Caller(msgspec.Struct, frozen=True):
    """Who makes a request: the principal for asks, and the key's entry."""

    principal: Principal
    entry: AccessEntry

    @property
    def operator(self) -> bool:
        """Whether every project is this caller's to see."""
        return self.principal.sees(None)


class Asker:
    """Asks owners on behalf of callers."""

    def __init__(self, bus: Bus, access: Access, clock: Clock, site: str) -> None:
        self.bus = bus
        self.site = site
        self._access = access
        self._clock = clock

    def caller_of(self, request: AnyRequest) -> Caller:
        """Return who makes the request. Raises ``Refused`` (401, 503)."""
        entry = self._access.entry_of(request.headers.get("authorization"))
        if isinstance(entry, Fault):
            raise from_fault(entry)
        return Caller(principal_of(entry, self._clock.now()), entry)

    def admit(self, request: AnyRequest) -> None:
        """Refuse whom no key opens to, and a parameter that the path does not take, before a body is read."""
        self.caller_of(request)
        taken = request.route_handler.parsed_fn_signature.parameters.keys()
        known = taken - NO_PARAMETERS - request.path_params.keys()
        for name in request.query_params:
            if name not in known:
                there = f"there are {', '.join(sorted(known))}" if known else "there are none here"
                raise refused(
                    422,
                    "unknown_field",
                    "Invalid request",
                    f"There is no parameter '{name[:40]}'; {there}.",
                    param=name[:40],
                )

    async def __call__(
        self,
        request: AnyRequest,
        kind: type[Ask],
        *,
        owner: str | None = None,
        within_s: float = ASK_WAIT_S,
        **fields: Any,
    ) -> Any:
        """Return the owner's answer. Raises ``Refused`` with the problem where there is none."""
        caller = self.caller_of(request)
        route = str(request.scope.get("path_template") or request.scope["path"])
        parent = edge_parent(request.headers.get("traceparent"))
        attributes = {semconv.HTTP_REQUEST_METHOD: request.method, semconv.HTTP_ROUTE: route}
        name = f"{request.method} {route}"
        with span(name, kind=SpanKind.SERVER, parent=parent, attributes=attributes) as seen:
            key = idempotency_key(request) if kind.changes else None
            envelope = self.bus.wish(caller.principal, timeout_s=within_s, idempotency_key=key)
            ask = checked(kind(**envelope, **fields))
            answer = await self.bus.ask(ask, owner=owner)
            if isinstance(answer, Problem):
                seen.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, answer.status)
                seen.set_attribute(semconv.ERROR_TYPE, answer.code)
                raise Refused(answer)
            return answer


def checked(ask: Ask) -> Ask:
    """Return an ask whose fields keep their bounds. Raises ``Refused`` (422) naming the one that does not."""
    try:
        return wire.decode(wire.encode(ask), type(ask))
    except msgspec.ValidationError as fault:
        raise invalid(fault) from fault


def idempotency_key(request: AnyRequest) -> str | None:
    """Return the client's idempotency key. Raises ``Refused`` for one that is too long."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= IDEMPOTENCY_KEY_CHARS_MAX:
        raise refused(
            422,
            "invalid_idempotency_key",
            "Invalid request",
            f"Idempotency-Key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters.",
            param="Idempotency-Key",
        )
    return key


def project_of(request: AnyRequest, asker: Asker, named: str | None) -> str:
    """Return the project that is meant: the one named, else that of the caller's key. Raises ``Refused``."""
    project = named or asker.caller_of(request).entry.project
    if project is None:
        raise refused(
            422,
            "missing_field",
            "Invalid request",
            "Name the 'project': your key belongs to none.",
            param="project",
        )
    return project


def generation_of(request: AnyRequest) -> int | None:
    """Return the generation in ``If-Match``. Raises ``Refused`` where it is not one."""
    text = request.headers.get("if-match")
    if text is None:
        return None
    text = text.strip().removeprefix("W/").strip('"')
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise refused(
            422,
            "invalid_if_match",
            "Invalid request",
            "If-Match holds the object's 'generation', as it was last read.",
            param="If-Match",
        )
    return int(text)


def page(limit: int, cursor: str | None) -> Page:
    """Return which part of a list is asked for."""
    return Page(limit=limit, cursor=cursor)


Asking = NamedDependency[Asker]
"""The asker, as handlers get it."""

Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="Items at most.")]
Cursor = Annotated[
    str | None,
    QueryParameter(max_length=512, pattern="^[ -~]*$", description="`next` of the page before."),
]
