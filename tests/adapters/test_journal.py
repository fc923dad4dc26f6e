"""The journal: what was written before a kill is there after it, and damage is never a shorter journal."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_contracts import wire
from mesh_contracts.identity import ProjectAdmitted
from meshkit.bus import Bus
from meshkit.declare import declare
from meshkit.errors import JournalFull, MeshError
from meshkit.journal import Journal
from meshkit.segments import JournalDamaged

from tests.adapters.roads import admitted, connected, until
from tests.servers_nats import NatsServer

KIND = 16


def opened(folder: Path, bytes_max: int = 64 * 1024) -> Journal:
    return Journal.open(folder, kind="producer", bytes_max=bytes_max)


def test_what_was_written_is_read_back_in_order_and_the_epoch_rises(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    positions = [journal.append(KIND, b"%d" % number) for number in range(5)]
    first = (journal.producer, journal.epoch)
    assert list(journal.replay()) == []
    journal.close()
    again = opened(tmp_path)
    assert [(record.position, record.payload) for record in again.replay()] == [
        (position, b"%d" % number) for number, position in enumerate(positions)
    ]
    assert (again.producer, again.epoch) == (first[0], first[1] + 1)
    assert again.append(KIND, b"next") > positions[-1]
    again.close()


def test_a_second_process_is_refused_while_the_first_holds_the_journal(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(MeshError, match="another process"):
        opened(tmp_path)
    journal.close()
    opened(tmp_path).close()


def test_a_full_journal_refuses_and_goes_on_once_it_is_released(tmp_path: Path) -> None:
    journal = opened(tmp_path, 8 * 1024)
    last = _filled(journal)
    assert last > 10
    assert journal.size_bytes <= 8 * 1024
    journal.release(last + 1)
    journal.append(KIND, bytes(500))
    journal.close()
    kept = [record.position for record in opened(tmp_path, 8 * 1024).replay()]
    assert kept == list(range(kept[0], last + 2))


def _filled(journal: Journal) -> int:
    """Write until it refuses; return the last position."""
    last = 0
    for _ in range(1_000):
        try:
            last = journal.append(KIND, bytes(500))
        except JournalFull:
            return last
    raise AssertionError("it has no bound")


def test_a_disk_that_takes_no_further_file_refuses_and_goes_on_once_it_does(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    first = journal.append(KIND, b"first")
    # A folder stands where each of the next segments would be.
    taken = [tmp_path / f"{first + ahead:020d}.journal" for ahead in range(1, 100)]
    for path in taken:
        path.mkdir()
    last = _filled(journal)
    with pytest.raises(JournalFull, match="directory"):
        journal.append(KIND, b"refused")
    for path in taken:
        path.rmdir()
    assert journal.append(KIND, b"last") == last + 1
    journal.close()
    again = opened(tmp_path)
    assert [record.position for record in again.replay()] == list(range(first, last + 2))
    again.close()


def test_a_segment_is_on_the_disk_before_the_next_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    real = os.fdatasync

    def noted(descriptor: int) -> None:
        begun.append(len(list(tmp_path.glob("*.journal"))))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    journal = opened(tmp_path, 8 * 1024)
    _filled(journal)
    journal.close()
    segments = len(list(tmp_path.glob("*.journal")))
    assert segments > 2
    assert begun == list(range(1, segments))


def test_what_is_not_told_is_never_deleted(tmp_path: Path) -> None:
    journal = opened(tmp_path, 8 * 1024)
    position = journal.tell(admitted())
    journal.release(_filled(journal) + 1)
    assert journal.fact_at(position) is not None
    journal.close()
    again = opened(tmp_path, 8 * 1024)
    assert again.backlog == 1
    assert again.fact_at(position) is not None
    again.close()


WRITER = """
import os, sys
from pathlib import Path
from meshkit.journal import Journal
journal = Journal.open(Path(sys.argv[1]), kind="producer")
number = 0
while True:
    journal.append(16, b"x" * (number % 700))
    number += 1
    os.write(1, b"%d\\n" % number)
