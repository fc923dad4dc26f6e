"""The room on the disk: people are told when there is none, and the bus is started anew once there is again.

nats-server keeps for each stream the error that a write ended with: it stores nothing there any more until it is
started anew, however much room there is by then. Postgres goes on by itself.
"""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

FULL_BYTES: Final = 16 * 1024**2
ROOM_BYTES: Final = 64 * 1024**2
"""Below the one there is no room, above the other there is again; in between it is as it was."""
LOOK_S: Final = 1.0


class Disk:
    """What became of a disk, look by look."""

    def __init__(self) -> None:
        self._full = False

    def look(self, free: int) -> Literal["", "full", "room"]:
        """Return what it has turned into, with so many bytes free; nothing where it is as it was."""
        if self._full and free > ROOM_BYTES:
            self._full = False
            return "room"
        if not self._full and free < FULL_BYTES:
            self._full = True
            return "full"
        return ""


async def watch(folder: Path, say: Callable[[str], None], start_bus_anew: Callable[[], None]) -> None:
    """Look at the disk that a folder is on, until cancelled."""
    disk = Disk()
    while True:
        match disk.look(shutil.disk_usage(folder).free):
            case "full":
                say(
                    f"the disk of {folder} is full: what is to be kept is refused (503) until there is room;"
                    f" free at least {ROOM_BYTES // 1024**2} MiB"
                )
            case "room":
                say(
                    "there is room on the disk again; the bus is started anew, as it would store nothing"
                )
                start_bus_anew()
        await asyncio.sleep(LOOK_S)
