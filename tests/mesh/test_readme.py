"""Each command in the README's words for its users is run, as it stands there."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh_tools.demo.client import Client

from tests.mesh.harness import ROOT, Mesh, free_port, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FENCE = re.compile(r"^```sh (\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SAMPLES = {
    "start",
    "call",
    "watch",
    "bound",
    "tenant",
    "scale",
    "explain",
    "place",
    "events",
    "break",
}


def blocks() -> dict[str, str]:
    return dict(FENCE.findall((ROOT / "README.md").read_text()))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project's files in a folder of their own, with the environment of this one."""
    folder = tmp_path_factory.mktemp("read me")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture(scope="module")
def started(clone: Path) -> Iterator[Mesh]:
    """Run the block `start` as it stands, but for a port that is free here."""
    command = blocks()["start"].strip()
    assert command == "./mesh up"
    with (clone / "up.log").open("w") as log:
        up = subprocess.Popen(
            [*command.split(), "--port", str(free_port()), "--ready-file", "ready.json"],
            cwd=clone,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    mesh = Mesh(clone, up, clone / "ready.json")
    try:
        until(
            "ready", 60.0, lambda: True if mesh.ready_file.exists() or up.poll() is not None else None
        )
        assert up.poll() is None, (clone / "up.log").read_text()
        yield mesh
    finally:
        mesh.stop()


def shell(clone: Path, block: str, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", blocks()[block]],
        cwd=clone,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{block}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_readme_has_a_block_for_each_thing_a_user_does() -> None:
    assert set(blocks()) == SAMPLES


def test_a_tenant_calls(clone: Path, started: Mesh) -> None:
    said = shell(clone, "call")
    assert "data: [DONE]" in said
    assert '"embedding"' in said
    assert "tiny" in said


def test_a_request_is_explained_from_the_door_to_its_receipt(clone: Path, started: Mesh) -> None:
    caller = Client(started.url, started.ready["project_key"])
    chat = {"model": "tiny", "max_tokens": 4, "messages": [{"role": "user", "content": "x"}]}
    request_id = caller.post("/v1/chat/completions", chat).headers["x-request-id"]
    receipt = f"/api/v1/carbon/receipts/{request_id}"
    until(
        "the receipt is settled",
        40.0,
        lambda: True if caller.call("GET", receipt).status == 200 else None,
    )
    said = shell(clone, "explain", REQUEST_ID=request_id)
    assert request_id in said
    assert "Wh (estimated)" in said
    assert "it was the only one" in said


def test_finance_and_sustainability_watch(clone: Path, started: Mesh) -> None:
    assert "demo" in shell(clone, "watch")


def test_the_integrator_and_the_sre_watch(clone: Path, started: Mesh) -> None:
    said = shell(clone, "events")
    assert "node-1" in said


def test_a_node_is_broken_and_mended(clone: Path, started: Mesh) -> None:
    said = shell(clone, "break")
    assert "cordoned" in said
    assert "17" in said


def test_a_project_is_given_a_budget_and_limits(clone: Path, started: Mesh) -> None:
    said = shell(clone, "bound")
    assert "hard budget" in said
    assert "5.000000" in said


def test_another_tenant_is_let_in_and_sees_only_what_is_its(clone: Path, started: Mesh) -> None:
    said = shell(clone, "tenant")
    assert "small is serving" in said
    assert re.search(r"^small +research +serving", said, re.MULTILINE)
    assert not re.search(r"^tiny +demo", said, re.MULTILINE)


def test_an_endpoint_is_led_and_scaled(clone: Path, started: Mesh) -> None:
    said = shell(clone, "scale")
    assert re.search(r"^replicas\.max +2$", said, re.MULTILINE)
    assert re.search(r"^routing\.by +prefix$", said, re.MULTILINE)


def test_a_gang_is_placed_within_quota_and_caps(clone: Path, started: Mesh) -> None:
    said = shell(clone, "place")
    assert re.search("train is (running|succeeded)", said)
    assert "bare is active, a rehearsal" in said
    assert "bare is releasing" in said
    assert "2 GPUs of org_" in said
    assert "site fr-idf-1 2000 W" in said