"""


def test_a_killed_process_loses_no_record_it_was_told_is_written(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        for _ in range(500):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        said = 500 + len(writer.stdout.read().split())
    journal = opened(tmp_path, 256 * 1024**2)
    kept = [len(record.payload) for record in journal.replay()]
    assert len(kept) >= said - 1
    assert kept == [number % 700 for number in range(len(kept))]
    journal.close()


def _written(folder: Path, payloads: list[bytes]) -> None:
    journal = opened(folder, 4 * 1024)
    for payload in payloads:
        journal.append(KIND, payload)
    journal.close()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=12), st.data())
def test_a_journal_cut_anywhere_at_its_end_keeps_a_prefix(
    payloads: list[bytes], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _written(folder, payloads)
        last = max(folder.glob("*.journal"))
        size = last.stat().st_size
        os.truncate(last, size - data.draw(st.integers(0, size), label="cut"))
        journal = opened(folder)
        kept = [record.payload for record in journal.replay()]
        assert kept == payloads[: len(kept)]
        journal.append(KIND, b"after")
        journal.close()
        again = opened(folder)
        assert [record.payload for record in again.replay()] == [*kept, b"after"]
        again.close()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=12), st.data())
@pytest.mark.slow
def test_a_flipped_bit_is_an_error_or_costs_the_last_record_alone(
    payloads: list[bytes], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _written(folder, payloads)
        paths = sorted(folder.glob("*.journal"))
        path = data.draw(st.sampled_from(paths), label="file")
        raw = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, len(raw) * 8 - 1), label="bit")
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        try:
            journal = opened(folder)
        except JournalDamaged:
            return
        kept = [record.payload for record in journal.replay()]
        journal.close()
        assert kept == payloads[: len(kept)]
        assert len(kept) >= len(payloads) - 1


@pytest.fixture
async def bus(nats_server: NatsServer, tmp_path: Path) -> Bus:
    connection = await connected(tmp_path, nats_server.url, "identity")
    await declare(connection)
    return connection


async def _stored(bus: Bus) -> list[ProjectAdmitted]:
    facts: list[ProjectAdmitted] = []
    sequence = 1
    while (stored := await bus.at("IDENTITY", sequence)) is not None:
        facts.append(wire.decode(stored.data, ProjectAdmitted))
        sequence = stored.sequence + 1
    return facts


async def test_facts_leave_in_order_once_while_the_bus_dies(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    journal = opened(tmp_path / "journal")
    marks: list[int] = []
    drain = asyncio.create_task(journal.drain(bus, told=marks.append))
    positions = [journal.tell(admitted("project-1")) for _ in range(20)]
    await until(lambda: journal.backlog == 0)
    nats_server.kill()
    positions += [journal.tell(admitted("project-1")) for _ in range(20)]
    await until(lambda: not bus.connected)
    assert journal.backlog == 20
    nats_server.start()
    await until(lambda: journal.backlog == 0)
    assert marks[-1] == positions[-1]
    assert [fact.version for fact in await _stored(bus)] == positions
    drain.cancel()
    journal.close()
    await bus.close()


async def test_what_a_killed_process_had_not_told_is_told_by_the_next(bus: Bus, tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    journal.tell(admitted("project-1"))
    journal.close()
    again = opened(tmp_path / "journal")
    second = again.tell(admitted("project-1"))
    drain = asyncio.create_task(again.drain(bus))
    await until(lambda: again.backlog == 0)
    assert [fact.version for fact in await _stored(bus)] == [2, second]
    assert await again.tell_again(bus, second)
    assert not await again.tell_again(bus, second + 100)
    assert len(await _stored(bus)) == 3
    drain.cancel()
    again.close()
    third = opened(tmp_path / "journal")
    assert third.backlog == 0
    third.close()
    await bus.close()
