"""``mesh run``: the programs of a mesh one by one, as Tilt runs them."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.tree import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
READY_WITHIN_S = 30.0


class Programs:
    """The programs of one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, *more), capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
        )

    def command(self, name: str, *more: str) -> list[str]:
        return [sys.executable, "-P", "-m", "mesh_tools", "run", name, "--data", str(self.data), *more]

    def serve(self, name: str) -> None:
        with (self.data / f"{name}.log").open("wb") as log:
            self.running.append(
                subprocess.Popen(self.command(name), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
        until = time.monotonic() + READY_WITHIN_S
        while self.run(name, "--ready").returncode != 0:
            assert time.monotonic() < until, (self.data / f"{name}.log").read_text()[-2_000:]

    def end(self) -> None:
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path / "data")
    yield made
    made.end()


def test_a_service_runs_alone_once_its_bus_and_database_do(programs: Programs) -> None:
    assert programs.run("identity").returncode != 0
    assert programs.run("prepare", "--port", "0").returncode == 0
    programs.serve("nats-server")
    programs.serve("postgres")
    ports = (programs.data / "ports.json").read_text()
    again = programs.run("prepare")
    assert again.returncode == 1
    assert again.stderr.startswith(f"mesh run prepare: a mesh already runs in {programs.data}")
    assert (programs.data / "ports.json").read_text() == ports, "those that run go by them"
    assert programs.run("admin").returncode == 0
    assert programs.run("identity", "--ready").returncode == 1
    programs.serve("identity")
    environment = Path(f"/proc/{programs.running[-1].pid}/environ").read_bytes()
    assert b"POSTGRES_DSN=" in environment
    assert b"postgresql://" not in Path(f"/proc/{programs.running[-1].pid}/cmdline").read_bytes()


def test_what_is_no_data_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, data, said in (
        ("prepare", tmp_path / "file", "name a folder"),
        ("identity", tmp_path / "nothing", "`mesh run prepare` makes it"),
    ):
        done = Programs(data).run(name)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert said in done.stderr
