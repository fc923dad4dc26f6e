"""What an error that the driver tells (an XID) means: whose it is, what is to be done, and when it is too many.

The classes follow NVIDIA's catalogue of XIDs (docs.nvidia.com/deploy/xid-errors, driver branch 590), in our own
words. What the GPU itself says is to be done (NVML field 230, its recovery action) stands above the table.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from node_agent.domain.xid_links import GONE_ON_WITH, PARITY_TIMES, WORDS, read_registers

Kind = Literal["application", "note", "fabric", "watch", "reset", "reboot", "links", "hands", "replace"]
"""Whose fault it is, and what mends it.

``application``, ``note`` and ``fabric`` leave the node in service; ``watch`` has it tested; all others take it out.
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
    ``bus`` is the PCI address, as numbers, of what is no GPU of this server that has an index. ``at`` is when it was
    heard, in monotonic seconds; ``owner`` whose work was on the GPU then; ``model`` the GPU's.
    """

    device: int | None
    code: int
    text: str = ""
    recovery: int | None = None
    switch: bool = False
    bus: tuple[int, ...] = ()
    at: float = 0.0
    owner: str = ""
    model: str = ""


class Policy(NamedTuple):
    """What an XID means, in words, and how many of one GPU a day have the node tested, and at which level.

    Those within ``burst_s`` of one another are one error. ``action`` stands for the one of its kind.
    """

    kind: Kind
    what: str
    repeats: int = 5
    level: Level = "standard"
    burst_s: float = 0.0
    action: str = ""


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
    "fabric": "restart the fabric manager where there are NVSwitches; nothing where the program was ended on purpose",
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

EXCEPTION, PAGE_FAULT, TEARDOWN, NVLINK = 13, 31, 45, 74
EXCEPTION_BURST_S, PAGE_FAULT_BURST_S = 15.0, 180.0
"""One faulty program raises many: on all of an SM's neighbours, on all GPUs of a job."""
UNPLACED_REPEATS = 5
"""Exceptions of which nothing says on which SM count as any other fault of a program does."""
OWNERS_MAX = 1
"""What the programs of more owners than this suffer on one GPU is not their fault alone."""
CAUSE_S = 180.0
"""An error that came so much before is why a program's channels were torn down."""

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
    exception, fault = "a program raised an exception on an SM", "a program touched memory not its own"
    put((EXCEPTION,), "application", exception, 2, "deep", EXCEPTION_BURST_S)
    put((PAGE_FAULT,), "application", fault, 2, "standard", PAGE_FAULT_BURST_S)
    put((94,), "application", "a memory error was contained to one program", 2, "standard")
    put((37, 38, 43, 44, 66, 67, 78, 159), "note", "the driver ended or told of one program's work")
    put((TEARDOWN,), "note", "a program's channels were torn down after another error")
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
    put((NVLINK, *LINK_UNITS), "links", "an NVLink failed")
    put((54,), "hands", "the GPU lacks auxiliary power")
    put((64,), "replace", "a row of memory could not be remapped")
    put((RECOVERY_CHANGED,), "watch", "what would mend the GPU has changed", 1)
    return table


TABLE = _table()
UNKNOWN = Policy("watch", "an error that this agent does not know", 1)


def judge(xid: Xid, before: Sequence[Xid]) -> Judged:
    """Return what follows from one error; ``before`` are those of the last day, in order."""
    policy = _policy(xid, before)
    mine = [one for one in before if (one.device, one.code) == (xid.device, xid.code)]
    bursts = _bursts([*mine, xid], policy.burst_s)
    repeats = len(bursts)
    out = policy.kind in OUT
    where = f" at {':'.join(f'{part:02x}' for part in xid.bus)}" if xid.bus else ""
    name = f"{'SXID' if xid.switch else 'XID'} {xid.code}{where}"
    often = f", {repeats} times within a day" if repeats > 1 else ""
    said = f": {xid.text}" if xid.text else ""
    return Judged(
        kind=policy.kind,
        detail=f"{name}, {policy.what}{often}{said}",
        action=policy.action or ACTIONS[policy.kind],
        out=out,
        test=None if out else _test(xid, policy, bursts, before),
    )


def burst_s(xid: Xid) -> float:
    """Return for how long more of an error are told of by its first alone: what they are together is known after it."""
    return TABLE.get(xid.code, UNKNOWN).burst_s


def unit_of(xid: Xid) -> tuple[str, ...]:
    """Return the numbers of the GPC and the TPC that an exception was raised on; empty where nothing says so."""
    found = _UNIT.search(xid.text)
    return () if found is None else found.groups()


