"""A bounded, checksummed, append-only file for processes without a database.

Records are written before the effect they stand for is answered; a killed process loses none.
:mod:`meshkit.segments` is the file itself.
"""

import asyncio
import fcntl
import logging
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
from mesh_contracts import wire
from mesh_contracts.fact import Fact, subject_of

from meshkit.bus import Bus
from meshkit.clock import Clock, SystemClock
from meshkit.draining import Letter, send_letters
from meshkit.errors import JournalFull, MeshError
from meshkit.publishing import publish_fact
from meshkit.segments import (
    HEADER,
    RECORD_BYTES_MAX,
    Segment,
    framed,
    in_order,
    lasting_id,
)
from meshkit.telemetry import METRICS, traceparent

JOURNAL_BYTES_MAX: Final = 256 * 1024**2
SEGMENT_BYTES: Final = 8 * 1024**2
SEGMENTS_MIN: Final = 4
"""A small journal has smaller segments, so that some of it can be deleted."""
MARK_BYTES: Final = 64 * 1024
"""Room past the bound that only the journal's own marks use: a full journal can still be drained."""
DRAIN_BATCH_MAX: Final = 64
MESSAGE_BYTES_MAX: Final = 1_000_000
"""A fact on the bus, encoded: below what a stream takes (1 MiB), headers included."""

EPOCH: Final = 1
TOLD: Final = 2
"""Up to which position every fact has been told."""
FACT: Final = 3
APPLICATION_KINDS: Final = range(16, 128)

_POSITION = struct.Struct("<Q")

logger = logging.getLogger(__name__)


class Record(msgspec.Struct, frozen=True):
    """One record as it is read back: where, in which epoch, of which kind, what."""

    position: int
    epoch: int
    kind: int
    payload: bytes


