"""What an error that the driver tells (an XID) means: whose it is, what is to be done, and when it is too many.

The classes follow NVIDIA's catalogue of XIDs (docs.nvidia.com/deploy/xid-errors, driver branch 590), in our own
words. What the GPU itself says is to be done (NVML field 230, its recovery action) stands above the table.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["application", "note", "watch", "reset", "reboot", "links", "hands", "replace"]
"""Whose fault it is, and what mends it.

``application`` and ``note`` leave the node in service; ``watch`` has it tested; all others take it out.
"""
Level = Literal["quick", "standard", "deep"]

DAY_S = 86_400.0
SAME_S = 5.0
"""The same XID of the same GPU within this is one error, told by the driver and by the kernel's log."""

KEPT_MAX = 1_024
"""Errors that are remembered of a day."""


class Xid(NamedTuple):
    """One error: of the GPU of this index (``None``: of the server), its number, what the kernel's log says of it.

    ``recovery`` is the GPU's own recovery action (``None``: not told). ``switch``: of an NVSwitch, an SXID.
    ``bus`` is the PCI address, as numbers, of what is no GPU of this server that has an index.
    """

    device: int | None
    code: int
    text: str = ""
    recovery: int | None = None
    switch: bool = False
    bus: tuple[int, ...] = ()


class Policy(NamedTuple):
    """What an XID means, in words, and how many of one GPU a day have the node tested, and at which level."""

    kind: Kind
    what: str
    repeats: int = 5
    level: Level = "standard"


class Judged(NamedTuple):
    """What follows from one error. ``out``: the node takes no new work; ``test``: the check that is to be run."""

    kind: Kind
    detail: str
    action: str
    out: bool
    test: Level | None


ACTIONS: dict[Kind, str] = {
    "application": "look at the workload: its own fault, unless others see it on this GPU too",
    "note": "nothing: it is counted",
    "watch": "nothing now: the GPU is tested once nobody works on it",
    "reset": "drain the node, reset the GPU, then return the node: it is tested twice",
    "reboot": "drain the node, power-cycle it, then return it: it is tested twice",
    "links": "drain the node, look at its NVLink cables and switches, reset the GPUs, then return it",
    "hands": "drain the node, and have somebody look at the GPU's power and seat",
    "replace": "drain the node, and replace the GPU: its spare rows are used up",
}
OUT: tuple[Kind, ...] = ("reset", "reboot", "links", "hands", "replace")

RECOVERY: dict[int, Kind] = {
    0: "note",
    1: "reset",
    2: "reboot",
    3: "links",
    4: "reset",
    5: "links",
    6: "reset",
    7: "reboot",
}
"""The GPU's recovery action (nvml.h): none, reset, reboot, drain what talks to its peers, drain and reset, recover
the IMEX domain, reset its bus, reboot the system."""
RECOVERY_UNKNOWN: Kind = "reset"
"""Of a driver that is newer than this table: something is to be done."""

LINK_UNITS = range(144, 151)
"""NVLink 5 units: the kernel's line says whether it is fatal."""

RECOVERY_CHANGED = 154
"""Tells that the GPU's recovery action has changed: to none, it is only a note; not known to what, it is watched."""


