"""``mesh tail`` hears a running mesh and can do nothing to it; ``mesh run`` knows its programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mesh.harness import ROOT, Mesh

pytestmark = pytest.mark.slow


def tail(mesh: Mesh, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "mesh_tools", "tail", *arguments]
    return subprocess.run(
        [*command, "--data", str(mesh.folder)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


def test_facts_go_by_as_they_are_told(mesh: Mesh) -> None:
    done = tail(mesh, "agent.energy.>", "--limit", "1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["subject"].startswith("agent.energy.measured.fr-idf-1.")
    assert told["fact"]["tag"] == "agent.energy.measured/1"


def test_what_the_observer_may_not_hear_is_refused_in_one_line(mesh: Mesh) -> None:
    done = tail(mesh, "$KV.access.>")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "permissions violation" in done.stderr.lower()


def test_what_is_no_subject_is_refused_in_one_line(mesh: Mesh) -> None:
    done = tail(mesh, "agent. energy")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert "'agent. energy' is no subject: facts begin with one of identity" in done.stderr


def test_it_ends_once_nobody_reads_it_any_more(mesh: Mesh) -> None:
    command = [sys.executable, "-P", "-m", "mesh_tools", "tail", "--data", str(mesh.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_a_mesh_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "mesh_tools", "tail", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "./mesh up" in done.stderr
