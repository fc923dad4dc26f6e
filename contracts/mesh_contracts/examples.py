"""Examples made from a message's type: the shortest that decodes, and one with every field."""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import inspect

from mesh_contracts.units import DEFAULT_SITE, ID_PATTERN, NAME_PATTERN, SITE_PATTERN, TraceParent, Wide

AT = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
AN_ID = "example_019ab000-0000-7000-8000-000000000000"
WIDE = 2**63

_TRACE_PATTERN = str(inspect.type_info(TraceParent).pattern)  # type: ignore[attr-defined]
_TEXTS = {
    ID_PATTERN: AN_ID,
    NAME_PATTERN: "example",
    SITE_PATTERN: DEFAULT_SITE,
    _TRACE_PATTERN: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


def example_of(kind: Any, *, whole: bool) -> Any:
    """Return JSON-ready data that decodes as ``kind``; ``whole`` fills in every optional field.

    Raises ``ValueError`` for a text pattern that it knows no example of: add one here.
    """
    return _of(inspect.type_info(kind), whole=whole)


def _of(info: inspect.Type, *, whole: bool) -> Any:  # noqa: C901, PLR0911, PLR0912 - one line a type
    match info:
        case inspect.StructType():
            return _struct(info, whole=whole)
        case inspect.CustomType(cls=cls) if cls is Wide:
            return str(WIDE)
        case inspect.StrType():
            return _text(info)
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return info.ge if info.ge is not None else 1
        case inspect.FloatType():
            return float(info.ge or 0) + 0.5
        case inspect.DateTimeType():
            return AT.isoformat().replace("+00:00", "Z")
        case inspect.DateType():
            return AT.date().isoformat()
        case inspect.LiteralType():
            return info.values[0]
        case inspect.UnionType():
            kinds = [kind for kind in info.types if not isinstance(kind, inspect.NoneType)]
            return _of(kinds[0], whole=whole)
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType():
            empty = not whole and not info.min_length
            return [] if empty else [_of(info.item_type, whole=whole)]
        case inspect.TupleType():
            return [_of(kind, whole=whole) for kind in info.item_types]
        case inspect.DictType():
            return {_of(info.key_type, whole=whole): _of(info.value_type, whole=whole)} if whole else {}
        case inspect.NoneType():
            return None
        case inspect.AnyType() | inspect.RawType():
            return {"example": 1}
        case _:
            raise ValueError(f"no example of {info}")


def _struct(info: inspect.StructType, *, whole: bool) -> dict[str, Any]:
    example: dict[str, Any] = {}
    if info.tag_field is not None:
        example[info.tag_field] = info.tag
    for field in info.fields:
        if whole or field.required:
            example[field.encode_name] = _of(field.type, whole=whole)
    return example


def _text(info: inspect.StrType) -> str:
    if info.pattern is None:
        return "example"[: info.max_length]
    text = _TEXTS.get(info.pattern)
    if text is None:
        raise ValueError(f"no example of a text like {info.pattern}")
    assert re.search(info.pattern, text)
    return text


def encoded(kind: Any, *, whole: bool) -> bytes:
    """Return an example as indented JSON, as the corpus keeps it."""
    return msgspec.json.format(msgspec.json.encode(example_of(kind, whole=whole)), indent=1) + b"\n"
