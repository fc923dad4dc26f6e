"""What a process tree has spent and holds, and how the figures of a start are shown."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mesh_tools.bench import start
from mesh_tools.bench.tree import Tree

HELD_MB = 32
SPIN_S = 0.3
CHILD = f"""
import sys, time
held = bytearray({HELD_MB} * 10**6)
held[::4096] = b"x" * len(held[::4096])
until = time.process_time() + {SPIN_S}
while time.process_time() < until:
    pass
print("there", flush=True)
sys.stdin.read()
"""
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""


@contextmanager
def family() -> Iterator[Tree]:
    """A parent, whose child holds memory and has spent time."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "there\n"
        yield Tree(parent.pid)
        assert parent.stdin is not None
        parent.stdin.close()


def test_a_tree_counts_what_its_children_hold_and_have_spent() -> None:
    with family() as tree:
        alone = Tree(tree.pids()[-1])
        assert len(tree.pids()) == 2
        assert sum(tree.pss_mb().values()) > sum(alone.pss_mb().values()) > HELD_MB
        assert tree.cpu_s() >= alone.cpu_s() >= SPIN_S


def test_a_tree_that_has_gone_holds_nothing() -> None:
    with family() as tree:
        pass
    until = time.monotonic() + 5
    while tree.pss_mb() and time.monotonic() < until:
        time.sleep(0.02)
    assert tree.pss_mb() == {}
    assert tree.cpu_s() == 0


@pytest.mark.parametrize(("slow", "said"), [(1.0, "within 8 s"), (9.0, "ABOVE 8 s")])
def test_a_figure_past_its_bound_is_said_so(
    slow: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {
        **dict.fromkeys(start.BOUNDS, 0.1),
        "ready_first_s": slow,
        "ready_first_cpu_s": 1.0,
        "ready_second_cpu_s": 1.0,
        "pss_mb_by_program": {"identity": 30.0},
        "cli_s": {"usage": 0.1},
        "cores": 2,
        "load": 0.5,
    }
    start.show(figures)
    shown = capsys.readouterr().out.splitlines()
    assert next(line for line in shown if "fresh folder" in line).count(said) == 1
    assert sum("ABOVE" in line for line in shown) == (slow > 8)
