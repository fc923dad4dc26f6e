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
    """

    device: int | None
    code: int
    text: str = ""
    recovery: int | None = None
    switch: bool = False


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

RECOVERY: dict[int, Kind] = {1: "reset", 2: "reboot", 3: "links", 4: "reset"}
"""The GPU's recovery action (NVML): reset, reboot, drain what talks to its peers, drain and reset."""

LINK_UNITS = range(144, 151)
"""NVLink 5 units: the kernel's line says whether it is fatal."""

RECOVERY_CHANGED = 154
"""Tells that the GPU's recovery action has changed: to none, it is only a note."""


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
    put((RECOVERY_CHANGED,), "note", "what would mend the GPU has changed")
    return table


TABLE = _table()
UNKNOWN = Policy("watch", "an error that this agent does not know", 1)


def judge(xid: Xid, before: Sequence[Xid]) -> Judged:
    """Return what follows from one error; ``before`` are those of the last day."""
    policy = _policy(xid)
    repeats = 1 + sum((one.device, one.code) == (xid.device, xid.code) for one in before)
    out = policy.kind in OUT
    tested = not out and policy.kind != "note" and repeats >= policy.repeats
    name = f"{'SXID' if xid.switch else 'XID'} {xid.code}"
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
    """Tell whether two within ``SAME_S`` are one error."""
    return (xid.device, xid.code, xid.switch) == (other.device, other.code, other.switch)


def waits_for_text(xid: Xid) -> bool:
    """Tell whether only the kernel's line says how bad it is."""
    return xid.code in LINK_UNITS and not xid.text


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
    device = next((at for at, one in enumerate(buses) if _bus(one) == bus), None)
    return Xid(device, int(found["code"]), (found["text"] or "").strip()[:300], switch=switch)


def _bus(text: str) -> tuple[int, ...]:
    """Return a PCI address as numbers: domain, bus, device; tools write the domain with four digits or eight."""
    return tuple(int(part.partition(".")[0], 16) for part in text.split(":"))


def _policy(xid: Xid) -> Policy:
    fatal = "fatal" in xid.text.lower() and "non" not in xid.text.lower()
    if xid.switch:
        kind: Kind = "links" if fatal else "note"
        return Policy(kind, "an NVSwitch tells of an error")
    policy = TABLE.get(xid.code, UNKNOWN)
    if xid.code in LINK_UNITS and xid.text and not fatal:
        policy = policy._replace(kind="note")
    if xid.recovery is not None and xid.recovery in RECOVERY:
        policy = policy._replace(kind=RECOVERY[xid.recovery])
    return policy