def _bursts(errors: Sequence[Xid], apart_s: float) -> list[list[Xid]]:
    """Return errors, in order, by those that are one: each no more than ``apart_s`` after the one before."""
    found: list[list[Xid]] = []
    for one in errors:
        if apart_s and found and one.at - found[-1][-1].at <= apart_s:
            found[-1].append(one)
        else:
            found.append([one])
    return found


def _test(
    xid: Xid, policy: Policy, bursts: Sequence[Sequence[Xid]], before: Sequence[Xid]
) -> Level | None:
    """Return the check that the errors of a GPU have it pass, if any."""
    if policy.kind in {"note", "fabric"}:
        return None
    owners = {one.owner for burst in bursts for one in burst if one.owner}
    if policy.kind == "application" and len(owners) > OWNERS_MAX:
        return "standard"
    if xid.code == EXCEPTION:
        return _test_of_exceptions(policy, bursts)
    if xid.code == PAGE_FAULT and any(
        one.code == PAGE_FAULT and one.device != xid.device for one in before
    ):
        return None  # A program's that runs on several GPUs.
    return policy.level if len(bursts) >= policy.repeats else None


def _test_of_exceptions(policy: Policy, bursts: Sequence[Sequence[Xid]]) -> Level | None:
    """Return the check for exceptions on SMs: what comes again on one unit is its fault, what is spread a program's."""
    units = [{unit for one in burst if (unit := unit_of(one))} for burst in bursts]
    if len(units[-1]) == 1:
        return policy.level if units.count(units[-1]) >= policy.repeats else None
    return "standard" if not units[-1] and units.count(set()) >= UNPLACED_REPEATS else None


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
    return (xid.code in LINK_UNITS or xid.code == NVLINK) and not xid.text


_UNIT = re.compile(r"\bGPC (\d+), TPC (\d+)", re.IGNORECASE)
_LINK = re.compile(r"\blink (?P<link>\d+)", re.IGNORECASE)
_FATAL = re.compile(r"(?<![\w-])(?<!non )fatal\b", re.IGNORECASE)
_CHANGED_TO = re.compile(r"\bto (?P<action>0x[0-9a-f]+|\d+)\b", re.IGNORECASE)
"""\"GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)\"."""


def _policy(xid: Xid, before: Sequence[Xid]) -> Policy:
    fatal = _fatal(xid.text)
    if xid.switch:
        kind: Kind = "links" if fatal else "note"
        return Policy(kind, "an NVSwitch tells of an error")
    policy = TABLE.get(xid.code, UNKNOWN)
    if xid.code in LINK_UNITS and xid.text and not fatal:
        policy = policy._replace(kind="note")
    if xid.code == NVLINK:
        policy = _of_link(xid, policy, before)
    if xid.code == TEARDOWN and not any(_may_be_why(one, xid) for one in before):
        policy = Policy("fabric", "a program's channels were torn down, and no error before tells why")
    recovery = _recovery(xid)
    if recovery or (recovery == 0 and xid.code == RECOVERY_CHANGED):
        policy = policy._replace(kind=RECOVERY.get(recovery, RECOVERY_UNKNOWN))
    return policy


def _of_link(xid: Xid, policy: Policy, before: Sequence[Xid]) -> Policy:
    """Return what an NVLink error means by its registers, where they say more than that it is one."""
    read = read_registers(xid.text, xid.model)
    if read is None:
        return policy
    worst = read.means[0]
    what = f"NVLink {read.link} tells of {WORDS[worst]}"
    if worst in GONE_ON_WITH:
        return Policy("watch" if worst == "threshold" else "note", what, 1)
    others = [read_registers(one.text, one.model) for one in before if one.device == xid.device]
    times = 1 + sum(one is not None and one[0] == read.link and "parity" in one.means for one in others)
    if "parity" in read.means and times >= PARITY_TIMES:
        replace = "drain the node, and replace the GPU, or the baseboard that the link runs over"
        return policy._replace(what=what, action=replace)
    return policy._replace(what=what)


def _may_be_why(one: Xid, torn: Xid) -> bool:
    return one.device == torn.device and one.code != torn.code and abs(torn.at - one.at) <= CAUSE_S


def _recovery(xid: Xid) -> int | None:
    """Return what a GPU says is to be done to mend it, as it was asked, or as the kernel's log has it."""
    if xid.recovery is not None or xid.code != RECOVERY_CHANGED:
        return xid.recovery
    found = _CHANGED_TO.search(xid.text)
    return None if found is None else int(found["action"], 0)


def _fatal(text: str) -> bool:
    return _FATAL.search(text) is not None
