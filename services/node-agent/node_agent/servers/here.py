"""Whether a server is the very one that this agent runs on: that one it must not hand over."""

import contextlib
import uuid
from pathlib import Path

DMI = Path("/sys/class/dmi/id/product_uuid")


def is_here(system: str, dmi: Path = DMI) -> bool:
    """Tell whether the server with this UUID is ours; false where ours cannot be read (it takes root).

    Firmware before SMBIOS 2.6 gives the first half of its UUID with the bytes of each part turned round.
    """
    with contextlib.suppress(OSError, ValueError):
        own, other = uuid.UUID(dmi.read_text().strip()), uuid.UUID(system)
        return other in {own, uuid.UUID(bytes_le=own.bytes)}
    return False