class Journal:
    """The file, and what is still to be told from it.

    Positions rise by one a record over all epochs. Kinds 1 to 9 are the journal's own; an
    application's kinds are 16 to 127.
    """

    producer: str
    """This journal's lasting id (``<kind>_<UUIDv7>``), drawn when it was first made."""
    epoch: int
    """Rises by one with each opening."""
    folder: Path
    """Where it stands; what belongs to it may stand beside it."""

    def __init__(self, folder: Path, lock: int, producer: str, *, bytes_max: int, clock: Clock) -> None:
        self.producer = producer
        self.folder = folder
        self._lock = lock
        self._bytes_max = bytes_max
        self._clock = clock
        self._segments = Segment.found(folder)
        self._size = 0
        self._closed = False
        self._facts: dict[int, tuple[Segment, int]] = {}
        self._untold: deque[int] = deque()
        self._bell = asyncio.Event()
        self._again = count(1)
        self._released = 0
        last, self._told, was = self._read()
        self.epoch = was + 1
        self._before = self._next = last + 1
        if not self._segments:
            self._segments.append(Segment.make(folder, self._next, self.epoch))
        self._size = sum(segment.size for segment in self._segments)
        self._segment_bytes = min(SEGMENT_BYTES, bytes_max // SEGMENTS_MIN)
        self._file = self._segments[-1].open()
        self._write(EPOCH, b"")

    @classmethod
    def open(
        cls, folder: Path, *, kind: str, bytes_max: int = JOURNAL_BYTES_MAX, clock: Clock | None = None
    ) -> "Journal":
        """Open or make the journal; a torn tail is cut off, a bad checksum before it is an error.

        Raises ``MeshError`` where another process holds it, ``JournalDamaged`` where it is damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            producer = lasting_id(folder, kind)
            return cls(folder, lock, producer, bytes_max=bytes_max, clock=clock or SystemClock())
        except BlockingIOError:
            os.close(lock)
            raise MeshError(f"{folder}: another process holds this journal; stop it first") from None
        except BaseException:
            os.close(lock)
            raise

    def append(self, kind: int, payload: bytes) -> int:
        """Write a record (it survives a kill -9); return its position. Raises ``JournalFull``."""
        assert kind in APPLICATION_KINDS, kind
        return self._write(kind, payload)

    def tell(self, fact: Fact) -> int:
        """Write a fact to be told in order by ``drain``; its position is its version. Raises ``JournalFull``."""
        trace = traceparent() or fact.traceparent
        told = msgspec.structs.replace(
            fact, version=self._next, recorded_at=self._clock.now(), traceparent=trace
        )
        payload = wire.encode(told)
        assert len(payload) <= MESSAGE_BYTES_MAX, "a fact fits into one message; split it"
        letter = Letter(subject_of(told), told.key, told.fact_id, trace, payload)
        position = self._write(FACT, msgspec.msgpack.encode(letter))
        self._untold.append(position)
        self._bell.set()
        return position

    def replay(self) -> Iterator[Record]:
        """Yield what is kept from before this opening, oldest first: an application's records, and facts."""
        for segment in list(self._segments):
            for _, frame in segment.records():
                if frame.position < self._before and frame.kind not in {HEADER, EPOCH, TOLD}:
                    yield Record(frame.position, frame.epoch, frame.kind, frame.payload)

    def release(self, position: int) -> None:
        """Allow segments wholly below ``position`` to be deleted (once told, too)."""
        self._released = max(self._released, position)
        self._delete()

    async def drain(self, bus: Bus, *, told: Callable[[int], None] | None = None) -> None:
        """Publish facts as they are told, in order, for ever; with retries, each until it is kept.

        ``told`` is called with the position up to which every fact is kept by its stream.
        """
        while True:
            if not self._untold:
                self._bell.clear()
                await self._bell.wait()
            batch = [self._untold[index] for index in range(min(len(self._untold), DRAIN_BATCH_MAX))]
            letters = [(position, self._untold_letter(position)) for position in batch]
            failed, wait_s = await send_letters(bus, letters)
            if batch[0] not in failed:
                for position in batch:
                    if position in failed:
                        break
                    self._told = self._untold.popleft()
                self._mark_told()
                if told is not None:
                    told(self._told)
            await asyncio.sleep(wait_s)

    @property
    def backlog(self) -> int:
        """How many facts wait to be told."""
        return len(self._untold)

    @property
    def size_bytes(self) -> int:
        """How large the journal is."""
        return self._size

    def fact_at(self, position: int) -> Fact | None:
        """Return a told fact that is still kept."""
        letter = self._letter(position)
        return None if letter is None else letter.fact()

    async def tell_again(self, bus: Bus, position: int) -> bool:
        """Publish a kept fact once more, past the stream's duplicate window; false where it is gone.

        Raises ``Unavailable``.
        """
        letter = self._letter(position)
        if letter is None:
            return False
        msg_id = f"{letter.fact_id}/again/{self.epoch}/{next(self._again)}"
        await publish_fact(
            bus, letter.subject, letter.payload, msg_id=msg_id, parent=letter.traceparent
        )
        return True

    def sync(self) -> None:
        """Return once what was written survives a power cut, too. Raises ``JournalFull``."""
        self._segments[-1].sync(self._file)

    def close(self) -> None:
        """Let go of the file; a second time there is nothing to let go of."""
        if self._closed:
            return
        self._closed = True
        os.close(self._file)
        os.close(self._lock)

    def _read(self) -> tuple[int, int, int]:
        """Read what is kept; return the last position, up to which it was told, and the last epoch."""
        last = told = self._segments[0].first - 1 if self._segments else 0
        epoch = 0
        for segment, at, frame in in_order(self._segments):
            epoch = max(epoch, frame.epoch)
            if frame.kind == HEADER:
                continue
            last = frame.position
            if frame.kind == FACT:
                self._facts[last] = (segment, at)
            elif frame.kind == TOLD:
                told = max(told, _POSITION.unpack(frame.payload)[0])
        self._untold.extend(position for position in self._facts if position > told)
        return last, told, epoch

    def _write(self, kind: int, payload: bytes) -> int:
        record = framed(self._next, self.epoch, kind, payload)
        size = len(record)
        assert size <= RECORD_BYTES_MAX, "a record is bounded; split it"
        room = self._bytes_max + (0 if kind >= FACT else MARK_BYTES)
        if self._size + size > room:
            raise JournalFull(
                f"{self.folder}: {self._bytes_max} bytes are taken by what is not told or not released yet"
            )
        segment = self._segments[-1]
        if segment.size >= self._segment_bytes:
            # A power cut may tear the last segment alone: one torn before it could not be opened again.
            self.sync()
            segment = Segment.make(self.folder, self._next, self.epoch)
            fresh = segment.open()
            self._segments.append(segment)
            self._size += segment.size
            os.close(self._file)
            self._file = fresh
        at = segment.write(self._file, record)
        self._size += size
        position = self._next
        self._next += 1
        if kind == FACT:
            self._facts[position] = (segment, at)
        return position

    def _mark_told(self) -> None:
        METRICS.set("mesh_journal_backlog", len(self._untold))
        METRICS.set("mesh_journal_bytes", self.size_bytes)
        try:
            self._write(TOLD, _POSITION.pack(self._told))
        except JournalFull:
            # Without the mark they are told again after a restart, with the same ids.
            logger.warning("%s: full; what was told is not marked", self.folder)
        self._delete()

    def _delete(self) -> None:
        below = min(self._released, self._untold[0] if self._untold else self._next)
        while len(self._segments) > 1 and self._segments[1].first <= below:
            gone = self._segments.pop(0)
            self._size -= gone.size
            gone.path.unlink(missing_ok=True)
            for position in [
                position for position in self._facts if position < self._segments[0].first
            ]:
                del self._facts[position]

    def _untold_letter(self, position: int) -> Letter:
        letter = self._letter(position)
        assert letter is not None, "what is not told is not deleted"
        return letter

    def _letter(self, position: int) -> Letter | None:
        kept = self._facts.get(position)
        if kept is None:
            return None
        frame = kept[0].record_at(kept[1])
        return msgspec.msgpack.decode(frame.payload, type=Letter)
