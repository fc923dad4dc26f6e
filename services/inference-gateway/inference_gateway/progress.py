"""How far each stream has come, in a page of memory that outlives a killed process.

A file of ``SLOTS_MAX`` slots, mapped: a slot names the journal position at which its request was opened, and
the tokens read so far. It is written before the bytes that it counts leave, at the price of a copy.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from meshkit.errors import MeshError

from inference_gateway.domain.records import Progress

SLOTS_MAX = 16_384
"""Streams whose progress is kept at once: more than there may be requests in progress."""

_SLOT = struct.Struct("<QQqQ")
_NOBODY = _SLOT.pack(0, 0, 0, 0)


class ProgressPage:
    """The mapped file. What stood in it when it was opened is ``before``; ``clear`` it before use."""

    def __init__(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                # Allocated now: a full disk is met here, not as a fault in the middle of a stream.
                os.posix_fallocate(descriptor, 0, SLOTS_MAX * _SLOT.size)
                self._page = mmap.mmap(descriptor, SLOTS_MAX * _SLOT.size)
            finally:
                os.close(descriptor)
        except OSError as fault:
            raise MeshError(f"{path}: {fault.strerror}; make room") from fault
        self.before = list(self._read())
        self._free = list(range(SLOTS_MAX - 1, -1, -1))

    def clear(self) -> None:
        """Forget what stood here before: the ends of those requests stand in the journal now."""
        self._page[:] = bytes(len(self._page))
        self.before = []

    def take(self, opened_at: int) -> int | None:
        """Return a slot for the request opened at this position, or nothing where all are taken."""
        if not self._free:
            return None
        slot = self._free.pop()
        self.write(slot, opened_at, 0, None)
        return slot

    def write(self, slot: int, opened_at: int, tokens: int, prompt: int | None) -> None:
        """Note how far a request has come; ``prompt`` is not known as ``None``."""
        _SLOT.pack_into(
            self._page, slot * _SLOT.size, opened_at, tokens, -1 if prompt is None else prompt, 0
        )

    def give(self, slot: int) -> None:
        """Give a slot back once its request's end stands in the journal."""
        self._page[slot * _SLOT.size : (slot + 1) * _SLOT.size] = _NOBODY
        self._free.append(slot)

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()

    def _read(self) -> Iterator[Progress]:
        for opened_at, tokens, prompt, _ in _SLOT.iter_unpack(self._page):
            if opened_at:
                yield Progress(opened_at, tokens, prompt)
