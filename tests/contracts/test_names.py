"""The grammar of subjects and names, and the AsyncAPI document that says them."""

import json
import re
from typing import Any

import pytest
from mesh_contracts import asyncapi
from mesh_contracts.ask import EVERYBODY, PERMISSIONS, subject_of_ask
from mesh_contracts.fact import owner_of, stream_of, subject_for, tag_of
from mesh_contracts.schemas import ANY_ASKS, Message, messages
from mesh_contracts.streams import (
    ASKS,
    BUCKETS,
    FACTS,
    HEARS,
    OWNERS,
    READS,
    SAMPLES,
    STREAMS,
    USERS,
    consumers,
    event_filters,
)
from mesh_contracts.units import DEFAULT_SITE, new_id
from mesh_tools import freeze
from msgspec import inspect

WORD = r"[a-z]+(?:-[a-z]+)*"


@pytest.mark.parametrize("kind", FACTS, ids=tag_of)
def test_a_fact_is_named_owner_noun_verb_in_the_past_and_version(kind: Any) -> None:
    match = re.fullmatch(rf"({'|'.join(OWNERS)})\.({WORD})\.({WORD})/([1-9][0-9]*)", tag_of(kind))
    assert match is not None, tag_of(kind)
    irregular = {"lost", "ready"}
    assert match[3].endswith("ed") or match[3] in irregular, f"{match[3]} is not in the past tense"


@pytest.mark.parametrize("kind", [*ASKS, *ANY_ASKS], ids=tag_of)
def test_an_ask_is_named_owner_noun_verb_and_names_a_permission(kind: Any) -> None:
    assert re.fullmatch(rf"({'|'.join(OWNERS)}|any)\.{WORD}\.{WORD}", tag_of(kind))
    assert kind.permission == EVERYBODY or re.fullmatch(rf"{WORD}\.{WORD}", kind.permission)


def test_every_tag_stands_once() -> None:
    names = [message.file for message in messages()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.file)
def test_a_time_has_a_zone_and_says_in_its_schema_that_it_is_one(message: Message) -> None:
    for part, kind in message.parts:
        assert "DateTimeType(tz=None)" not in repr(inspect.type_info(kind)), part


def test_a_role_names_only_permissions_that_some_ask_or_door_knows() -> None:
    known = {kind.permission for kind in (*ASKS, *ANY_ASKS)}
    at_the_gateway = {"*", "model.call", "event.read"}
    for role, permissions in PERMISSIONS.items():
        assert permissions <= known | at_the_gateway, role


def test_every_stream_holds_what_its_owner_tells_and_nothing_else() -> None:
    assert {spec.owner: spec.name for spec in STREAMS} == {owner: owner.upper() for owner in OWNERS}
    for kind in FACTS:
        assert stream_of(kind) in {spec.name for spec in STREAMS}


def test_a_consumer_filters_exactly_what_its_reader_reads() -> None:
    for spec in consumers():
        wanted = {
            tag_of(kind).partition("/")[0]
            for kind in READS[spec.reader]
            if stream_of(kind) == spec.stream
        }
        assert {".".join(text.split(".")[:3]) for text in spec.filters} == wanted
        assert spec.name == f"{spec.reader}_{spec.stream}_{spec.filters[0].split('.')[4]}"


def test_events_hold_only_facts_of_one_tenant() -> None:
    assert {text for _, text in event_filters()} == {
        tag_of(kind).partition("/")[0] + ".>" for kind in FACTS if kind.per_tenant
    }


def test_a_service_reads_hears_and_writes_only_what_exists() -> None:
    assert set(READS) | set(HEARS) <= set(USERS)
    for nouns in HEARS.values():
        assert set(nouns) <= set(SAMPLES)
    for bucket in BUCKETS:
        assert bucket.writer in USERS
        assert set(bucket.readers) <= set(USERS)
        assert re.fullmatch(r"[a-z]+s+", bucket.name)


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((freeze.ROOT / "asyncapi.json").read_bytes())
    return loaded


def test_the_document_covers_every_subject_of_the_table(described: dict[str, Any]) -> None:
    key = new_id("node")
    subjects = [subject_for(tag_of(kind), DEFAULT_SITE, key) for kind in FACTS]
    subjects += [f"event.{subject_for(tag_of(k), DEFAULT_SITE, key)}" for k in FACTS if k.per_tenant]
    subjects += [subject_of_ask(kind, DEFAULT_SITE) for kind in ASKS]
    subjects += [subject_of_ask(kind, DEFAULT_SITE, "metering") for kind in ANY_ASKS]
    subjects += [f"sample.{noun}.{DEFAULT_SITE}.{key}" for noun in SAMPLES]
    subjects += [f"$KV.{bucket.name}.{key}" for bucket in BUCKETS]
    subjects += ["$KV.access.key.0123", f"intent.{key}", "intent._beat", "doorbell.metering"]
    assert [subject for subject in subjects if not asyncapi.covers(described, subject)] == []


@pytest.mark.parametrize(
    "subject",
    [
        "placement.lease.imagined.fr-idf-1.00.key",
        "agent.node.joined.fr-idf-1.00.key.more",
        "ask.identity.key.imagine.fr-idf-1",
        "sample.agent.heartbeat",
        "$KV.imagined.key",
    ],
)
def test_the_document_does_not_cover_what_nobody_declared(
    described: dict[str, Any], subject: str
) -> None:
    assert not asyncapi.covers(described, subject)


def test_every_reference_in_the_document_resolves(described: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        if isinstance(node, list):
            return [found for value in node for found in references(value)]
        return []

    found = references(described)
    assert len(found) > 100
    for reference in found:
        node: Any = described
        for token in reference.removeprefix("#/").split("/"):
            assert token in node, reference
            node = node[token]


def test_a_tuple_is_told_as_draft_7_tells_it(described: dict[str, Any]) -> None:
    missing = described["components"]["schemas"]["ProducerMark"]["properties"]["missing"]
    number = {"type": "integer"}
    assert missing["items"] == {
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": [number, number],
        "additionalItems": False,
    }


def test_every_fact_has_a_teller_and_every_ask_an_answerer(described: dict[str, Any]) -> None:
    operations = described["operations"]
    for kind in FACTS:
        assert (
            operations[f"{owner_of(kind)}.tells.{tag_of(kind).replace('/', '.')}"]["action"] == "send"
        )
    for ask in ASKS:
        operation = operations[f"{owner_of(ask)}.answers.{tag_of(ask)}"]
        assert operation["x-permission"] == ask.permission
