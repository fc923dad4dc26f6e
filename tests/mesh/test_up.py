"""``mesh up``: second starts, hard ends, and clear words when it cannot."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.harness import ROOT, Mesh, running, start, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def up(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mesh_tools", "up", *options],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )


def alive(pids: list[int]) -> list[int]:
    left = []
    for pid in pids:
        try:
            said = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if said != "Z":
            left.append(pid)
    return left


def children_of(folder: Path) -> list[int]:
    """Return every process that has ``folder`` in its command line or environment."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words:
            found.append(int(process.name))
    return alive(found)


def ledger_line(mesh: Mesh, request_id: str) -> dict[str, Any]:
    """Return a request's record without its footprint, which is settled later."""
    return {name: value for name, value in mesh.record(request_id).items() if name != "footprint"}


def test_ctrl_c_stops_everything_and_state_survives_also_in_a_path_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces"
    with running(folder) as mesh:
        assert stat.S_IMODE(mesh.ready_file.stat().st_mode) == 0o600
        assert {"gateway", "admin_key", "project_key", "nats_url", "postgres_dsn", "pids"} <= set(
            mesh.ready
        )
        _, caller = mesh.project("lasting")
        mesh.deploy(caller, "kept", "lasting")
        answered = caller.call(
            "POST",
            "/v1/chat/completions",
            {"model": "kept", "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]},
        )
        request_id = answered.headers["x-request-id"]
        before = ledger_line(mesh, request_id)
        keys = (mesh.ready["admin_key"], mesh.ready["project_key"])
        mesh.up.send_signal(signal.SIGINT)
        assert mesh.up.wait(15) == 0
    assert until("nothing is left", 5.0, lambda: True if not children_of(folder) else None)
    with running(folder) as again:
        assert (again.ready["admin_key"], again.ready["project_key"]) == keys
        assert ledger_line(again, request_id) == before
        caller = type(caller)(again.url, caller._key)

        def serves() -> bool | None:
            chat = {"model": "kept", "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]}
            return True if caller.call("POST", "/v1/chat/completions", chat).status == 200 else None

        until("the tenant's own endpoint serves again", 20.0, serves)


def test_a_second_mesh_on_the_same_folder_or_port_is_one_clear_error(
    mesh: Mesh, tmp_path: Path
) -> None:
    same_folder = up("--data", str(mesh.folder), "--port", "0")
    taken = up("--data", str(tmp_path / "second"), "--port", mesh.url.rpartition(":")[2])
    assert same_folder.returncode != 0
    assert "Traceback" not in same_folder.stdout + same_folder.stderr
    assert str(mesh.folder) in same_folder.stdout + same_folder.stderr
    assert taken.returncode != 0
    assert "Traceback" not in taken.stdout + taken.stderr
    assert "port" in (taken.stdout + taken.stderr).lower()


def test_what_dies_is_restarted_and_said_so(tmp_path: Path) -> None:
    with running(tmp_path, "--bare", "--gateways", "2") as mesh:
        killed = mesh.kill("metering")
        mesh.wait_restarted("metering", killed)
        first, second = mesh.pids("inference-gateway")
        os.kill(second, signal.SIGKILL)

        def other() -> bool | None:
            pids = mesh.pids("inference-gateway")
            assert mesh.tenant.call("GET", "/v1/models").status == 200
            return True if len(pids) == 2 and pids[0] == first and pids[1] != second else None

        until("the second gateway is restarted", 20.0, other)
        said = (tmp_path / "up.log").read_text()
    assert "metering was killed by SIGKILL; restart 1" in said
    assert "inference-gateway-2 was killed by SIGKILL; restart 1" in said


def test_what_dies_is_restarted_where_its_new_number_cannot_be_told(tmp_path: Path) -> None:
    with running(tmp_path, "--bare", "--nodes", "0") as mesh:
        mesh.ready_file.unlink()
        mesh.ready_file.mkdir()
        state = tmp_path / "state.json"
        (killed,) = json.loads(state.read_text())["pids"]["metering"]
        os.kill(killed, signal.SIGKILL)

        def restarted() -> bool | None:
            now = json.loads(state.read_text())["pids"]["metering"]
            return True if now and now != [killed] else None

        until("metering is restarted", 10.0, restarted)
        assert "ready.json cannot be written" in (tmp_path / "up.log").read_text()
        mesh.ready_file.rmdir()


def test_the_nodes_have_joined_with_a_token_and_were_checked(mesh: Mesh) -> None:
    nodes = mesh.operator.get("/api/v1/nodes")["items"]
    assert len(nodes) == 2
    for node in nodes:
        assert node["rehearsal"]
        assert node["checks"][0]["verdict"] == "pass"
        assert node["checks"][0]["rehearsal"]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_a_demo_that_is_ended_leaves_no_mesh_behind(tmp_path: Path, sent: signal.Signals) -> None:
    command = [sys.executable, "-m", "mesh_tools", "demo"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as demo:
        try:
            until("its mesh is there", 30.0, lambda: next(tmp_path.glob("*/run/identity.log"), None))
            demo.send_signal(sent)
            demo.wait(30)
        finally:
            demo.kill()
    until("every process is gone", 15.0, lambda: True if not children_of(tmp_path) else None)
    assert sent is signal.SIGKILL or not list(tmp_path.glob("mesh-demo-*"))


def test_a_hard_end_leaves_no_process_behind_and_a_mesh_starts_again_at_once(tmp_path: Path) -> None:
    first = start(tmp_path)
    key = first.ready["admin_key"]
    assert children_of(tmp_path)
    first.up.kill()
    first.up.wait()
    until("every process is gone", 10.0, lambda: True if not children_of(tmp_path) else None)
    with running(tmp_path) as second:
        assert second.ready["admin_key"] == key
        chat = {"model": "tiny", "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]}
        until(
            "the first token",
            10.0,
            lambda: (
                True if second.tenant.call("POST", "/v1/chat/completions", chat).status == 200 else None
            ),
        )


def test_a_ready_file_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    refused = up(
        "--data", str(tmp_path / "data"), "--port", "0", "--ready-file", str(tmp_path / "no" / "r")
    )
    assert refused.returncode == 1
    assert "--ready-file" in refused.stderr
    a_folder = up("--data", str(tmp_path / "data"), "--port", "0", "--ready-file", str(tmp_path))
    assert a_folder.stderr == f"mesh up: --ready-file {tmp_path} is a folder: name a file\n"
    assert not (tmp_path / "data").exists()
