"""Refusals under ``/api``: RFC 9457 problem+json, always with a code and what to do."""

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from mesh_contracts import wire
from mesh_contracts.ask import Problem
from mesh_contracts.units import ID_PATTERN, NAME_PATTERN, SITE_PATTERN

from inference_gateway.domain.faults import Fault
from inference_gateway.http.wire import body_late

PROBLEM_JSON = "application/problem+json"
PATTERNS = {
    ID_PATTERN: "an id, like `request_01a21cc3-55ed-7ff9-909f-b8d91624e3b1`",
    NAME_PATTERN: "a name: 1 to 63 lower-case letters, digits, dots and dashes, the first and last no dot or dash",
    SITE_PATTERN: "a site: 1 to 32 lower-case letters, digits and dashes, the first and last no dash",
}
"""What people call what a pattern takes."""


class Refused(Exception):
    """A request that is answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


def refused(
    status: int, code: str, title: str, detail: str, *, param: str | None = None, **more: Any
) -> Refused:
    """Return a refusal to raise."""
    return Refused(Problem(title=title, status=status, code=code, detail=detail, param=param, **more))


def from_fault(fault: Fault) -> Refused:
    """Return the same refusal in this door's words."""
    titles = {401: "Not authenticated", 403: "Not permitted", 408: "Too late", 503: "Unavailable"}
    return refused(
        fault.status,
        fault.code,
        titles.get(fault.status, "Refused"),
        fault.message,
        retry_after_s=fault.retry_after_s,
    )


def as_response(problem: Problem) -> Response[bytes]:
    """Return a problem as it is sent."""
    headers = {}
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(problem.retry_after_s)
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(
        wire.encode(problem), status_code=problem.status, media_type=PROBLEM_JSON, headers=headers
    )


def on_refused(_: Request[Any, Any, Any], fault: Refused) -> Response[bytes]:
    """Answer with the problem that was raised."""
    return as_response(fault.problem)


def on_http(request: Request[Any, Any, Any], fault: HTTPException) -> Response[bytes]:
    """Answer what the framework refuses, in the same form."""
    if isinstance(fault, NotFoundException):
        problem = Problem(
            title="No such path",
            status=404,
            code="unknown_path",
            detail=f"There is nothing at {request.scope['path'][:200]}; see /openapi.json.",
        )
    elif isinstance(fault, MethodNotAllowedException):
        problem = Problem(
            title="Method not allowed",
            status=405,
            code="method_not_allowed",
            detail=f"{request.method} does nothing here; see /openapi.json.",
        )
    elif isinstance(fault, ValidationException):
        problem = _invalid(fault)
    else:
        problem = Problem(
            title="Refused",
            status=fault.status_code,
            code="refused",
            detail=f"{fault.detail or 'The request was refused'}; see /openapi.json.",
        )
    return as_response(problem)


def on_unreadable(_: Request[Any, Any, Any], __: Exception) -> Response[bytes]:
    """Answer a body whose bytes are no text, or that is nested without end."""
    detail = (
        "The body is not JSON that can be read here. Send a JSON object in UTF-8; see /openapi.json."
    )
    return as_response(Problem(title="Not JSON", status=400, code="invalid_json", detail=detail))


def on_late(_: Request[Any, Any, Any], __: Exception) -> Response[bytes]:
    """Answer whose body did not arrive in time; its rest is not waited for."""
    response = as_response(from_fault(body_late()).problem)
    response.headers["connection"] = "close"
    return response


def on_unforeseen(_: Request[Any, Any, Any], fault: Exception) -> Response[bytes]:
    """Answer our own mistake without showing it."""
    if isinstance(fault, InternalServerException) and "disconnected" in str(fault.detail):
        # The client left within its body: there is nobody to answer, and nothing of ours is wrong.
        return as_response(from_fault(body_late()).problem)
    import logging  # noqa: PLC0415 - only on this road

    logging.getLogger(__name__).error("unforeseen", exc_info=fault)
    return as_response(
        Problem(
            title="Our mistake",
            status=500,
            code="internal",
            detail="Something went wrong here; the operator's log says what. Try again.",
        )
    )


def invalid(fault: msgspec.ValidationError) -> Refused:
    """Return the refusal of a field that is out of bounds, named."""
    what, _, path = str(fault).partition(" - at `$")
    return Refused(_wrong(what, path.strip("`").lstrip("."), "request"))


def _invalid(fault: ValidationException) -> Problem:
    extra = fault.extra if isinstance(fault.extra, list) else []
    named = [entry for entry in extra if isinstance(entry, dict)]
    if not named:
        return _wrong(str(fault.detail), "", "request")
    key = str(named[0].get("key") or "")
    # The framework calls the whole body ``data``.
    where = key.removeprefix("data").lstrip(".")
    return _wrong(
        str(named[0].get("message")),
        where,
        str(named[0].get("source") or "body").rpartition(".")[2].lower(),
    )


def _wrong(what: str, where: str, part: str) -> Problem:
    unknown = "unknown field" in what
    param = where
    if unknown or "missing required field" in what:
        param = f"{where + '.' if where else ''}{what.split('`')[1]}"
    at = f" at {where}" if where else ""
    for pattern, meant in PATTERNS.items():
        what = what.replace(f"`str` matching regex {pattern!r}", meant)
    return Problem(
        title="Invalid request",
        status=422,
        code="unknown_field" if unknown else "invalid_field",
        detail=f"{what}{at} ({part}). Correct it; see /openapi.json.",
        param=param or None,
    )
