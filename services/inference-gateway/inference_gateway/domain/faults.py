"""Why a request under ``/v1`` is refused, in the words that OpenAI's clients read."""

from typing import Any

import msgspec

INVALID = "invalid_request_error"

UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What is raised for JSON that is none: of another shape, nested without end, or no UTF-8."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An expected no: its HTTP status, a stable code, and what to do.

    ``retry_after_ms`` is the same as ``retry_after_s``, finer, and wins where both are there.
    ``should_retry`` overrules what a client makes of the status; absent leaves it to the client.
    ``headers`` say more, as what is left of a limit.
    """

    status: int
    code: str
    message: str
    type: str = INVALID
    param: str | None = None
    retry_after_s: int | None = None
    retry_after_ms: int | None = None
    should_retry: bool | None = None
    headers: list[tuple[bytes, bytes]] = []
    reasons: list[Any] = []

    def body(self) -> bytes:
        """Return OpenAI's error envelope; ``reasons`` are ours, and only there where there are any."""
        said: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        if self.reasons:
            said["reasons"] = self.reasons
        return msgspec.json.encode({"error": said})


def invalid_json() -> Fault:
    """Return the refusal of a body that cannot be read at all."""
    return Fault(
        status=400,
        code="invalid_json",
        message="The body is not JSON. Send a JSON object with 'content-type: application/json'.",
    )


def wrong_field(said: str) -> Fault:
    """Return the refusal of a field that is missing or of another type; ``said`` is msgspec's complaint."""
    what, _, where = said.partition(" - at `$")
    param = where.strip("`").lstrip(".") or None
    if "missing required field" in what:
        param = f"{param + '.' if param else ''}{what.split('`')[1]}"
    return Fault(
        status=422,
        code="invalid_field",
        param=param,
        message=f"{what}{f' at {param}' if param else ''}. Correct the field and send the request again.",
    )


def invalid_key(why: str) -> Fault:
    """Return the refusal of a key."""
    return Fault(
        status=401,
        code="invalid_api_key",
        type="authentication_error",
        message=f"{why} Send 'Authorization: Bearer <key>' with a key of your project.",
    )


def unavailable(
    code: str, message: str, *, retry_after_s: int = 1, reasons: list[Any] | None = None
) -> Fault:
    """Return a refusal that may not last."""
    return Fault(
        status=503,
        code=code,
        type="unavailable_error",
        message=message,
        retry_after_s=retry_after_s,
        reasons=reasons or [],
    )
