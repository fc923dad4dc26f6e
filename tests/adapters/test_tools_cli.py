"""The users' commands against a small double of the public door: tables, JSON, one-line refusals."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh_contracts.streams import USERS
from mesh_tools.__main__ import COMMANDS, NOT_YET, run
from mesh_tools.run import SERVICES

from tests.adapters.doubles import Door, mesh, opened

pytestmark = pytest.mark.slow

MODULES_MAX = 200
HEAVY = {"asyncpg", "litestar", "meshkit", "nats", "numpy", "opentelemetry"}
NODE = {
    "id": "node_1",
    "name": "node-1",
    "state": "cordoned",
    "rehearsal": True,
    "gpus": 2,
    "gpu_milli_free": 2000,
    "memory_mib_free": 512,
    "workloads": 0,
    "since": "2026-01-01T00:00:00Z",
    "reasons": [{"code": "gemm", "detail": "row 17 is wrong", "unblock": "mend it"}],
}


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as made:
        yield made


def test_a_list_is_a_table_with_its_reasons(door: Door) -> None:
    door.answers = [(200, {"items": [NODE], "next": None})]
    head, line = mesh(door, "node", "list").stdout.splitlines()
    assert head.split("  ")[0] == "NAME"
    assert line.startswith("node-1  cordoned  2 (rehearsal)")
    assert line.endswith("row 17 is wrong → mend it")
    assert door.asked[0][3]["authorization"] == "Bearer key"


def test_json_is_the_answer_itself_over_all_pages(door: Door) -> None:
    door.answers = [(200, {"items": [{"name": "a"}], "next": "c"}), (200, {"items": [{"name": "b"}]})]
    told = json.loads(mesh(door, "org", "list", "--json").stdout)
    assert [one["name"] for one in told["items"]] == ["a", "b"]
    assert [path for _, path, _, _ in door.asked] == [
        "/api/v1/organizations",
        "/api/v1/organizations?cursor=c",
    ]


def test_a_refusal_is_one_line_with_what_to_do_and_exit_code_1(door: Door) -> None:
    problem = {
        "title": "No",
        "status": 409,
        "code": "name_taken",
        "detail": "the name is taken: choose another",
    }
    door.answers = [(409, problem)] * 2
    done = mesh(door, "org", "create", "acme")
    assert done.returncode == 1
    assert done.stderr == "mesh org: the name is taken: choose another (409 name_taken)\n"
    assert door.asked[0][2] == {"name": "acme"}
    assert door.asked[0][3]["idempotency-key"]
    assert mesh(door, "key", "create", "k", "--role", "admin", "--project", "p").returncode == 1
    assert door.asked[1][2] == {"name": "k", "role": "admin", "project": "p"}


def test_nobody_at_the_door_is_one_line_with_what_to_do(door: Door, tmp_path: Path) -> None:
    door.server.socket.close()
    for done in (mesh(door, "usage"), mesh(None, "usage", cwd=tmp_path)):
        assert done.returncode == 1
        assert "./mesh up" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "key", "word"),
    [
        ("http://127.0.0.1:http", "k", "MESH_URL"),
        ("http://127.0.0.1:99999", "k", "MESH_URL"),
        ("http://[::1", "k", "MESH_URL"),
        ("127.0.0.1:8080", "k", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:1", "a\nb", "MESH_API_KEY"),
        ("http://127.0.0.1:1", "☃", "MESH_API_KEY"),
        ("http://127.0.0.1:1", "", "MESH_API_KEY"),
    ],
)
def test_an_address_or_a_key_that_cannot_be_one_is_named_in_one_line(
    url: str, key: str, word: str
) -> None:
    done = mesh(None, "usage", MESH_URL=url, MESH_API_KEY=key)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert word in done.stderr


def test_what_answers_but_is_no_mesh_and_a_name_that_is_none_are_one_line(door: Door) -> None:
    door.answers = [(200, "<html>")]
    for words, code in ((("usage",), 1), (("endpoint", "delete", ""), 1), (("org", b"\xff"), 2)):
        done = mesh(door, *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr


def test_a_folder_that_is_named_means_its_mesh_whatever_else_the_shell_exports(
    door: Door, tmp_path: Path
) -> None:
    state = {"gateway": door.url, "admin_key": "of-the-folder", "project_key": "p"}
    (tmp_path / "state.json").write_text(json.dumps(state))
    door.answers = [(200, {"items": []})] * 2
    other = {"MESH_URL": "http://127.0.0.1:1", "MESH_API_KEY": "of-another"}
    assert mesh(None, "usage", "--data", str(tmp_path), **other).returncode == 0
    assert mesh(None, "usage", MESH_DATA=str(tmp_path), MESH_API_KEY="mine").returncode == 0
    sent = [headers["authorization"] for _, _, _, headers in door.asked]
    assert sent == ["Bearer of-the-folder", "Bearer mine"]
    lone = mesh(None, "usage", MESH_DATA=str(tmp_path), MESH_URL="http://127.0.0.1:1")
    assert "MESH_API_KEY" in lone.stderr, "our key goes to no other address"


def test_a_trace_is_looked_for_where_every_command_looks(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    done = mesh(None, "trace", "request_1", MESH_DATA=str(tmp_path))
    assert f"nothing is known of request_1 in {tmp_path / 'traces'}" in done.stderr


def test_a_receipt_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "receipt.json").write_text("[" * 60_000)
    done = mesh(None, "receipt", "verify", str(tmp_path / "receipt.json"), "--key", "0" * 64)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("REFUSED")


def test_a_receipt_that_is_pending_is_waited_for(door: Door) -> None:
    pending = {"title": "Later", "status": 409, "code": "receipt_pending", "detail": "not settled yet"}
    door.answers = [(409, pending), (200, {"request_id": "request_1"})]
    done = mesh(door, "carbon", "receipt", "request_1")
    assert json.loads(done.stdout) == {"request_id": "request_1"}


def test_a_change_of_replicas_carries_the_generation_it_was_decided_on(door: Door) -> None:
    endpoint = {"id": "endpoint_1", "name": "tiny", "generation": 7, "state": "serving", "reasons": []}
    door.answers = [(200, endpoint), (200, endpoint)]
    assert mesh(door, "endpoint", "scale", "tiny", "--min", "2").returncode == 0
    method, path, body, headers = door.asked[1]
    assert (method, path, headers["if-match"]) == ("PATCH", "/api/v1/endpoints/endpoint_1", "7")
    assert body == {"replicas": {"min": 2, "max": 2}}
    door.answers = [(200, endpoint), (200, endpoint)] * 2
    assert mesh(door, "endpoint", "scale", "tiny", "--min", "0").returncode == 0
    assert mesh(door, "endpoint", "scale", "tiny", "--min", "0", "--max", "0").returncode == 0
    sent = [body["replicas"] for method, _, body, _ in door.asked if method == "PATCH"]
    assert sent[1:] == [{"min": 0, "max": 1}, {"min": 0, "max": 0}], "as it was said, to be refused"


def test_events_are_followed_as_they_come(door: Door) -> None:
    event = {"time": "t", "type": "placement.endpoint.changed", "subject": "endpoint_1"}
    door.answers = [(200, f": hello\n\nid: c1\ndata: {json.dumps(event)}\n\n")]
    done = mesh(door, "events", "follow")
    assert done.stdout == "t  placement.endpoint.changed  endpoint_1  c1\n"
    ended = "mesh events: the event stream ended; go on with --after c1\n"
    assert (done.returncode, done.stderr) == (1, ended), "the gateway went away, not the events"


def test_a_bit_is_flipped_only_in_a_rehearsal_of_a_mesh_on_this_machine(
    door: Door, tmp_path: Path
) -> None:
    (tmp_path / "nodes" / "node-1").mkdir(parents=True)
    data = ("--data", str(tmp_path))
    assert mesh(door, "node", "break", "node-1", "--row", "18", *data).returncode == 0
    scenario = tmp_path / "nodes" / "node-1" / "rehearsal.json"
    assert json.loads(scenario.read_text()) == {"gemm": {"device": 1, "row": 18, "col": 3, "bit": 5}}
    assert mesh(door, "node", "mend", "node-1", *data).returncode == 0
    assert not scenario.exists()
    refused = mesh(door, "node", "break", "node-9", *data)
    assert refused.returncode == 1
    assert "it has node-1" in refused.stderr


def test_a_running_mesh_is_found_from_a_folder_below_and_its_exports_fit_a_shell(
    tmp_path: Path,
) -> None:
    state = {"gateway": "http://127.0.0.1:1", "admin_key": "a", "project_key": "p; rm"}
    (tmp_path / ".mesh").mkdir()
    (tmp_path / ".mesh" / "state.json").write_text(json.dumps(state))
    below = tmp_path / "below"
    below.mkdir()
    assert mesh(None, "env", cwd=below).stdout.splitlines() == [
        "export MESH_URL=http://127.0.0.1:1",
        "export MESH_API_KEY='p; rm'",
        "export MESH_ADMIN_KEY=a",
    ]


def test_a_number_of_gateways_that_cannot_be_is_refused_before_anything_starts() -> None:
    for number in ("0", "17"):
        done = mesh(None, "up", "--gateways", number)
        assert (done.returncode, "--gateways takes 1 to 16" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("name", sorted(NOT_YET))
def test_a_command_that_does_not_exist_yet_says_so(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, []) == 2
    said = capsys.readouterr()
    assert "not there yet" in said.err
    assert said.out == ""


def test_every_service_can_be_run_alone() -> None:
    assert {*SERVICES} == {*USERS.values(), "node-agent"}


@pytest.mark.parametrize(("out", "code", "lines"), [(">/dev/full", 1, 1), (">&-", 0, 0), ("|:", 0, 0)])
def test_an_output_that_takes_nothing_is_no_traceback(out: str, code: int, lines: int) -> None:
    shell = ["bash", "-o", "pipefail", "-c", f'"$0" -P -m mesh_tools --help {out}', sys.executable]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, lines), done.stderr


def test_a_command_that_nobody_knows_is_named() -> None:
    done = mesh(None, "teleport")
    assert (done.returncode, done.stderr) == (
        2,
        "mesh: there is no command 'teleport'; `mesh --help` lists them\n",
    )


def test_every_command_explains_itself_and_loads_little_to_do_so() -> None:
    """Count modules, not seconds: what a command loads is most of what it makes its user wait for."""
    listed = mesh(None, "--help").stdout
    for name in COMMANDS:
        assert f"  {name} " in listed
        done = mesh(None, name, "--help", PYTHONPROFILEIMPORTTIME="1")
        assert done.returncode == 0, (name, done.stderr)
        assert done.stdout.startswith("usage: mesh")
        loaded = re.findall(r"^import time: .*\| *(\S+)$", done.stderr, re.MULTILINE)
        assert 0 < len(loaded) <= MODULES_MAX, name
        assert not {module.partition(".")[0] for module in loaded} & HEAVY, name


def test_what_cannot_be_asked_now_is_asked_again_under_the_same_key(door: Door) -> None:
    away = {"code": "unavailable", "detail": "placement cannot be asked now", "retry_after_s": 1}
    job = {"id": "job_1", "name": "train", "state": "running", "generation": 3}
    door.answers = [(200, job), (503, away), (200, {**job, "state": "cancelled"})]
    done = mesh(door, "job", "cancel", "train")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "mesh: placement cannot be asked now (503 unavailable); asking again ...\n"
    _, first, second = door.asked
    assert first[:3] == second[:3]
    assert first[3]["idempotency-key"] == second[3]["idempotency-key"]


def test_a_refusal_that_is_not_for_now_alone_is_told_at_once(door: Door) -> None:
    full = {"code": "outbox_full", "detail": "too much waits to be told", "retry_after_s": 5}
    door.answers = [(503, full)]
    done = mesh(door, "job", "cancel", "train")
    assert (done.returncode, len(door.asked)) == (1, 1)
    assert "too much waits to be told" in done.stderr
