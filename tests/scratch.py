"""Where the servers of tests keep what they have: in memory where there is plenty, else on the disk."""

import shutil
import tempfile
from pathlib import Path

IN_MEMORY = Path("/dev/shm")
FREE_AT_LEAST = 8 * 1024**3
"""Hundreds of databases of one run are some gigabytes."""


def scratch(prefix: str) -> Path:
    """Return a new folder. A test kills programs, never the machine: nothing needs to reach a disk."""
    plenty = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= FREE_AT_LEAST
    return Path(tempfile.mkdtemp(prefix=prefix, dir=IN_MEMORY if plenty else None))
