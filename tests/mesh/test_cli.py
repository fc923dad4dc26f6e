"""The command line: what it prints, and how soon."""

import json
import subprocess
import time

import pytest

from tests.mesh.harness import ROOT, Mesh

pytestmark = pytest.mark.slow

COMMANDS = [
    ["node", "list"],
    ["endpoint", "list"],
    ["usage"],
    ["budget", "list"],
    ["limit"],
    ["carbon"],
    ["key", "list"],
    ["org", "list"],
    ["project", "list"],
    ["events", "--limit", "1"],
    ["dead-letter", "list"],
    ["--help"],
]


def mesh_command(
    mesh: Mesh, *words: str, key: str = "admin_key"
) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    done = subprocess.run(
        ["./mesh", *words],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": "/tmp",
            "MESH_URL": mesh.url,
            "MESH_API_KEY": mesh.ready[key],
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done, time.monotonic() - began


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_prints_what_people_read(mesh: Mesh, words: list[str]) -> None:
    done, took = mesh_command(mesh, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
    # A timing decides nothing here; `mesh check --long` keeps it.
    assert took < 30


def test_a_program_gets_json(mesh: Mesh) -> None:
    done, _ = mesh_command(mesh, "node", "list", "--json")
    listed = json.loads(done.stdout)
    assert {node["name"] for node in listed["items"]} == {"node-1", "node-2"}


def test_a_refusal_is_one_line_that_says_what_to_do(mesh: Mesh) -> None:
    done, _ = mesh_command(mesh, "node", "list", key="project_key")
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert "node.read" in done.stderr


def test_what_is_not_there_yet_says_so(mesh: Mesh) -> None:
    done, _ = mesh_command(mesh, "invoice", "list")
    assert done.returncode == 2
    assert "not there yet" in done.stderr
