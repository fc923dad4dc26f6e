"""``mesh budget``, ``mesh limit`` and ``mesh request`` against a small double of the public door."""

from collections.abc import Iterator
from typing import Any

import pytest
from mesh_tools.cli import explained
from mesh_tools.cli.bounds import amount, scope

from tests.adapters.doubles import Door, mesh, opened

BUDGET = {
    "id": "budget_1",
    "scope_kind": "project",
    "scope_id": "project_1",
    "amount_microeur": "12500000",
    "period": "month",
    "hard": True,
    "warn_percent": 80,
    "spent_microeur": "250000",
    "leased_microeur": "1000000",
    "crossed": "none",
    "generation": 1,
}
LIMIT = {
    "id": "limit_1",
    "scope_kind": "key",
    "scope_id": "key_1",
    "requests_per_minute": 60,
    "tokens_per_minute": None,
}
NOT_YOURS = (403, {"title": "Not yours", "status": 403, "code": "forbidden", "detail": "not yours"})
USAGE: dict[str, Any] = {
    "key_id": "key_1",
    "model": "tiny",
    "route": "/v1/chat/completions",
    "streamed": True,
    "started_at": "2026-11-26T12:00:00Z",
    "state": "completed",
    "status": 200,
    "tokens_from": "engine",
    "prompt_tokens": 0,
    "queue_us": 1_500,
    "first_token_us": 20_000,
    "finish_reason": "stop",
    "workload_id": "workload_a",
    "node_id": "node_1",
    "attempts": 2,
    "explained": {
        "chosen_by": "least_load",
        "queue_position": 3,
        "considered": [
            {"workload_id": "workload_a", "load": 2, "in_flight": 1},
            {"workload_id": "workload_b", "passed_over": "circuit_open"},
        ],
        "tried": [{"workload_id": "workload_c", "reason": "connection refused"}],
        "counted": [{"scope": "key_1", "requests_left": 59, "microeur_left": 0}],
    },
}
RECORD = {
    "request_id": "request_1",
    "project": "demo",
    "usage": USAGE,
    "cost_microeur": "7",
    "price_id": "tiny-1",
    "trace_id": None,
    "footprint": {
        "state": "pending",
        "reason": "receipt_pending",
        "since": "2026-11-26T12:00:01Z",
        "why": "not settled yet",
        "energy_uj": None,
    },
}
SETTLED = {
    "state": "settled",
    "energy_uj": "3600000",
    "carbon_ug": "21",
    "quality": "estimated",
    "factor_id": "fr-2025",
}


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as made:
        yield made


def test_a_budget_is_set_listed_and_deleted(door: Door) -> None:
    door.answers = [(201, BUDGET), (200, {"items": [BUDGET]}), (200, PROJECTS), (200, BUDGET)]
    done = mesh(door, "budget", "set", "project/acme/demo", "12.5", "--period", "day", "--soft")
    assert done.stdout == "set: hard budget of project_1, 0.250000 EUR of it spent (budget_1)\n"
    head, line = mesh(door, "budget").stdout.splitlines()
    assert head.split() == ["SCOPE", "NAME", "EUR", "A", "SPENT", "HELD", "KIND", "CROSSED", "ID"]
    assert line.split()[:4] == ["project_1", "acme/demo", "12.500000", "month"]
    assert mesh(door, "budget", "delete", "budget_1").stdout == "deleted: budget_1 of project_1\n"
    assert [(method, path) for method, path, _, _ in door.asked] == [
        ("POST", "/api/v1/budgets"),
        ("GET", "/api/v1/budgets"),
        ("GET", "/api/v1/projects"),
        ("DELETE", "/api/v1/budgets/budget_1"),
    ]
    assert door.asked[0][2] == {
        "scope": {"kind": "project", "id": "acme/demo"},
        "amount_microeur": "12500000",
        "period": "day",
        "hard": False,
        "warn_percent": 80,
    }


PROJECTS = {
    "items": [
        {"id": "project_1", "name": "demo", "organization": "acme"},
        {"id": "project_2", "name": "demo", "organization": "rival"},
    ]
}


def test_what_a_scope_has_is_deleted_by_the_name_with_which_it_was_set(door: Door) -> None:
    door.answers = [(200, PROJECTS), (200, {"items": [BUDGET]}), (200, BUDGET)]
    done = mesh(door, "budget", "delete", "project/acme/demo")
    assert done.stdout == "deleted: budget_1 of project_1\n"
    assert door.asked[-1][:2] == ("DELETE", "/api/v1/budgets/budget_1")


