"""Cursors that prove where a reader was, and events that only their owner sees."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.cursors import Place, mark_of, opened, sealed
from inference_gateway.domain.events import Event, Wish, event_of, goes_on
from mesh_contracts import wire
from mesh_contracts.ask import Principal
from mesh_contracts.placement import EndpointChanged, Reason
from meshkit.testing import NOW, envelope, test_id

SECRET = b"a secret for tests"
OURS, THEIRS = test_id("project", "ours"), test_id("project", "theirs")


def told(project: str = OURS, **fields: Any) -> EndpointChanged:
    endpoint = test_id("endpoint", "e")
    return EndpointChanged(
        **envelope(endpoint, project=project, **fields),
        endpoint_id=endpoint,
        name="chat",
        state="serving",
        ready=1,
        reasons=[Reason(code="x", detail="y")],
    )


def event(sequence: int, project: str = OURS) -> Event:
    made = event_of(sequence, wire.encode(told(project)))
    assert made is not None
    return made


def principal(role: str = "project") -> Principal:
    return Principal(
        principal_id="k",
        role=role,
        project=OURS if role == "project" else None,
        expires_at=NOW + timedelta(minutes=1),
    )


@given(st.integers(0, 2**63), st.binary(min_size=6, max_size=6))
def test_a_cursor_opens_to_the_place_it_was_made_of(sequence: int, mark: bytes) -> None:
    place = Place(sequence, mark)
    assert opened(sealed(place, SECRET), SECRET) == place


@given(st.integers(0, 2**40), st.data())
def test_a_cursor_that_was_changed_or_is_anothers_opens_nothing(
    sequence: int, data: st.DataObject
) -> None:
    cursor = sealed(Place(sequence, mark_of("f")), SECRET)
    at = data.draw(st.integers(0, len(cursor) - 2))
    other = data.draw(st.sampled_from([c for c in "ABCxyz019-_" if c != cursor[at]]))
    assert opened(cursor[:at] + other + cursor[at + 1 :], SECRET) is None
    assert opened(cursor, b"another mesh") is None


@pytest.mark.parametrize("text", ["", "0", "é", "not a cursor", "A" * 500, "===="])
def test_what_is_not_a_cursor_opens_nothing(text: str) -> None:
    assert opened(text, SECRET) is None


def test_an_event_is_a_cloud_event_without_the_facts_envelope() -> None:
    fact = told()
    said = json.loads(event(7).data)
    assert said["specversion"] == "1.0"
    assert said["type"] == "placement.endpoint.changed/1"
    assert said["source"] == f"/sites/{fact.site}/placement"
    assert said["subject"] == fact.key
    assert said["project"] == OURS
    assert said["data"]["state"] == "serving"
    assert not set(said["data"]) & {"fact_id", "key", "version", "tag"}
    assert all(name.isalnum() and name.islower() for name in said)


def test_what_is_no_fact_is_no_event() -> None:
    assert event_of(1, b"not json") is None
    assert event_of(1, b'{"tag":"x"}') is None


def test_a_tenant_sees_its_own_and_an_admin_everything_or_one_project() -> None:
    assert Wish(principal()).takes(event(1))
    assert not Wish(principal()).takes(event(1, THEIRS))
    assert not Wish(principal(), project=THEIRS).takes(event(1, THEIRS))
    assert Wish(principal("admin")).takes(event(1, THEIRS))
    assert not Wish(principal("admin"), project=OURS).takes(event(1, THEIRS))


@pytest.mark.parametrize(
    ("types", "takes"),
    [
        (("placement.endpoint.changed/1",), True),
        (("placement.endpoint.changed",), True),
        (("placement.*",), True),
        (("metering.*", "placement.endpoint.*"), True),
        (("placement.endpoint",), False),
        (("metering.usage.recorded/1",), False),
    ],
)
def test_types_are_chosen_by_name_or_by_their_beginning(types: tuple[str, ...], *, takes: bool) -> None:
    assert Wish(principal(), types=types).takes(event(1)) is takes


def test_a_reader_goes_on_only_where_nothing_is_missing() -> None:
    here = event(7)
    assert goes_on(here.place, here)
    assert goes_on(here.place, event(8)), "forgotten, but the next is the very next"
    assert not goes_on(here.place, event(9))
    assert not goes_on(here.place, None), "a stream that is empty now"
    assert goes_on(Place(0), None)
    assert not goes_on(Place(7, mark_of("another stream's")), here)
