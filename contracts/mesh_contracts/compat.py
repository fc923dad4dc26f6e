"""Whether a message has only grown: the difference between a frozen schema and today's.

A message grows by fields that have a default. Everything else breaks somebody: a reader of
yesterday who meets today's message, or a reader of today who meets yesterday's, which streams
keep for a week and partners for ever.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
EXACT = ("pattern", "const", "multipleOf", "uniqueItems")
KIND = ("format", "contentEncoding")
"""What tells one type from another where both travel as text: a time, a wide integer, bytes."""


def faults_between(frozen: Schema, today: Schema) -> list[str]:
    """Return what a message lost since it was frozen, each in one line; nothing where it only grew.

    Both are what ``Message.frozen`` returns: ``parts`` of JSON Schemas.
    """
    faults = [
        f"{key}: was {frozen.get(key)!r}, is {today.get(key)!r}"
        for key in ("permission", "changes")
        if frozen.get(key) != today.get(key)
    ]
    for part, schema in frozen["parts"].items():
        now = today["parts"].get(part)
        if now is None:
            faults.append(f"{part}: removed")
            continue
        seen: set[tuple[str, str]] = set()
        faults += _compare(schema, now, (schema, now), part, seen)
    return faults


def _compare(
    old: Schema, new: Schema, roots: tuple[Schema, Schema], path: str, seen: set[tuple[str, str]]
) -> Iterator[str]:
    names = (old.get("$ref", ""), new.get("$ref", ""))
    if all(names):
        if names in seen:
            return
        seen.add(names)
    old, new = _resolved(old, roots[0]), _resolved(new, roots[1])
    if "anyOf" in old or "anyOf" in new:
        yield from _alternatives(old, new, roots, path, seen)
        return
    yield from _narrowed(old, new, path)
    yield from _fields(old, new, roots, path, seen)
    for inner in ("items", "additionalProperties", "propertyNames"):
        was, now = old.get(inner), new.get(inner)
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _compare(was, now, roots, f"{path}.{inner}", seen)
        elif inner != "propertyNames" and bool(was) != bool(now):
            yield f"{path}: what it holds changed"
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield f"{path}: refuses fields it does not know now, and did not before"
    before, after = old.get("prefixItems", []), new.get("prefixItems", [])
    if len(before) != len(after):
        yield f"{path}: has {len(after)} places, had {len(before)}"
    for place, (was, now) in enumerate(zip(before, after, strict=False)):
        yield from _compare(was, now, roots, f"{path}[{place}]", seen)


def _narrowed(old: Schema, new: Schema, path: str) -> Iterator[str]:
    was, now = _types(old), _types(new)
    if was != now:
        yield f"{path}: type was {_said(was)}, is {_said(now)}"
        return
    if "enum" in new:
        if "enum" not in old:
            yield f"{path}: took any value, takes {new['enum']} now"
        elif lost := [value for value in old["enum"] if value not in new["enum"]]:
            yield f"{path}: no longer takes {lost}"
    yield from _bounds(old, new, path)


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for bound in UPPER:
        if bound in new and new[bound] < old.get(bound, float("inf")):
            yield f"{path}: {bound} is {new[bound]}, was {old.get(bound, 'none')}"
    for bound in LOWER:
        if bound in new and new[bound] > old.get(bound, float("-inf")):
            yield f"{path}: {bound} is {new[bound]}, was {old.get(bound, 'none')}"
    for kind in KIND:
        if old.get(kind) != new.get(kind):
            yield f"{path}: {kind} was {old.get(kind)!r}, is {new.get(kind)!r}"
    for bound in EXACT:
        if bound in new and new[bound] != old.get(bound):
            yield f"{path}: {bound} is {new[bound]!r}, was {old.get(bound)!r}"


def _fields(
    old: Schema, new: Schema, roots: tuple[Schema, Schema], path: str, seen: set[tuple[str, str]]
) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, schema in before.items():
        if name not in after:
            yield f"{path}.{name}: removed"
        else:
            yield from _compare(schema, after[name], roots, f"{path}.{name}", seen)
            # Whoever leaves a field out counts on what the other side takes it for.
            if "default" in schema and schema["default"] != after[name].get("default", ...):
                said = after[name].get("default", "none that is fixed")
                yield f"{path}.{name}: left out it meant {schema['default']!r}, and means {said!r} now"
    for name in new.get("required", ()):
        if name not in old.get("required", ()):
            yield f"{path}.{name}: is required now, and was not: give it a default"
    for name in old.get("required", ()):
        if name in after and name not in new.get("required", ()):
            yield f"{path}.{name}: may be left out now; a reader of yesterday requires it"
    # Without the tag a union cannot tell its members apart: a const is as good as a type.
    for name in set(before) & set(after):
        was, now = _tag(before[name]), _tag(after[name])
        if was != now:
            yield f"{path}.{name}: says {now!r}, said {was!r}"


def _alternatives(
    old: Schema, new: Schema, roots: tuple[Schema, Schema], path: str, seen: set[tuple[str, str]]
) -> Iterator[str]:
    before = [_resolved(choice, roots[0]) for choice in old.get("anyOf", [old])]
    after = [_resolved(choice, roots[1]) for choice in new.get("anyOf", [new])]
    for was in before:
        near = [now for now in after if _name(now) == _name(was)]
        if near:
            yield from _compare(was, near[0], roots, path, seen)
        else:
            yield f"{path}: no longer takes {_name(was)}"
    for now in after:
        if _name(now) not in [_name(was) for was in before]:
            yield f"{path}: takes {_name(now)} now, too; a reader of yesterday does not"


def _resolved(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Schema = root["$defs"][reference.rpartition("/")[2]]
    return found


def _types(schema: Schema) -> tuple[str, ...]:
    kind = schema.get("type")
    if kind is None:
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        return tuple(sorted({_type_of(value) for value in values})) or ("anything",)
    return (kind,) if isinstance(kind, str) else tuple(sorted(kind))


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {str: "string", int: "integer", float: "number"}.get(type(value), "null")


def _tag(schema: Schema) -> Any:
    values = schema.get("enum")
    return values[0] if values and len(values) == 1 else schema.get("const")


def _name(schema: Schema) -> str:
    """Return what one choice of several is known by."""
    return str(schema.get("title") or _said(_types(schema)))


def _said(types: tuple[str, ...]) -> str:
    return " or ".join(types)
