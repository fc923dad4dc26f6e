"""Files that are written whole, by an agent whose disk may be full."""

import logging
import time
from pathlib import Path

SAY_EVERY_S = 60.0

logger = logging.getLogger(__name__)
_said: dict[Path, float] = {}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises ``OSError``."""
    partial = path.with_name(path.name + ".new")
    partial.write_bytes(content)
    partial.rename(path)


def keep(path: Path, content: bytes) -> bool:
    """Write a file whole; where that cannot be, leave it as it was and say so (once a minute at most)."""
    try:
        write_whole(path, content)
    except OSError as fault:
        now = time.monotonic()
        if now - _said.get(path, -SAY_EVERY_S) >= SAY_EVERY_S:
            _said[path] = now
            logger.error("%s stays as it was: %s", path, fault)  # noqa: TRY400
        return False
    _said.pop(path, None)
    return True
