"""What all dialects share when they read a client's body: fields as written, and one-sentence refusals."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec

from inference_gateway.domain.faults import UNREADABLE, Fault, invalid_json, wrong_field

T = TypeVar("T")
Fields = dict[str, msgspec.Raw]

NULL = b"null"
_FIELDS = msgspec.json.Decoder(Fields)


class Refused(Exception):
    """A body is not taken; raised deep within a translation, returned as a ``Fault`` by its ``read``."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.code)
        self.fault = fault


def unsupported(param: str, message: str) -> Refused:
    """Return the refusal of a field whose meaning cannot be kept."""
    return Refused(Fault(status=422, code="unsupported", param=param, message=message))


def missing(param: str, path: str) -> Refused:
    """Return the refusal of a body without a field that it needs."""
    message = f"The field '{param}' is missing or empty; {path} cannot do without it."
    return Refused(Fault(status=422, code="missing_field", param=param, message=message))


def decoded(raw: bytes, decoder: msgspec.json.Decoder[T]) -> tuple[T, Fields]:
    """Return a body as it is understood here, and all its fields as written. Raises ``Refused``."""
    try:
        # What is not looked into is not looked at either: bytes that are no text would pass.
        raw.decode()
        return decoder.decode(raw), fields_of(raw)
    except msgspec.ValidationError as fault:
        raise Refused(wrong_field(str(fault))) from None
    except UNREADABLE:
        raise Refused(invalid_json()) from None


def fields_of(raw: bytes) -> Fields:
    """Return the fields of a JSON object as written; one that is null counts as left out."""
    return {name: value for name, value in _FIELDS.decode(raw).items() if bytes(value) != NULL}


def refuse_any(fields: Mapping[str, Any], refusals: Mapping[str, str]) -> None:
    """Raise ``Refused`` for the first field that has a refusal of its own."""
    for name, why in refusals.items():
        if name in fields:
            raise unsupported(name, why)


def rest_of(fields: Fields, understood: Collection[str]) -> dict[str, Any]:
    """Return the fields that are the engine's to judge: they pass through untouched."""
    return {name: value for name, value in fields.items() if name not in understood}


def one_text(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return message content in its plainest shape: a lone text as a string, as every template reads it."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def data_url(media_type: str, data: str) -> str:
    """Return base64 data as a URL, the one way in which chat completions carry bytes."""
    return f"data:{media_type};base64,{data}"
