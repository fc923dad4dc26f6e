"""The journal's file: records with a checksum, in segments, read back up to the last whole one.

A record is ``crc32, length, position, epoch, kind, payload``; the checksum covers what follows it.
A segment begins with a record of kind ``HEADER``, which takes no position of its own. What a kill
leaves half-written at the very end is cut off; damage anywhere before the end is an error, never
a shorter journal.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from mesh_contracts.units import is_id, new_id

from meshkit.errors import JournalFull, MeshError

FRAME: Final = struct.Struct("<IIQIB")
REST: Final = struct.Struct("<IQIB")
"""A frame without its checksum."""
SUFFIX: Final = ".journal"
HEADER: Final = 0
RECORD_BYTES_MAX: Final = 2 * 1024**2
POSITIONS_AHEAD_MAX: Final = 2**32
"""How far ahead a position may plausibly be, where a record is looked for in damaged bytes."""


class JournalDamaged(MeshError):
    """Bytes before the journal's end are not what was written; the message says where."""


class Frame(NamedTuple):
    """One record as it stands in the file, and where it ends."""

    position: int
    epoch: int
    kind: int
    payload: bytes
    end: int


def framed(position: int, epoch: int, kind: int, payload: bytes) -> bytes:
    """Return a record's bytes."""
    rest = REST.pack(len(payload), position, epoch, kind) + payload
    return crc32(rest).to_bytes(4, "little") + rest


def frame_at(raw: bytes | memoryview, at: int) -> Frame | None:
    """Return the whole record that begins at ``at``, or nothing where there is none."""
    if at + FRAME.size > len(raw):
        return None
    checksum, length, position, epoch, kind = FRAME.unpack_from(raw, at)
    end = at + FRAME.size + length
    if length > RECORD_BYTES_MAX or end > len(raw) or crc32(raw[at + 4 : end]) != checksum:
        return None
    return Frame(position, epoch, kind, bytes(raw[at + FRAME.size : end]), end)


def whole_bytes(raw: bytes, name: str, *, last: bool) -> int:
    """Return how many bytes are whole records. Raises ``JournalDamaged``.

    In the last segment an unfinished record at the end is a kill's; but where a whole record
    follows, the bytes before it were damaged.
    """
    at, newest = 0, 0
    while at < len(raw):
        frame = frame_at(raw, at)
        if frame is None:
            break
        at, newest = frame.end, frame.position
    if at < len(raw) and (not last or _another(raw, at + 1, newest)):
        raise JournalDamaged(
            f"{name}: the record at byte {at} is damaged, and others follow it; restore the file from a copy"
        )
    return at


def _another(raw: bytes, begin: int, newest: int) -> bool:
    """Tell whether a whole record stands anywhere behind ``begin``."""
    view = memoryview(raw)
    for at in range(begin, len(raw) - FRAME.size + 1):
        _, length, position, _, _ = FRAME.unpack_from(view, at)
        plausible = length <= RECORD_BYTES_MAX and newest <= position < newest + POSITIONS_AHEAD_MAX
        if plausible and frame_at(view, at) is not None:
            return True
    return False


class Segment:
    """One file: the records from ``first`` on."""

    def __init__(self, path: Path, first: int, size: int) -> None:
        self.path = path
        self.first = first
        self.size = size

    @classmethod
    def make(cls, folder: Path, first: int, epoch: int) -> "Segment":
        """Return a new segment for the records from position ``first`` on. Raises ``JournalFull``."""
        path = folder / f"{first:020d}{SUFFIX}"
        header = framed(first, epoch, HEADER, b"")
        with _refused(path):
            path.write_bytes(header)
        return cls(path, first, len(header))

    def open(self) -> int:
        """Return a descriptor to ``write`` with. Raises ``JournalFull``."""
        with _refused(self.path):
            return os.open(self.path, os.O_WRONLY)

    @classmethod
    def found(cls, folder: Path) -> list["Segment"]:
        """Return a folder's segments in order, the last one cut to whole records."""
        paths = sorted(folder.glob(f"*{SUFFIX}"))
        segments = []
        for path in paths:
            last = path == paths[-1]
            raw = path.read_bytes()
            size = whole_bytes(raw, path.name, last=last)
            if size == 0 and last:
                # Killed while it was made: nothing was written to it yet.
                path.unlink()
                continue
            if size < len(raw):
                os.truncate(path, size)
            segments.append(cls(path, int(path.name.removesuffix(SUFFIX)), size))
        return segments

    def records(self) -> Iterator[tuple[int, Frame]]:
        """Yield each record with the byte it begins at, oldest first; the header is one of them."""
        raw = self.path.read_bytes()[: self.size]
        at = 0
        while (frame := frame_at(raw, at)) is not None:
            yield at, frame
            at = frame.end

    def record_at(self, at: int) -> Frame:
        """Return the record that begins at byte ``at``. Raises ``JournalDamaged``."""
        with self.path.open("rb") as file:
            file.seek(at)
            head = file.read(FRAME.size)
            length = FRAME.unpack(head)[1] if len(head) == FRAME.size else 0
            frame = frame_at(head + file.read(min(length, RECORD_BYTES_MAX)), 0)
        if frame is None:
            raise JournalDamaged(f"{self.path.name}: the record at byte {at} is damaged")
        return frame

    def sync(self, descriptor: int) -> None:
        """Return once the disk has what was written. Raises ``JournalFull``."""
        with _refused(self.path):
            os.fdatasync(descriptor)

    def write(self, descriptor: int, record: bytes) -> int:
        """Write one record at the end; return the byte it begins at. Raises ``JournalFull``."""
        at = self.size
        try:
            written = os.pwrite(descriptor, record, at)
        except OSError as fault:
            raise JournalFull(f"{self.path}: {fault.strerror}") from fault
        if written < len(record):
            # What was half-written is overwritten by the next record, or cut off at the next opening.
            os.ftruncate(descriptor, at)
            raise JournalFull(f"{self.path}: the disk is full; make room")
        self.size += len(record)
        return at


def in_order(segments: Sequence[Segment]) -> Iterator[tuple[Segment, int, Frame]]:
    """Yield all records of a journal, oldest first: in which segment, at which byte, what.

    Headers are among them. Raises ``JournalDamaged`` where a position is missing.
    """
    expected = segments[0].first if segments else 1
    for segment in segments:
        for at, frame in segment.records():
            if frame.kind != HEADER:
                if frame.position != expected:
                    raise JournalDamaged(
                        f"{segment.path}: position {expected} is missing; restore the folder from a copy"
                    )
                expected += 1
            yield segment, at, frame


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Have what a disk (or a bound on open files) refuses refuse the effect, and nothing else."""
    try:
        yield
    except OSError as fault:
        raise JournalFull(f"{path}: {fault.strerror}") from fault


def lasting_id(folder: Path, kind: str) -> str:
    """Return the id under which a folder's journal is known, drawn when it was first made.

    Raises ``JournalDamaged`` where what stands there is none.
    """
    path = folder / "producer"
    if path.exists():
        producer = path.read_text().strip()
        if not is_id(producer, kind):
            raise JournalDamaged(f"{path}: not the id of a {kind}; restore the folder from a copy")
        return producer
    producer = new_id(kind)
    fresh = folder / "producer.new"
    fresh.write_text(producer)
    fresh.rename(path)
    return producer
