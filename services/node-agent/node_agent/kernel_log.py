"""The kernel's log, followed: where an XID's sub-code, its program and its severity stand, and NVSwitches' errors."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from node_agent.runtimes.kept import keep
from node_agent.runtimes.process import boot_id

RECORD_BYTES_MAX = 8_192
"""The kernel gives one record a read, and no longer ones."""
FILE = "kernel-log.json"

logger = logging.getLogger(__name__)


class Heard(msgspec.Struct, frozen=True):
    """How far the log of a boot was heard, by the kernel's own number of a record."""

    boot_id: str
    sequence: int


class KernelLog:
    """Hands on each line that was not heard before, also by an agent of this ``folder`` before this one.

    ``told`` returns whether a line was worth to be heard: only once it was told is it not heard again. What was logged
    before an agent first looked is not handed on. ``open`` tells whether the log may be read here.
    """

    def __init__(self, path: Path, told: Callable[[str], bool], folder: Path | None = None) -> None:
        self._path = path
        self._told = told
        self._kept = None if folder is None else folder / FILE
        self._file: int | None = None
        self._before = self._last = -1

    @property
    def open(self) -> bool:
        """Whether lines are heard."""
        return self._file is not None

    def start(self) -> None:
        """Begin where it was heard last; where it may not be read, that is said once, and nothing is heard."""
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as fault:
            logger.warning("%s cannot be read: XIDs come from the driver alone: %s", self._path, fault)
            return
        heard = self._recall()
        if heard is not None:
            # Of this boot what came since; of another all of it: nobody has heard any of that.
            self._before = heard.sequence if heard.boot_id == boot_id() else -1
        elif self._kept is not None:
            while (record := self._record()) is not None:
                self._last = max([self._last, *map(_sequence, record.splitlines())])
            self._keep()
        else:
            self._to_end(self._file)
        try:
            if self._file is not None:
                asyncio.get_running_loop().add_reader(self._file, self._read)
        except PermissionError:
            logger.warning("%s is a file that nobody can wait for: it is not heard", self._path)
            self.stop()

    def stop(self) -> None:
        """Hear no more."""
        if self._file is not None:
            asyncio.get_running_loop().remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def _read(self) -> None:
        record = self._record()
        if record is None:
            return
        worth = False
        for one in record.splitlines():
            sequence = _sequence(one)
            if 0 <= sequence <= self._before:
                continue
            line = one.decode(errors="replace")
            head, there, message = line.partition(";")
            worth |= self._told(message if there and head[:1].isdigit() else line)
            self._last = max(self._last, sequence)
        if worth:
            self._keep()

    def _record(self) -> bytes | None:
        """Return the next record; nothing where there is none now."""
        while self._file is not None:
            try:
                record = os.read(self._file, RECORD_BYTES_MAX)
            except BlockingIOError:
                return None
            except OSError as fault:
                # Records that were overwritten before they were read are gone: it goes on with the next.
                if fault.errno == errno.EPIPE:
                    continue
                logger.warning("%s is not heard any more: %s", self._path, fault)
                self.stop()
                return None
            if record:
                return record
            self.stop()
        return None

    def _to_end(self, file: int) -> None:
        try:
            os.lseek(file, 0, os.SEEK_END)
        except OSError as fault:
            # A pipe has no place to go to.
            if fault.errno != errno.ESPIPE:
                raise

    def _keep(self) -> None:
        if self._kept is not None:
            keep(self._kept, msgspec.json.encode(Heard(boot_id(), self._last)))

    def _recall(self) -> Heard | None:
        try:
            return (
                None if self._kept is None else msgspec.json.decode(self._kept.read_bytes(), type=Heard)
            )
        except (OSError, msgspec.MsgspecError):
            return None


def _sequence(line: bytes) -> int:
    """Return the kernel's number of a record (``6,1234,98765,-;…``); -1 of a line that has none."""
    fields = line.partition(b";")[0].split(b",")
    return int(fields[1]) if len(fields) > 2 and fields[1].isdigit() else -1
