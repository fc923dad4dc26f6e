"""``mesh job|lease|quota|cap|site`` against a small double of the public door."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters.doubles import Door, mesh, opened

pytestmark = pytest.mark.slow

JOB = {
    "id": "job_1",
    "name": "train",
    "project": "demo",
    "state": "queued",
    "members": 16,
    "resources": {"gpus": 8},
    "generation": 4,
    "position": 3,
    "since": "2026-01-01T00:00:00Z",
    "reasons": [{"code": "quota_limit", "detail": "8 of 128 GPUs", "unblock": "wait"}],
}
LEASE = {
    "id": "lease_1",
    "name": "metal",
    "project": "demo",
    "state": "reserved",
    "nodes": 2,
    "domains": 0,
    "generation": 5,
    "since": "2026-01-01T00:00:00Z",
}
CAP = {
    "id": "cap_1",
    "level": "rack",
    "domain": "r1",
    "watts": 9_000,
    "planned_w": 9_100,
    "room_w": -100,
    "generation": 1,
    "since": "2026-01-01T00:00:00Z",
    "reasons": [{"code": "above_cap", "detail": "100 W above", "unblock": "raise it"}],
}
QUOTA = {
    "id": "quota_1",
    "scope_kind": "project",
    "scope_id": "project_1",
    "gpus": 8,
    "nvlink_domains": {"GB200": 1},
    "weight": 100,
    "gpus_max": 16,
    "used_gpu_milli": 500,
}


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as made:
        yield made


def done(door: Door, *words: str) -> str:
    finished = mesh(door, *words)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def sent(door: Door, answer: dict[str, Any], *words: str) -> Any:
    """Return the body that a command sends."""
    door.answers = [(200, answer)]
    done(door, *words)
    return door.asked[-1][2]


def test_a_job_that_waits_is_listed_with_its_place_its_age_and_its_reason(door: Door) -> None:
    running = {**JOB, "name": "other", "state": "running", "position": None, "reasons": []}
    started = {**JOB, "name": "soon", "expected_start_at": "2026-12-01T00:00:00Z"}
    door.answers = [(200, {"items": [JOB, running, started], "next": None})] * 2
    head, waits, runs, soon = done(door, "job", "list").splitlines()
    assert head.split()[:3] == ["NAME", "PROJECT", "STATE"]
    cells = waits.split("  ")
    assert " queued " in waits
    assert cells[-1] == "8 of 128 GPUs → wait"
    assert " unknown " in waits, "nobody knows when it begins"
    assert re.search(r" \d+ d  ", waits), "how long it has waited"
    assert "unknown" not in runs
    assert "2026-12-01T00:00:00Z" in soon
    assert json.loads(done(door, "job", "list", "--ended", "--json"))["items"][0] == JOB
    assert [path for _, path, _, _ in door.asked] == ["/api/v1/jobs", "/api/v1/jobs?ended=true"]


def test_who_sees_no_job_is_told_where_the_ended_ones_are(door: Door) -> None:
    door.answers = [(200, {"items": items, "next": None}) for items in ([], [JOB])]
    assert done(door, "job", "list").endswith("those that have ended: mesh job list --ended\n")


def test_what_is_said_of_a_job_is_sent_and_what_is_not_is_left_to_the_mesh(door: Door) -> None:
    short = sent(door, JOB, "job", "submit", "train", "--image", "trainer:1")
    shape = {"resources": {"gpus": 0, "gpu_milli": 0, "memory_mib": 256}}
    place = {"residency": {"jurisdictions": ["FR"]}}
    command = {"image": "trainer:1", "argv": []}
    asked = {"name": "train", "project": "demo", "command": command, "members": 1}
    assert short == {**asked, **shape, **place}
    words = ("--command", "train --to 'a b'", "--env", "SEED=1", "--members", "16", "--gpus", "8")
    more = ("--near", "leaf", "--prefer", "--segment", "4", "--isolation", "rack", "--assurance", "hds")
    last = ("--priority", "200", "--stays", "--run-max", "60", "--restarts", "0", "--cpu-milli", "500")
    more += ("--slack", "90", "--elastic")
    whole = sent(door, JOB, "job", "submit", "train", "--image", "i", *words, *more, *last)
    argv = ["train", "--to", "a b"]
    assert whole["command"] == {"image": "i", "argv": argv, "env": {"SEED": "1"}}
    assert whole["near"] == {"level": "leaf", "required": False, "segment": 4}
    assert (whole["isolation"], whole["assurances"], whole["priority"]) == ("rack", ["hds"], 200)
    assert (whole["preemptible"], whole["run_max_s"], whole["restarts_max"]) == (False, 60, 0)
    assert (whole["resources"]["cpu_milli"], whole["slack_s"]) == (500, 90)
    assert whole["elastic"] is True


def test_what_nobody_is_named_for_is_the_key_s_project_or_an_operator_s_demo(door: Door) -> None:
    for key, project in (("mesh_project_x", None), ("mesh_admin_x", "demo")):
        door.answers = [(202, JOB)]
        mesh(door, "job", "submit", "j", "--image", "i", MESH_API_KEY=key)
        assert door.asked[-1][2].get("project") == project
    door.answers = [(202, JOB)]
    mesh(door, "job", "submit", "j", "--image", "i", "--project", "lab", MESH_API_KEY="mesh_project_x")
    assert door.asked[-1][2]["project"] == "lab"


def test_waiting_for_a_job_ends_with_its_beginning_or_says_why_it_has_not_begun(door: Door) -> None:
    submit = ("job", "submit", "train", "--image", "i", "--wait")
    door.answers = [(202, JOB), (200, JOB), (200, {**JOB, "state": "running", "position": None})]
    assert done(door, *submit, "5").startswith("train is running (job_1)")
    door.answers = [(202, JOB), (200, {**JOB, "state": "failed"})]
    late = mesh(door, *submit, "5")
    assert (late.returncode, late.stderr) == (1, "mesh job: train is failed: 8 of 128 GPUs → wait\n")


def test_an_end_carries_the_generation_it_was_decided_on(door: Door) -> None:
    for words, one, plural in (
        (("job", "cancel", "train"), JOB, "jobs"),
        (("lease", "release", "metal"), LEASE, "leases"),
    ):
        door.answers = [(200, one), (202, one)]
        done(door, *words)
        method, path, _, headers = door.asked[-1]
        assert (method, path) == ("DELETE", f"/api/v1/{plural}/{one['id']}")
        assert headers["if-match"] == str(one["generation"])


def test_a_lease_is_requested_listed_and_shown(door: Door) -> None:
    body = sent(door, LEASE, "lease", "create", "metal", "--nodes", "2", "--wait-room", "60")
    assert (body["nodes"], body["domains"], body["wait_s"]) == (2, 0, 60)
    assert "ends_at" not in body
    ends = ("--domains", "1", "--gpu-model", "GB200", "--ends-at", "2027-01-01T00:00:00Z")
    body = sent(door, LEASE, "lease", "create", "metal", *ends)
    assert (body["domains"], body["gpu_model"], body["ends_at"]) == (1, "GB200", "2027-01-01T00:00:00Z")
    door.answers = [(200, {"items": [LEASE]}), (200, LEASE)]
    assert "reserved" in done(door, "lease").splitlines()[1]
    assert "state" in done(door, "lease", "get", "metal")


def test_what_is_refused_at_once_ends_as_a_failure_with_its_reason(door: Door) -> None:
    refused = {**LEASE, "state": "refused", "reasons": [{"code": "no_such_server", "detail": "none"}]}
    for as_json in ((), ("--json",)):
        door.answers = [(202, refused)]
        found = mesh(door, "lease", "create", "metal", "--nodes", "9", *as_json)
        assert (found.returncode, found.stderr) == (1, "mesh lease: metal is refused: none\n")
        assert bool(found.stdout) == bool(as_json)


def test_caps_are_set_lifted_and_listed_with_what_is_beyond_them(door: Door) -> None:
    site = {"items": [{"id": "fr-idf-1"}]}
    door.answers = [(200, site), (200, CAP)]
    said = done(door, "cap", "set", "rack", "r1", "9000")
    assert said == "set: rack r1 9000 W, 9100 W by plan: 100 W above → raise it\n"
    assert door.asked[-1][1:3] == (
        "/api/v1/sites/fr-idf-1/caps",
        {"level": "rack", "domain": "r1", "watts": 9_000},
    )
    body = sent(door, {**CAP, "watts": None}, "cap", "set", "rack", "r1", "none", "--site", "fr-idf-1")
    assert body["watts"] is None
    door.answers = [(200, {"items": [CAP]})]
    assert "-100" in done(door, "cap", "list", "--site", "fr-idf-1")
    assert mesh(door, "cap", "set", "rack", "r1", "many").returncode == 2


def test_a_maintenance_window_is_planned_in_plain_words_listed_and_cancelled(door: Door) -> None:
    window = {
        "id": "window_1",
        "state": "planned",
        "nodes": ["n1", "n2"],
        "starts_at": "2027-01-01T22:00:00Z",
        "ends_at": "2027-01-02T00:00:00Z",
        "reason": "new fans",
        "planned_by": "key_1",
        "remain": [{"id": "lease_1", "kind": "lease"}, {"id": "job_1", "kind": "job"}],
        "remain_count": 2,
        "reasons": [{"code": "leases_in_the_way", "detail": "lease_1 stays", "unblock": "ask"}],
    }
    there = ("--site", "fr-idf-1")
    plan = ("site", "maintain", "n1", "n2", "--reason", "new fans", *there)
    door.answers = [(201, window)]
    said = done(door, *plan, "--from", "2027-01-01T22:00Z", "--until", "+2h")
    method, path, body, headers = door.asked[-1]
    assert (method, path) == ("POST", "/api/v1/sites/fr-idf-1/maintenance")
    assert headers["idempotency-key"]
    assert body == {
        "nodes": ["n1", "n2"],
        "starts_at": "2027-01-01T22:00:00+00:00",
        "ends_at": "2027-01-02T00:00:00+00:00",
        "reason": "new fans",
    }
    head, _, follows, leaves, stays = said.splitlines()
    assert head == "planned: window_1"
    assert follows == "then they are drained, and come back after a check at 2027-01-02T00:00:00Z"
    assert (leaves, stays) == ("will have to leave: job_1", "lease_1 stays → ask")

    door.answers = [(201, {**window, "ends_at": None, "remain": [], "reasons": []})]
    assert done(door, *plan).rstrip().endswith("mesh site maintain --cancel window_1")
    assert door.asked[-1][2]["ends_at"] is None
    door.answers = [(200, {"items": [window], "next": None})]
    row = done(door, "site", "maintenance", "--ended", *there).splitlines()[1]
    assert row.split("  ")[-1] == "lease_1 stays → ask"
    assert door.asked[-1][1].endswith("/maintenance?ended=true")
    door.answers = [(202, {**window, "state": "cancelled"})]
    assert "checked" in done(door, "site", "maintain", "--cancel", "window_1", *there)
    assert door.asked[-1][:2] == ("DELETE", "/api/v1/sites/fr-idf-1/maintenance/window_1")
    for wrong, word in (
        (("n1",), "--reason"),
        (("n1", "--reason", "f", "--until", "soon"), "soon is no moment"),
        (("n1", "--cancel", "window_1"), "no nodes beside it"),
    ):
        refused = mesh(door, "site", "maintain", *wrong, *there)
        assert (refused.returncode, word in refused.stderr) == (1, True)


def test_quota_is_set_for_a_scope_and_listed(door: Door) -> None:
    words = ("quota", "set", "project/demo", "--gpus", "8", "--domains", "GB200=1", "--max", "16")
    body = sent(door, QUOTA, *words)
    assert body == {
        "scope": {"kind": "project", "id": "demo"},
        "gpus": 8,
        "nvlink_domains": {"GB200": 1},
        "weight": 100,
        "gpus_max": 16,
    }
    org = sent(door, QUOTA, "quota", "set", "org_019ab", "--gpus", "1")
    assert org["scope"] == {"kind": "organization", "id": "org_019ab"}
    door.answers = [(200, {"items": [QUOTA]})]
    assert "1 GB200" in done(door, "quota", "list")
    for bad in ("demo", "key/k", "endpoint_1"):
        assert mesh(door, "quota", "set", bad, "--gpus", "1").returncode == 2


def test_a_site_is_shown_as_far_as_the_caller_may_see_it(door: Door) -> None:
    offered = {"id": "fr-idf-1", "jurisdictions": ["FR"], "gpu_models": ["GB200"]}
    held = {**offered, "nodes": {"ready": 9}, "jobs": {"queued": 2}, "planned_w": 900}
    door.answers = [(200, {"items": [offered]}), (200, {"items": [held]}), (200, held)]
    assert "GB200" in done(door, "site")
    assert "9 ready" in done(door, "site", "list")
    assert "planned_w" in done(door, "site", "get", "fr-idf-1")


def test_a_node_is_drained_with_a_reason_and_a_deadline(door: Door) -> None:
    node = {"id": "node_1", "name": "n1", "state": "draining", "workloads": 2}
    body = sent(door, node, "node", "drain", "n1", "--reason", "fan", "--grace", "60")
    assert (body, door.asked[-1][1]) == ({"reason": "fan", "grace_s": 60}, "/api/v1/nodes/n1:drain")


def test_what_would_be_is_asked_and_told_line_by_line(door: Door) -> None:
    told = {
        "fits": True,
        "survivors": [{"code": "known", "detail": "nodes at this site", "count": 4}],
        "seats": [{"node": "n1"}, {"node": "n2"}],
        "displaced": [
            {"id": "job_1", "kind": "job", "fits": False},
            {"id": "job_2", "kind": "job", "fits": True, "nodes": ["n3"]},
        ],
        "breaches": [{"level": "rack", "domain": "r1", "over_w": 9}],
    }
    door.answers = [(200, told)]
    words = ("--members", "2", "--lose", "rack=r1", "--cap", "pdu=p1=9000", "--add", "500=n1")
    said = done(door, "endpoint", "explain", "--gpus", "8", *words).splitlines()
    assert said[-4:] == [
        "it would go to n1, n2",
        "job job_1 has no place any more",
        "job job_2 goes to n3",
        "rack r1 is 9 W above its cap",
    ]
    assert door.asked[-1][2]["changes"] == [
        {"change": "lose", "level": "rack", "domain": "r1"},
        {"change": "cap", "level": "pdu", "domain": "p1", "watts": 9_000},
        {"change": "add", "nodes": 500, "like": "n1"},
    ]
    for bad in (("--lose", "r1"), ("--cap", "rack=r1"), ("--add", "n1")):
        assert mesh(door, "endpoint", "explain", *bad).returncode == 2
