"""Every message of the mesh by name, and its JSON Schema: what is frozen, compared and published."""

from collections.abc import Iterable
from typing import Any

import msgspec

from mesh_contracts.ask import Ask, ListDeadLetters, Problem, RedriveDeadLetter
from mesh_contracts.fact import tag_of
from mesh_contracts.streams import ASKS, BUCKETS, FACTS, SAMPLES
from mesh_contracts.units import Wide

Schema = dict[str, Any]

ANY_ASKS: tuple[type[Ask], ...] = (ListDeadLetters, RedriveDeadLetter)
"""Asks that every owner with a database answers."""

WIDE_SCHEMA: Schema = {"type": "string", "pattern": "^[0-9]+$", "format": "decimal"}
"""An integer that may pass 2^53, as it travels."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of message: by which road it goes, its name there, and the types of its parts."""

    road: str
    name: str
    parts: tuple[tuple[str, Any], ...]
    permission: str | None = None
    changes: bool | None = None

    @property
    def file(self) -> str:
        """The name of its frozen file, without a folder: ``fact.agent.node.joined.1.json``."""
        return f"{self.road}.{self.name.replace('/', '.')}.json"

    def frozen(self) -> Schema:
        """Return what is checked in: the JSON Schema of each part, and who may ask."""
        said: Schema = {"road": self.road, "name": self.name}
        if self.permission is not None:
            said |= {"permission": self.permission, "changes": self.changes}
        return {**said, "parts": {part: schema_of(kind) for part, kind in self.parts}}


def messages() -> list[Message]:
    """Return every message there is, by road and name."""
    found = [Message(road="fact", name=tag_of(kind), parts=(("fact", kind),)) for kind in FACTS]
    found += [
        Message(
            road="ask",
            name=tag_of(kind),
            parts=(("ask", kind), ("reply", kind.reply)),
            permission=kind.permission,
            changes=kind.changes,
        )
        for kind in (*ASKS, *ANY_ASKS)
    ]
    found.append(Message(road="ask", name="problem", parts=(("reply", Problem),)))
    for bucket in BUCKETS:
        kinds = bucket.value.values() if isinstance(bucket.value, dict) else (bucket.value,)
        parts = tuple((kind.__name__, kind) for kind in kinds)
        found.append(Message(road="bucket", name=bucket.name, parts=parts))
    found += [
        Message(road="sample", name=noun, parts=(("sample", kind),)) for noun, kind in SAMPLES.items()
    ]
    return sorted(found, key=lambda message: message.file)


def schema_of(kind: Any) -> Schema:
    """Return the JSON Schema of a type, its definitions within."""
    return msgspec.json.schema(kind, schema_hook=_schema_hook)


def components_of(kinds: Iterable[Any], template: str) -> tuple[list[Schema], Schema]:
    """Return a reference for each type, and the definitions they share, by name."""
    references, definitions = msgspec.json.schema_components(
        kinds, schema_hook=_schema_hook, ref_template=template
    )
    return list(references), definitions


def _schema_hook(kind: type) -> Schema:
    if kind is Wide:
        return dict(WIDE_SCHEMA)
    message = f"no schema for {kind.__name__}"
    raise TypeError(message)
