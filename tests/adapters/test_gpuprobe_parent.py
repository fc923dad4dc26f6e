"""A check ends with the process that began it, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STARTS = """
import subprocess, sys, time
from pathlib import Path
said = open(sys.argv[1], "w")
# So many devices that it has work for minutes.
devices = [word for number in range(1000) for word in ("--device", str(number))]
child = subprocess.Popen(
    [sys.executable, "-P", "-m", "gpuprobe", "--level", "deep", "--backend", "numpy", "--json", "--with-parent", *devices],
    stdout=said, stderr=said,
)
Path(sys.argv[2]).write_text(str(child.pid))
time.sleep(600)
"""
ENDS_WITHIN_S = 20.0


def runs(pid: int) -> bool:
    """Tell whether a process works; one that nobody has reaped yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def at_work(pid: int) -> bool:
    """Tell whether its check has begun: NumPy is loaded before."""
    return "numpy" in Path(f"/proc/{pid}/maps").read_text()


def test_a_check_ends_once_whoever_began_it_was_killed(tmp_path: Path) -> None:
    said, number = tmp_path / "said", tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", STARTS, str(said), str(number)])
    try:
        until = time.monotonic() + ENDS_WITHIN_S
        while not (number.exists() and number.read_text() and at_work(int(number.read_text()))):
            assert time.monotonic() < until, "the check did not begin"
            time.sleep(0.05)
        pid = int(number.read_text())
        time.sleep(0.5)
        assert runs(pid), said.read_text()
    finally:
        parent.kill()
        parent.wait()
    until = time.monotonic() + ENDS_WITHIN_S
    while runs(pid):
        assert time.monotonic() < until, "the check goes on"
        time.sleep(0.05)


DEVICES = [word for number in range(1000) for word in ("--device", str(number))]


def child_of(pid: int) -> int | None:
    """Return the process that ``pid`` began, once its check is at work."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(stat.parent.name)
                return child if at_work(child) else None
        except OSError:
            continue
    return None


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_child_of_a_deadline_ends_with_the_process_that_waits_for_it(
    ending: signal.Signals,
) -> None:
    waiting = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "gpuprobe", "--level", "deep", "--backend", "numpy"),
            *("--json", "--deadline", "600", *DEVICES),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    child = None
    try:
        until = time.monotonic() + ENDS_WITHIN_S
        while (child := child_of(waiting.pid)) is None:
            assert time.monotonic() < until, "the check did not begin"
            time.sleep(0.05)
        time.sleep(0.5)
        assert runs(child)
        waiting.send_signal(ending)
        status = waiting.wait(ENDS_WITHIN_S)
        until = time.monotonic() + ENDS_WITHIN_S
        while runs(child):
            assert time.monotonic() < until, "the check goes on"
            time.sleep(0.05)
        # Who is asked says what is known, who is killed nothing.
        assert status == (-signal.SIGKILL if ending is signal.SIGKILL else 3)
    finally:
        waiting.kill()
        waiting.wait()
        if child is not None and runs(child):
            os.kill(child, signal.SIGKILL)
