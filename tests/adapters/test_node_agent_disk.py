"""A disk that fills beside an agent: told before it is full, and what cannot begin for it holds up nothing else."""

import errno
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mesh_contracts.node import HealthChanged
from meshkit.testing import test_id
from node_agent.devices.rehearsal import Rehearsal
from node_agent.disk import MIB, RESERVE, RESERVE_BYTES, Disk
from node_agent.health import Health
from node_agent.runtimes import process
from node_agent.runtimes.kept import SPACE, keep, write_over

from tests.adapters.engines import Told, host, member, until

pytestmark = pytest.mark.slow


class Room:
    """A disk with so many MiB left, an agent's look at it, and what it told."""

    def __init__(self, folder: Path) -> None:
        devices = Rehearsal("n1", 2, folder)
        self.health = Health(devices, folder)
        self.folder, self.mib, self.told = folder, 1_000, Told()
        self.disk = Disk(folder, self.health, 64, free=lambda _: self.mib * MIB)

    def look(self, mib: int) -> int:
        """Return how often it has told by now."""
        self.mib = mib
        self.disk.look(self.told.teller())
        return len(self.told.facts)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_too_little_room_is_told_once_and_why(room: Room) -> None:
    assert [room.look(mib) for mib in (65, 63, 62, 30)] == [0, 1, 1, 1]
    [fact] = room.told.facts
    assert isinstance(fact, HealthChanged)
    [check] = fact.checks
    assert (fact.verdict, check.name) == ("inconclusive", "disk")
    assert "63 MiB are left where its agent keeps its data, of at least 64" in check.detail
    assert check.action == f"make room in {room.folder}, then return the node"


def test_a_disk_at_the_edge_is_told_of_once_until_there_is_enough_again(room: Room) -> None:
    assert [room.look(mib) for mib in (63, 65, 63, 127, 63)] == [1, 1, 1, 1, 1]
    assert [room.look(mib) for mib in (128, 63)] == [1, 2]


def test_who_returns_the_node_with_nothing_changed_hears_it_again(room: Room) -> None:
    room.look(63)
    room.health._tell(7, [], room.told.teller())
    assert room.look(63) == 3
    assert [fact.check for fact in room.told.facts] == [0, 7, 7]


def test_there_is_a_reserve_until_there_is_no_room_at_all(room: Room) -> None:
    reserve = room.folder / RESERVE
    room.look(1_000)
    assert reserve.stat().st_size == RESERVE_BYTES
    room.look(2)
    assert reserve.exists()
    room.look(0)
    assert not reserve.exists()
    room.look(1_000)
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES


async def test_what_cannot_be_kept_has_failed_and_holds_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: Any = process.remember

    def full(folder: Path, what: process.Kept) -> None:
        if what.workload_id == test_id("workload", "first"):
            raise OSError(errno.ENOSPC, "No space left on device")
        kept(folder, what)

    monkeypatch.setattr(process, "remember", full)
    async with host(tmp_path / "workloads", tmp_path / "models") as here:
        first, second = (
            member("/bin/true", workload_id=test_id("workload", name)) for name in ("first", "second")
        )
        agent = here.agent()
        agent.wish([first, second])
        failed = await here.told.said("failed")
        assert (failed.workload_id, failed.exit_code) == (first.workload_id, None)
        assert failed.reason.endswith("No space left on device")
        await here.told.said("stopped")
        await until(lambda: here.told.verbs().count("failed") == 1)
        # It is not told again and again, though nothing of it can be kept.
        assert here.told.verbs().count("failed") == 1
        agent.wish([])


async def test_counters_that_cannot_be_kept_are_left_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "energy.json"
    assert keep(file, b"1")
    (tmp_path / "energy.json.new").mkdir()
    assert not keep(file, b"2")
    assert not keep(file, b"3")
    assert file.read_bytes() == b"1"
    assert caplog.text.count("stays as it was") == 1


def test_what_is_written_over_is_whole_and_never_ends_with_what_was_longer(tmp_path: Path) -> None:
    file = tmp_path / "energy.json"
    long, short = {"a": "x" * SPACE}, {"a": "y"}
    for content in (long, short, long):
        assert keep(file, msgspec.json.encode(content), write_over)
        assert msgspec.json.decode(file.read_bytes()) == content
    assert [found.name for found in tmp_path.iterdir()] == ["energy.json"]


def test_what_cannot_be_written_over_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "energy.json"
    assert keep(file, b"1", write_over)
    monkeypatch.setattr("os.pwrite", lambda *_: 0)
    assert not keep(file, b"2", write_over)
    assert msgspec.json.decode(file.read_bytes()) == 1
