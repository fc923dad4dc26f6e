"""Who the devices of a server are, kept for when their driver has lost one: what runs there is looked after all the same."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from mesh_contracts.node import Device

from node_agent.runtimes.kept import keep

FILE = "devices.json"
UNKNOWN_MODEL = "unknown"


def recall(folder: Path | None) -> list[Device]:
    """Return the devices as they were when all of them could be read last; none where that is not known."""
    if folder is None:
        return []
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=list[Device])
    except (OSError, msgspec.MsgspecError):
        return []


def remember(folder: Path | None, devices: Sequence[Device]) -> None:
    """Keep who the devices are, all of which were read."""
    if folder is not None and devices != recall(folder):
        keep(folder / FILE, msgspec.json.encode(devices))


def unread(index: int, before: Sequence[Device]) -> Device:
    """Return the device of an index that cannot be read: as it was before, or one that nobody knows."""
    named = f"unread-{index}"
    nobody = Device(device_id=named, index=index, model=UNKNOWN_MODEL, memory_mib=1, rehearsal=False)
    return next((one for one in before if one.index == index), nobody)