def _table() -> dict[int, Policy]:
    table: dict[int, Policy] = {}

    def put(codes: Sequence[int], *policy: object) -> None:
        for code in codes:
            assert code not in table, f"XID {code} stands there twice"
            table[code] = Policy(*policy)  # type: ignore[arg-type]

    channel = "a channel or copy engine of one program failed"
    put((8, 11, 25, 32, 39, 40, 41, 69, 70, 71, 72, 75, 76, 77, 80, 85), "application", channel)
    put(range(126, 136), "application", channel)
    put((13,), "application", "a program raised an exception on an SM", 2, "deep")
    put((31,), "application", "a program touched memory that is not its own", 2, "standard")
    put((94,), "application", "a memory error was contained to one program", 2, "standard")
    put((37, 38, 43, 44, 66, 67, 78, 159), "note", "the driver ended or told of one program's work")
    put((45,), "note", "a program's channels were torn down after another error")
    put((93, 106, 107, 121, 137, 141, 152, 153, 160, 161), "note", "the driver tells of itself")
    put((63,), "watch", "a row of memory is to be remapped at the next reset", 1)
    put((92,), "watch", "many single-bit errors were corrected", 1)
    put((157,), "watch", "a part of the GPU could not be retired", 1)
    put((46, 62, 109, 110, 119, 120, 140, 143, 158), "reset", "the GPU or its firmware hangs")
    put((48,), "reset", "memory has errors of two bits")
    put((95,), "reset", "a memory error was not contained to one program")
    put((136, 155), "reset", "an NVLink could not be trained")
    put((156,), "reset", "a part of the GPU is being retired")
    put((79,), "reboot", "the GPU has fallen off the bus")
    put((151,), "reboot", "the GPU's keys have to be made anew")
    put((74, *LINK_UNITS), "links", "an NVLink failed")
    put((54,), "hands", "the GPU lacks auxiliary power")
    put((64,), "replace", "a row of memory could not be remapped")
    put((RECOVERY_CHANGED,), "watch", "what would mend the GPU has changed", 1)
    return table


TABLE = _table()
UNKNOWN = Policy("watch", "an error that this agent does not know", 1)


def judge(xid: Xid, before: Sequence[Xid]) -> Judged:
    """Return what follows from one error; ``before`` are those of the last day."""
    policy = _policy(xid)
    repeats = 1 + sum((one.device, one.code) == (xid.device, xid.code) for one in before)
    out = policy.kind in OUT
    tested = not out and policy.kind != "note" and repeats >= policy.repeats
    where = f" at {':'.join(f'{part:02x}' for part in xid.bus)}" if xid.bus else ""
    name = f"{'SXID' if xid.switch else 'XID'} {xid.code}{where}"
    often = f", {repeats} times within a day" if repeats > 1 else ""
    said = f": {xid.text}" if xid.text else ""
    return Judged(
        kind=policy.kind,
        detail=f"{name}, {policy.what}{often}{said}",
        action=ACTIONS[policy.kind],
        out=out,
        test=policy.level if tested else None,
    )


def same(xid: Xid, other: Xid) -> bool:
    """Tell whether ``xid``, within ``SAME_S`` of ``other``, is that error told once more: of the same unit, and no worse."""
    links = {found["link"] for one in (xid, other) if (found := _LINK.search(one.text))}
    return (
        xid[:2] == other[:2]
        and (xid.switch, xid.bus) == (other.switch, other.bus)
        and (_fatal(other.text) or not _fatal(xid.text))
        and len(links) < 2
    )


def waits_for_text(xid: Xid) -> bool:
    """Tell whether only the kernel's line says how bad it is."""
    return xid.code in LINK_UNITS and not xid.text


_LINK = re.compile(r"\blink (?P<link>\d+)", re.IGNORECASE)
_FATAL = re.compile(r"(?<![\w-])(?<!non )fatal\b", re.IGNORECASE)
_CHANGED_TO = re.compile(r"\bto (?P<action>0x[0-9a-f]+|\d+)\b", re.IGNORECASE)
"""\"GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)\"."""

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


def _policy(xid: Xid) -> Policy:
    fatal = _fatal(xid.text)
    if xid.switch:
        kind: Kind = "links" if fatal else "note"
        return Policy(kind, "an NVSwitch tells of an error")
    policy = TABLE.get(xid.code, UNKNOWN)
    if xid.code in LINK_UNITS and xid.text and not fatal:
        policy = policy._replace(kind="note")
    recovery = _recovery(xid)
    if recovery or (recovery == 0 and xid.code == RECOVERY_CHANGED):
        policy = policy._replace(kind=RECOVERY.get(recovery, RECOVERY_UNKNOWN))
    return policy


def _recovery(xid: Xid) -> int | None:
    """Return what a GPU says is to be done to mend it, as it was asked, or as the kernel's log has it."""
    if xid.recovery is not None or xid.code != RECOVERY_CHANGED:
        return xid.recovery
    found = _CHANGED_TO.search(xid.text)
    return None if found is None else int(found["action"], 0)


def _fatal(text: str) -> bool:
    return _FATAL.search(text) is not None
