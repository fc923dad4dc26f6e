"""Files that an agent keeps whose disk may be full: written whole, or over what was there."""

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

SAY_EVERY_S = 60.0
SPACE = 512
"""What is written over has so many bytes, or so many times as many."""

logger = logging.getLogger(__name__)
_said: dict[Path, float] = {}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises ``OSError``."""
    partial = path.with_name(path.name + ".new")
    partial.write_bytes(content)
    partial.rename(path)


def write_over(path: Path, content: bytes) -> None:
    """Write over what a file holds, with one call and without making another: for what is written each second.

    Spaces follow to the end of what was longer. A kill leaves the one or the other. Where the machine itself goes down
    a mixture of both may be left: only what the next boot does not go on with is kept so. Raises ``OSError``.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = max(os.fstat(file).st_size, -(-len(content) // SPACE) * SPACE)
        if os.pwrite(file, content.ljust(size), 0) < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(file)


def keep(path: Path, content: bytes, write: Callable[[Path, bytes], None] = write_whole) -> bool:
    """Write a file; where that cannot be, leave it as it was and say so (once a minute at most)."""
    try:
        write(path, content)
    except OSError as fault:
        now = time.monotonic()
        if now - _said.get(path, -SAY_EVERY_S) >= SAY_EVERY_S:
            _said[path] = now
            logger.error("%s stays as it was: %s", path, fault)  # noqa: TRY400
        return False
    _said.pop(path, None)
    return True
