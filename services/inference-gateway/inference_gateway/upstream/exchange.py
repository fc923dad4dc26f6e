"""One request to one replica, whichever way it goes."""

import zlib
from typing import Protocol

GZIP_OR_DEFLATE = 47
"""What tells zlib to find out by itself which of the two it is."""


class Broken(Exception):
    """An engine gave no whole answer; ``kind`` says how.

    ``unreachable``, ``reset``, ``truncated``, ``garbage``, ``too_large``; ``stale`` is a kept connection that
    was gone before it was used: no sign of illness.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Exchange(Protocol):
    """A request that was sent; ``release`` it once."""

    status: int
    """The answer's status, once it has ``begun``."""

    async def begun(self) -> None:
        """Return once the answer's head is here. Raises ``Broken``."""
        ...

    async def read(self) -> bytes:
        """Return what came since the last read, nothing at the end. Raises ``Broken``."""
        ...

    async def whole(self, bytes_max: int) -> bytes:
        """Return all that is left of the answer. Raises ``Broken``."""
        ...

    def header(self, name: bytes) -> bytes | None:
        """Return a header of the answer that decides something here, or nothing."""
        ...

    def release(self) -> None:
        """Give the connection back where the answer was read whole, else close it at once."""
        ...


class Inflating:
    """Undoes ``gzip`` and ``deflate``, which an engine may send though it was not asked to."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(GZIP_OR_DEFLATE)

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        """Return what ``data`` holds. Raises ``Broken`` where it is garbled, or more than ``bytes_max``."""
        try:
            plain = self._inflate.decompress(data, bytes_max)
        except zlib.error:
            raise Broken("garbage") from None
        if self._inflate.unconsumed_tail:
            raise Broken("too_large")
        return plain
