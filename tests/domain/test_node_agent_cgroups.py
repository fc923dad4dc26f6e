"""Control groups as version 2 wants them, on a folder that stands for the kernel's."""

import os
import shutil
from pathlib import Path

import pytest
from node_agent.runtimes import cgroups
from node_agent.runtimes.cgroups import Cgroups, NoCgroups


def kernel(folder: Path, controllers: str, own: str) -> dict[str, Path]:
    """Return a double of a mounted cgroup2, and of what says in which of its groups this process is."""
    root = folder / "cgroup"
    (root / own).mkdir(parents=True)
    (root / own / "cgroup.controllers").write_text(controllers)
    (folder / "own").write_text(f"0::/{own}\n")
    return {"root": root, "own": folder / "own"}


def test_a_delegated_group_is_divided_and_bounds_are_said_as_version_2_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, str] = {}
    monkeypatch.setattr(cgroups, "_bound", lambda file, value: said.update({file.name: value}))
    there = kernel(tmp_path, "cpuset cpu io memory pids", "system.slice/agent.service")
    group = there["root"] / "system.slice/agent.service"
    made = Cgroups.find(tmp_path / "data", **there)
    assert made.version == 2
    assert (group / "mesh-agent" / "cgroup.procs").read_text() == str(os.getpid())
    assert (group / "cgroup.subtree_control").read_text() == "+memory +cpu"
    [workload] = made.make("workload_1", 64, 1_500)
    assert workload.parent.parent == group
    assert (workload.parent / "cgroup.subtree_control").read_text() == "+memory +cpu"
    assert said == {
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "cpu.max": "150000 100000",
    }
    assert made.make("workload_2", 0, 0) == []


def test_two_agents_have_groups_of_their_own(tmp_path: Path) -> None:
    there = kernel(tmp_path, "cpu memory", "agents")
    first, again, other = (Cgroups.find(tmp_path / name, **there) for name in ("a", "a", "b"))
    assert first.tops == again.tops
    assert set(first.tops.values()).isdisjoint(other.tops.values())


@pytest.mark.parametrize(
    ("controllers", "said"),
    [("cpu io", "no controller memory: start the agent in a unit of its own with Delegate=yes")],
)
def test_what_was_not_delegated_is_named(controllers: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(NoCgroups, match=said):
        Cgroups.find(tmp_path / "data", **kernel(tmp_path, controllers, "session.scope"))


def test_a_kernel_without_control_groups_is_named(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/\n")
    with pytest.raises(NoCgroups, match="there is no cgroup2"):
        Cgroups.find(tmp_path, root=tmp_path, own=tmp_path / "own")
    (tmp_path / "own").write_text("4:memory:/\n")
    with pytest.raises(NoCgroups, match="'memory' is not mounted"):
        Cgroups.find(tmp_path, root=tmp_path, own=tmp_path / "own")
    with pytest.raises(NoCgroups, match="may make no control groups"):
        Cgroups.find(tmp_path, root=tmp_path, own=tmp_path / "nothing")


def test_a_workload_that_begins_as_the_agents_group_goes_makes_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_bound", lambda _file, _value: None)
    made = Cgroups.find(tmp_path / "data", **kernel(tmp_path, "cpu memory", "agents"))
    times = 0

    def gone(group: Path) -> None:
        """The last of the others ends right after the agent's group was made."""
        nonlocal times
        times += 1
        if times < again:
            shutil.rmtree(group)

    again = 3
    monkeypatch.setattr(cgroups, "_enable", gone)
    [workload] = made.make("workload_1", 64, 0)
    assert (workload.is_dir(), times) == (True, again)
    times, again = 0, cgroups.MAKE_TRIES + 1
    made.remove("workload_1")
    with pytest.raises(OSError, match="was gone 5 times"):
        made.make("workload_1", 64, 0)
