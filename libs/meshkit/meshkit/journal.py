"""A bounded, checksummed, append-only file for processes without a database.

Records are written before the effect they stand for is answered; a killed process loses none.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mesh_contracts.fact import Fact
from meshkit.bus import Bus

JOURNAL_BYTES_MAX = 256 * 1024**2
SEGMENT_BYTES = 8 * 1024**2


class Record(msgspec.Struct, frozen=True):
    """One record as it is read back: where, in which epoch, of which kind, what."""

    position: int
    epoch: int
    kind: int
    payload: bytes


class Journal:
    """The file, and what is still to be told from it.

    Positions rise by one a record over all epochs. Kinds 1–9 are the journal's own; an
    application's kinds are 16–127.
    """

    producer: str
    """This journal's lasting id (``<kind>_<UUIDv7>``), drawn when it was first made."""
    epoch: int
    """Rises by one with each opening."""

    @classmethod
    def open(cls, folder: Path, *, kind: str, bytes_max: int = JOURNAL_BYTES_MAX) -> "Journal":
        """Open or make the journal; a torn tail is cut off, a bad checksum before it is an error.

        Raises ``MeshError`` where another process holds it.
        """
        raise NotImplementedError

    def append(self, kind: int, payload: bytes) -> int:
        """Write a record (it survives a kill -9); return its position. Raises ``JournalFull``."""
        raise NotImplementedError

    def tell(self, fact: Fact) -> int:
        """Write a fact to be told in order by ``drain``; its position is its version. Raises ``JournalFull``."""
        raise NotImplementedError

    def replay(self) -> Iterator[Record]:
        """Yield what is kept from before this opening, oldest first."""
        raise NotImplementedError

    def release(self, position: int) -> None:
        """Allow segments wholly below ``position`` to be deleted (once told, too)."""
        raise NotImplementedError

    async def drain(self, bus: Bus, *, told: Callable[[int], None] | None = None) -> None:
        """Publish facts as they are told, in order, for ever; with retries, each until it is kept."""
        raise NotImplementedError

    @property
    def backlog(self) -> int:
        """How many facts wait to be told."""
        raise NotImplementedError

    def fact_at(self, position: int) -> Fact | None:
        """Return a told fact that is still kept."""
        raise NotImplementedError

    async def tell_again(self, bus: Bus, position: int) -> bool:
        """Publish a kept fact once more, past the stream's duplicate window; false where it is gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""
        raise NotImplementedError
