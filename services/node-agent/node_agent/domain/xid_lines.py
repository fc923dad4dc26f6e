"""The lines in which the kernel's log tells of an XID, or of an NVSwitch's SXID."""

import re
from collections.abc import Sequence

from node_agent.domain.xid import Xid

_LINE = re.compile(
    r"(?P<sx>S?)Xid \((?:PCI:)?(?P<pci>[0-9a-fA-F]+:[0-9a-fA-F]+:[0-9a-fA-F]+)[^)]*\): (?P<code>\d+)"
    r"(?:,\s*(?P<text>.*))?",
    re.IGNORECASE,
)


def read_line(line: str, buses: Sequence[str]) -> Xid | None:
    """Return the error that a line of the kernel's log tells, if it does.

    ``buses`` are the GPUs' PCI addresses, by index.
    """
    found = _LINE.search(line)
    if found is None:
        return None
    switch = bool(found["sx"])
    bus = _bus(found["pci"])
    device = next((at for at, one in enumerate(buses) if one and _bus(one) == bus), None)
    text = (found["text"] or "").strip()[:300]
    return Xid(device, int(found["code"]), text, switch=switch, bus=bus if device is None else ())


def _bus(text: str) -> tuple[int, ...]:
    """Return a PCI address as numbers: domain, bus, device; tools write the domain with four digits or eight."""
    return tuple(int(part.partition(".")[0], 16) for part in text.split(":"))
