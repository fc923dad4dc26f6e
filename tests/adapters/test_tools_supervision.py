"""What `mesh up` does to processes: real ones, tied to their parent, restarted, bounded."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mesh_tools.embedded import tied
from mesh_tools.up import child as supervised
from mesh_tools.up.child import Child, how_it_ended


class Program:
    """Runs a Python text."""

    def __init__(self, source: str) -> None:
        self.source = textwrap.dedent(source)
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, log: Path) -> int:
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                tied.command(signal.SIGKILL, sys.executable, "-I", "-S", "-c", self.source),
                stdout=out,
                stderr=out,
            )
        return self.process.pid

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


async def until(look: Callable[[], object], seconds: float = 10.0) -> None:
    last = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < last, "it did not come true in time"
        await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_what_dies_is_started_again_and_said_so(tmp_path: Path) -> None:
    said: list[str] = []
    runs = Program("import time; time.sleep(60)")
    one = Child("worker", "worker", runs, tmp_path / "worker.log", said.append)
    one.start()
    watch = asyncio.create_task(one.watch(lambda: None))
    try:
        first = one.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: one.pid not in {None, first})
        assert said == ["worker was killed by SIGKILL; restart 1 in 0.1 s"]
    finally:
        one.stopping()
        runs.stop()
        await watch


async def test_what_cannot_run_is_tried_ever_more_rarely_and_its_last_words_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "BACKOFF_FIRST_S", 0.01)
    said: list[str] = []
    one = Child("w", "w", Program("raise SystemExit('no such thing')"), tmp_path / "w.log", said.append)
    one.start()
    watch = asyncio.create_task(one.watch(lambda: None))
    await until(lambda: one.restarts >= 3)
    one.stopping()
    await watch
    assert said[0] == "w ended with exit code 1; restart 1 in 0.0 s · it said: no such thing"
    backoffs = [float(line.split(" in ")[1].split(" s")[0]) for line in said]
    assert backoffs == sorted(backoffs)


async def test_a_program_ends_when_the_one_who_started_it_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    parent = subprocess.Popen(  # noqa: ASYNC220 it ends at once
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
            import pathlib, signal, subprocess, sys, time
            from mesh_tools.embedded import tied
            sleeper = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
            process = subprocess.Popen(tied.command(signal.SIGKILL, *sleeper))
            pathlib.Path({str(told)!r}).write_text(str(process.pid))
            time.sleep(60)
            """),
        ]
    )
    try:
        await until(lambda: told.exists() and told.read_text())
        pid = int(told.read_text())
        # The wrapper has become the program once its command line no longer names the wrapper.
        await until(lambda: b"tied.py" not in Path(f"/proc/{pid}/cmdline").read_bytes())
    finally:
        parent.kill()
        parent.wait()
    await until(lambda: not lives(pid))


def test_a_program_whose_parent_has_gone_meanwhile_never_starts(tmp_path: Path) -> None:
    told = tmp_path / "told"
    other_parent = str(os.getpid() + 1)
    command = tied.command(signal.SIGKILL, sys.executable, "-c", f"open({str(told)!r}, 'w')")
    command[command.index(str(os.getpid()))] = other_parent
    assert subprocess.run(command, check=False).returncode == 1
    assert not told.exists()


async def test_a_log_is_bounded_while_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "LOG_BYTES_MAX", 10_000)
    monkeypatch.setattr(supervised, "LOG_KEPT_BYTES", 1_000)
    log = tmp_path / "w.log"
    runs = Program(
        """
        import sys, time
        for number in range(2000):
            print("line", number, flush=True)
        sys.stdin.read()
        """
    )
    one = Child("w", "w", runs, log, print)
    one.start()
    try:
        await until(lambda: b"line 1999" in log.read_bytes())
        one.bound_log()
        assert log.stat().st_size == 0
        kept = (tmp_path / "w.log.1").read_bytes()
        assert len(kept) == 1_000
        assert kept.endswith(b"line 1999\n")
    finally:
        runs.stop()


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "ended with exit code 0"), (-9, "was killed by SIGKILL"), (3, "ended with exit code 3")],
)
def test_how_a_process_ended_is_said_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words
