"""The differ sees each way to break a reader, and lets a message grow."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from mesh_contracts.compat import faults_between
from mesh_contracts.schemas import Message
from mesh_contracts.units import Time, Wide
from msgspec import Meta


class Inner(msgspec.Struct, kw_only=True):
    row: int
    note: str = ""


class Other(msgspec.Struct, kw_only=True):
    column: int


def frozen_of(
    *, parts: tuple[str, ...] = ("fact",), permission: str | None = None, **fields: Any
) -> Any:
    """Freeze a message with these fields: a type, or a type and its default."""
    declared = [
        (name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in fields.items()
    ]
    kind = msgspec.defstruct("Told", declared, kw_only=True, tag_field="tag", tag="a.thing.told/1")
    return Message(
        road="fact",
        name="a.thing.told/1",
        parts=tuple((part, kind) for part in parts),
        permission=permission,
    ).frozen()


BEFORE: dict[str, Any] = {
    "name": Annotated[str, Meta(max_length=63)],
    "count": Annotated[int, Meta(ge=0, le=100)],
    "energy_uj": Wide,
    "state": Literal["on", "off"],
    "items": list[Inner],
    "place": tuple[int, int],
    "maybe": (str | None, None),
    "either": Inner | None,
    "at": Time,
    "evidence": (dict[str, int], msgspec.field(default_factory=dict)),
}


def faults(**changed: Any) -> list[str]:
    after = {**BEFORE, **changed}
    after = {name: kind for name, kind in after.items() if kind is not ...}
    return faults_between(frozen_of(**BEFORE), frozen_of(**after))


def test_a_message_that_stays_as_it_is_breaks_nobody() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    "grown",
    [
        pytest.param({"added": (str, "")}, id="a field with a default"),
        pytest.param({"count": Annotated[int, Meta(ge=0, le=1_000)]}, id="a wider bound"),
        pytest.param({"state": Literal["on", "off", "asleep"]}, id="one more value"),
        pytest.param({"name": str}, id="no bound any more"),
    ],
)
def test_a_message_may_grow(grown: dict[str, Any]) -> None:
    assert faults(**grown) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"name": ...}, "fact.name: removed", id="a removed field"),
        pytest.param({"maybe": ...}, "fact.maybe: removed", id="a removed optional field"),
        pytest.param({"added": str}, "fact.added: is required now", id="a new required field"),
        pytest.param({"maybe": str | None}, "fact.maybe: is required now", id="a default taken away"),
        pytest.param(
            {"name": (str, "")}, "fact.name: may be left out now", id="a field that may be missing"
        ),
        pytest.param({"name": int}, "fact.name: type was string, is integer", id="a changed type"),
        pytest.param({"energy_uj": int}, "fact.energy_uj: type was", id="a wide integer made plain"),
        pytest.param(
            {"count": Annotated[int, Meta(ge=1, le=100)]}, "fact.count: minimum is 1", id="a floor"
        ),
        pytest.param(
            {"count": Annotated[int, Meta(ge=0, le=9)]}, "fact.count: maximum is 9", id="a ceiling"
        ),
        pytest.param(
            {"name": Annotated[str, Meta(max_length=63, pattern="^a")]},
            "fact.name: pattern",
            id="a pattern",
        ),
        pytest.param(
            {"state": Literal["on"]}, "fact.state: no longer takes ['off']", id="a narrowed enum"
        ),
        pytest.param({"items": list[Other]}, "fact.items.items.row: removed", id="a field deep within"),
        pytest.param({"items": list[int]}, "fact.items.items: type was object", id="other items"),
        pytest.param({"place": tuple[int, int, int]}, "fact.place: has 3 places", id="another place"),
        pytest.param(
            {"place": tuple[int, str]}, "fact.place[1]: type was integer", id="another thing there"
        ),
        pytest.param({"either": Inner}, "fact.either: no longer takes null", id="null refused"),
        pytest.param(
            {"either": Other | None}, "fact.either: no longer takes Inner", id="another choice"
        ),
        pytest.param({"name": str | None}, "fact.name: takes null now, too", id="null allowed"),
        pytest.param(
            {"maybe": (str | int | None, None)},
            "fact.maybe: takes integer now, too",
            id="one more type",
        ),
        pytest.param(
            {"energy_uj": str}, "fact.energy_uj: format was 'decimal'", id="a wide integer made text"
        ),
        pytest.param({"at": str}, "fact.at: format was 'date-time'", id="a time made text"),
        pytest.param(
            {"maybe": (str | None, "x")}, "fact.maybe: left out it meant None", id="another default"
        ),
        pytest.param(
            {"evidence": (dict[str, Any], msgspec.field(default_factory=dict))},
            "fact.evidence: what it holds changed",
            id="anything in a map",
        ),
        pytest.param(
            {"evidence": (dict[str, str], msgspec.field(default_factory=dict))},
            "fact.evidence.additionalProperties: type was integer",
            id="other values in a map",
        ),
    ],
)
def test_a_change_that_breaks_a_reader_is_named(changed: dict[str, Any], said: str) -> None:
    found = faults(**changed)
    assert any(fault.startswith(said) for fault in found), found


def test_a_removed_part_and_another_permission_are_named() -> None:
    before = frozen_of(parts=("ask", "reply"), permission="key.read", name=str)
    after = frozen_of(parts=("ask",), permission="key.write", name=str)
    assert faults_between(before, after) == [
        "permission: was 'key.read', is 'key.write'",
        "reply: removed",
    ]
