"""A process and all that descend from it: what they have spent and what they hold, from /proc."""

import os
from collections import defaultdict
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Tree:
    """The processes below ``root``, itself included, looked up anew at each question."""

    def __init__(self, root: int) -> None:
        self.root = root

    def pids(self) -> list[int]:
        """Return their ids, parents first."""
        children: dict[int, list[int]] = defaultdict(list)
        for entry in PROC.iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                children[int(fields[1])].append(int(entry.name))
        found = [self.root]
        for pid in found:
            found += children[pid]
        return found

    def cpu_s(self) -> float:
        """Return the CPU time they have spent, in user and system, with that of children they have waited for."""
        return sum(
            sum(int(ticks) for ticks in fields[11:15]) / TICKS_PER_S
            for pid in self.pids()
            if (fields := _stat(pid))
        )

    def pss_mb(self) -> dict[str, float]:
        """Return their proportional memory in MB (10^6 bytes) by program, the largest first."""
        held: dict[str, float] = defaultdict(float)
        for pid in self.pids():
            try:
                lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
                words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            kib = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
            held[_program([word.decode(errors="replace") for word in words])] += kib * 1_024 / 1e6
        return dict(sorted(held.items(), key=lambda item: -item[1]))


def _stat(pid: int) -> list[str]:
    """Return the fields of ``stat`` after the name (state, parent, …); nothing where it has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _program(words: list[str]) -> str:
    """Return what people call a program: its module, its script, or its binary."""
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    script = next((word for word in words[1:] if word.endswith(".py")), None)
    name = Path(script or words[0]).name
    return name.partition(":")[0] or "?"
