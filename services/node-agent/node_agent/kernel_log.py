"""The kernel's log, followed: where an XID's sub-code, its program and its severity stand, and NVSwitches' errors."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

RECORD_BYTES_MAX = 8_192
"""The kernel gives one record a read, and no longer ones."""

logger = logging.getLogger(__name__)


class KernelLog:
    """Hands on each line that is logged from now on. ``open`` tells whether the log may be read here."""

    def __init__(self, path: Path, told: Callable[[str], None]) -> None:
        self._path = path
        self._told = told
        self._file: int | None = None

    @property
    def open(self) -> bool:
        """Whether lines are heard."""
        return self._file is not None

    def start(self) -> None:
        """Begin at the log's end; where it may not be read, that is said once, and nothing is heard."""
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as fault:
            logger.warning("%s cannot be read: XIDs come from the driver alone: %s", self._path, fault)
            return
        try:
            os.lseek(self._file, 0, os.SEEK_END)
        except OSError as fault:
            # A pipe has no place to go to.
            if fault.errno != errno.ESPIPE:
                raise
        asyncio.get_running_loop().add_reader(self._file, self._read)

    def stop(self) -> None:
        """Hear no more."""
        if self._file is not None:
            asyncio.get_running_loop().remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def _read(self) -> None:
        assert self._file is not None
        try:
            record = os.read(self._file, RECORD_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError as fault:
            # Records that were overwritten before they were read are gone: it goes on with the next.
            if fault.errno != errno.EPIPE:
                logger.warning("%s is not heard any more: %s", self._path, fault)
                self.stop()
            return
        if not record:
            self.stop()
            return
        for line in record.decode(errors="replace").splitlines():
            head, there, message = line.partition(";")
            self._told(message if there and head[:1].isdigit() else line)
