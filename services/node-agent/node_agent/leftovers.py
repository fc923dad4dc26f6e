"""Folders that nobody needs any more: out of the way at once, removed beside everything else, however much is in them."""

import contextlib
import logging
import os
import threading
from pathlib import Path
from uuid import uuid4

GONE = ".gone"
"""Where they wait, among the workloads: on the same file system."""
TRIES = 3
STUCK_MAX = 100
"""So many that cannot be removed are passed over; whoever starts next tries again."""

logger = logging.getLogger(__name__)


class Leftovers:
    """Removes what is ``put_away``, in a thread of its own that no end of the agent waits for.

    Folders of folders are taken apart, one level at a time: neither depth nor number takes memory or open files.
    """

    def __init__(self, workloads: Path) -> None:
        self._folder = workloads / GONE
        self._lock = threading.Lock()
        self._due, self._runs = False, False

    def begin(self) -> None:
        """Have a place for what is put away, and remove what an agent that was killed left there."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as fault:
            logger.error("%s cannot be made: %s", self._folder, fault)  # noqa: TRY400
            return
        self._wake()

    def put_away(self, folder: Path) -> None:
        """Have a folder be there no more, and what is in it be removed soon; one that is not there is no fault."""
        try:
            self._move(folder)
        except FileNotFoundError:
            return
        except OSError as fault:
            logger.error("%s is not removed: %s", folder, fault)  # noqa: TRY400
            return
        self._wake()

    def _move(self, folder: Path | str) -> None:
        # Who moves a folder writes into it, too: of what it is in.
        _open_up(folder)
        os.rename(folder, self._folder / uuid4().hex)  # noqa: PTH104 - there may be a million of them

    def _wake(self) -> None:
        with self._lock:
            self._due = True
            if self._runs:
                return
            self._runs = True
        threading.Thread(target=self._work, name="leftovers", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._due:
                    self._runs = False
                    return
                self._due = False
            self._remove_all()

    def _remove_all(self) -> None:
        stuck: set[str] = set()
        while len(stuck) < STUCK_MAX:
            try:
                with os.scandir(self._folder) as there:
                    found = next((one for one in there if one.name not in stuck), None)
            except OSError:
                return
            if found is None:
                return
            fault = self._remove(found)
            if fault is not None:
                stuck.add(found.name)
                logger.error("%s is not removed: %s", found.path, fault)

    def _remove(self, found: "os.DirEntry[str]") -> OSError | None:
        """Remove a file, or a folder whose own folders are put beside it; return why it cannot be, if so."""
        fault: OSError | None = None
        for _ in range(TRIES):
            try:
                if not found.is_dir(follow_symlinks=False):
                    os.unlink(found)  # noqa: PTH108 - as above
                    return None
                fault = self._take_apart(found.path)
                os.rmdir(found)  # noqa: PTH106 - as above
            except FileNotFoundError:
                return None
            except OSError as why:
                fault = fault or why
                with contextlib.suppress(OSError):
                    _open_up(found.path)
            else:
                return None
        return fault

    def _take_apart(self, folder: str) -> OSError | None:
        """Remove what is in a folder, and put its folders beside it; return the first fault, having tried all."""
        fault: OSError | None = None
        with os.scandir(folder) as there:
            for one in there:
                try:
                    if one.is_dir(follow_symlinks=False):
                        self._move(one.path)
                    else:
                        os.unlink(one)  # noqa: PTH108 - as above
                except OSError as why:
                    fault = fault or why
        return fault


def _open_up(folder: Path | str) -> None:
    """Let us read and write a folder, whatever its mode was; where a link leads to stays as it is."""
    if not os.path.islink(folder):  # noqa: PTH114 - as above
        os.chmod(folder, 0o700)  # noqa: PTH101 - as above
