"""Bounds that the kernel holds: a control group for each workload, with its memory and its CPU (version 1 or 2).

The groups of one agent stand in one of its own, below the group that the agent itself was started in; it is there
while one of them is, so that nothing stays behind whoever of them ends last. In version 2 the group above has to be the agent's alone (systemd: ``Delegate=yes``): it moves itself into a leaf of it, as the kernel asks.
Sources: Linux ``admin-guide/cgroup-v2.rst`` and ``admin-guide/cgroup-v1/``.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
PERIOD_US = 100_000
"""Of so much time a workload has its share of CPU."""
QUOTA_LEAST_US = 1_000
"""The kernel takes no smaller share."""
MIB = 1024 * 1024
CONTROLLERS = ("memory", "cpu")
LEAF = "mesh-agent"
EMPTY_WITHIN_S = 1.0
"""How long what was killed in a group may take to be gone."""
MAKE_TRIES = 5
"""The agent's group goes with the last in it: a workload that begins in that moment makes it anew."""

logger = logging.getLogger(__name__)


class NoCgroups(Exception):
    """The kernel bounds nothing for this agent; the message says why."""


class Cgroups:
    """One agent's groups. ``find`` them, then ``make`` one for each workload."""

    tops: Mapping[str, Path]
    """Where its groups stand, by controller."""

    def __init__(self, tops: Mapping[str, Path], version: int) -> None:
        self.tops = dict(tops)
        self.version = version

    @classmethod
    def find(cls, agent: Path, *, root: Path = ROOT, own: Path = OWN) -> "Cgroups":
        """Return the groups of the agent that keeps its data in ``agent``. Raises ``NoCgroups``."""
        try:
            groups = _own_groups(own)
            version = 1 if "memory" in groups else 2
            name = f"mesh-{sha256(str(agent.resolve()).encode()).hexdigest()[:12]}"
            tops = _tops_1(root, groups) if version == 1 else _tops_2(root, groups)
            made = {controller: top / name for controller, top in tops.items()}
            found = cls(made, version)
            found._make(made.values())
            found._leave()
        except OSError as fault:
            raise NoCgroups(f"it may make no control groups: {fault}") from fault
        return found

    def make(self, name: str, memory_mib: int, cpu_milli: int) -> list[Path]:
        """Return the groups that bound one workload, made anew; none where nothing is to be bounded.

        Nothing (0) is no bound. Raises ``OSError`` where a bound cannot be had.
        """
        self.remove(name)
        bounds: dict[Path, dict[str, str]] = {}
        if memory_mib:
            bounds[self.tops["memory"] / name] = _memory(self.version, memory_mib * MIB)
        if cpu_milli:
            quota = max(QUOTA_LEAST_US, cpu_milli * PERIOD_US // 1_000)
            bounds.setdefault(self.tops["cpu"] / name, {}).update(_cpu(self.version, quota))
        try:
            self._make([group.parent for group in bounds], bounds)
            for group, files in bounds.items():
                for file, value in files.items():
                    _bound(group / file, value)
        except OSError:
            self.remove(name)
            raise
        return list(bounds)

    def _make(self, tops: Iterable[Path], groups: Collection[Path] = ()) -> None:
        """Have those of the agent's own groups, and those in them."""
        for again in range(MAKE_TRIES):
            try:
                for top in set(tops):
                    top.mkdir(exist_ok=True)
                    if self.version == 2:
                        _enable(top)
                for group in groups:
                    group.mkdir(exist_ok=again > 0)
            except FileNotFoundError:
                continue
            return
        raise OSError(f"the group of {self.tops['memory']} was gone {MAKE_TRIES} times")

    def remove(self, name: str) -> None:
        """End what is left in a workload's groups, and forget them; those that are not there are forgotten."""
        for top in set(self.tops.values()):
            group = top / name
            if group.is_dir():
                _empty(group)
        self._leave()

    def sweep(self, keep: Collection[str]) -> None:
        """Forget the groups of workloads that are not here any more."""
        for top in set(self.tops.values()):
            there = list(top.iterdir()) if top.is_dir() else []
            for group in [one for one in there if one.is_dir() and one.name not in keep]:
                logger.warning("what was left of %s is ended", group.name)
                _empty(group)
        self._leave()

    def _leave(self) -> None:
        """Forget the agent's own groups, where nothing is in them."""
        for top in set(self.tops.values()):
            with contextlib.suppress(OSError):
                top.rmdir()


def _memory(version: int, most: int) -> dict[str, str]:
    """Return what bounds memory; what is swapped out is not had beside it."""
    if version == 2:
        return {"memory.max": str(most), "memory.swap.max": "0"}
    return {"memory.limit_in_bytes": str(most), "memory.memsw.limit_in_bytes": str(most)}


def _cpu(version: int, quota_us: int) -> dict[str, str]:
    if version == 2:
        return {"cpu.max": f"{quota_us} {PERIOD_US}"}
    return {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}


_OPTIONAL = {"memory.memsw.limit_in_bytes", "memory.swap.max"}
"""Kernels that count no swap have no such file."""


def _own_groups(own: Path) -> dict[str, str]:
    """Return the group a process is in, by controller; that of version 2 under an empty name."""
    groups: dict[str, str] = {}
    for line in own.read_text().splitlines():
        _, names, path = line.split(":", 2)
        groups |= dict.fromkeys(names.split(","), path.lstrip("/"))
    return groups


def _tops_1(root: Path, groups: Mapping[str, str]) -> dict[str, Path]:
    tops = {}
    for controller in CONTROLLERS:
        mounted = root / controller
        if controller not in groups or not mounted.is_dir():
            raise NoCgroups(f"the kernel's controller {controller!r} is not mounted in {root}")
        # In a container the path may be the host's: then the mount's own top is ours.
        group = mounted / groups[controller]
        tops[controller] = group if group.is_dir() else mounted
    return tops


def _tops_2(root: Path, groups: Mapping[str, str]) -> dict[str, Path]:
    group = root / groups.get("", "")
    if not (group / "cgroup.controllers").is_file():
        raise NoCgroups(f"there is no cgroup2 in {root}")
    there = (group / "cgroup.controllers").read_text().split()
    missing = [one for one in CONTROLLERS if one not in there]
    if missing:
        raise NoCgroups(
            f"the group {group} has no controller {' and '.join(missing)}:"
            " start the agent in a unit of its own with Delegate=yes"
        )
    if groups.get(""):
        leaf = group / LEAF
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
    _enable(group)
    return dict.fromkeys(CONTROLLERS, group)


def _enable(group: Path) -> None:
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in CONTROLLERS))


def _bound(file: Path, value: str) -> None:
    if file.name in _OPTIONAL and not file.exists():
        return
    # Opened as it is: a file that is made in such a folder is none of the kernel's.
    with file.open("r+") as opened:
        opened.write(value)


def _empty(group: Path) -> None:
    """End what is in a group, and forget it; what cannot be ended stays, and is said."""
    until = time.monotonic() + EMPTY_WITHIN_S
    while True:
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError as fault:
            if time.monotonic() > until:
                logger.error("%s is not empty: %s", group, fault)  # noqa: TRY400
                return
            time.sleep(0.01)
        else:
            return