def test_a_scope_that_has_nothing_to_delete_is_told_so(door: Door) -> None:
    door.answers = [(200, PROJECTS), (200, {"items": [BUDGET]})]
    done = mesh(door, "budget", "delete", "project/rival/demo")
    assert done.returncode != 0
    assert "it has none" in done.stderr
    assert all(method != "DELETE" for method, *_ in door.asked)


def test_limits_are_set_listed_and_deleted(door: Door) -> None:
    door.answers = [(201, LIMIT), (200, {"items": [LIMIT]}), NOT_YOURS, (200, LIMIT)]
    assert mesh(door, "limit", "set", "key_1", "--requests", "60").returncode == 0
    assert mesh(door, "limit", "list").stdout.splitlines()[1].split()[:4] == ["key_1", "-", "60", "-"]
    assert mesh(door, "limit", "delete", "limit_1").stdout == "deleted: limit_1 of key_1\n"
    assert door.asked[0][2] == {"scope": {"kind": "key", "id": "key_1"}, "requests_per_minute": 60}


def test_what_a_lost_gateway_holds_is_shown_and_released(door: Door) -> None:
    held = {
        "id": "g1",
        "epoch": 3,
        "lives_until": "2026-11-26T12:00:00Z",
        "scopes": 2,
        "held_microeur": "400000",
    }
    door.answers = [(200, {"items": [held]}), (200, held)]
    line = mesh(door, "budget", "holders").stdout.splitlines()[1]
    assert line.split() == ["g1", "3", "2", "0.400000", "2026-11-26T12:00:00Z"]
    done = mesh(door, "budget", "release", "g1")
    assert done.stdout == "free again: 0.400000 EUR that g1 held\n"
    assert door.asked[-1][:2] == ("DELETE", "/api/v1/holdings/g1")


@pytest.mark.parametrize("text", ["demo", "project/", "person/x", "node_1"])
def test_what_names_no_scope_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        scope(text)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "much", "0.0000001"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        amount(text)


def test_euros_become_micro_euros_to_the_last_digit() -> None:
    assert [amount(text) for text in ("0", "12.50", "0.000001", "1e3")] == [0, 12_500_000, 1, 10**9]


def test_a_request_is_explained_in_words_and_unknown_differs_from_none(door: Door) -> None:
    door.answers = [(200, RECORD)]
    said = mesh(door, "request", "request_1").stdout
    lines = dict(explained.lines(RECORD))
    for name, value in {
        "key": "key_1",
        "route": "/v1/chat/completions, streamed",
        "counted against": "key_1: 59 requests left, 0 micro-euros left",
        "queued": "1.500 ms, at place 3",
        "replica": "workload_a on node_1: it had least to do",
        "considered": "workload_a: load 2, 1 in flight",
        "tried": "workload_c: connection refused",
        "attempts": "2",
        "ended": "completed, status 200, stop",
        "prompt tokens": "0",
        "completion tokens": "unknown",
        "tokens by": "the engine's report",
        "time to first token": "20.000 ms",
        "time per output token": "unknown",
        "cost": "0.000007 EUR by tiny-1",
        "energy and carbon": "pending since 2026-11-26T12:00:01Z: receipt_pending: not settled yet",
        "trace": "not traced",
    }.items():
        assert lines[name] == value
        assert f"{name:24} {value}\n" in said
    assert "workload_b: load 0, 0 in flight, passed over: it had failed too often\n" in said


def test_a_request_that_never_reached_a_replica_is_explained_too() -> None:
    bare = {name: USAGE[name] for name in ("key_id", "model", "route", "started_at", "state", "status")}
    told = {**RECORD, "usage": {**bare, "streamed": False, "tokens_from": "none"}}
    lines = dict(explained.lines(told))
    assert (lines["replica"], lines["queued"], lines["prompt tokens"]) == ("none", "unknown", "unknown")


def test_a_settled_footprint_is_told_in_watt_hours_and_milligrams_of_carbon(door: Door) -> None:
    door.answers = [(200, {**RECORD, "footprint": SETTLED})]
    said = mesh(door, "request", "request_1").stdout
    assert f"{'energy':24} 0.001000 Wh (estimated)\n" in said
    assert f"{'carbon':24} 0.021 mg by fr-2025\n" in said


@pytest.mark.parametrize(
    ("footprint", "value"),
    [
        ({"state": "unknown", "reason": "unavailable", "since": None}, "unknown: unavailable"),
        ({}, "unknown"),
    ],
)
def test_a_footprint_that_nobody_can_tell_is_said_to_be_unknown(
    footprint: dict[str, Any], value: str
) -> None:
    assert dict(explained.lines({**RECORD, "footprint": footprint}))["energy and carbon"] == value
