"""What an error that the driver tells (an XID) means: whose it is, what is to be done, and when it is too many."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from node_agent.domain.verdicts import Level
from node_agent.domain.xid_links import GONE_ON_WITH, PARITY_TIMES, WORDS, read_registers
from node_agent.domain.xid_table import (
    ACTIONS,
    BURSTS_LONGEST,
    CAUSE_S,
    EXCEPTION,
    LINK_UNITS,
    NVLINK,
    OUT,
    OWNERS_MAX,
    PAGE_FAULT,
    RECOVERY,
    RECOVERY_CHANGED,
    RECOVERY_UNKNOWN,
    TABLE,
    TEARDOWN,
    UNKNOWN,
    UNPLACED_REPEATS,
    Kind,
    Policy,
)

DAY_S = 86_400.0
SAME_S = 5.0
"""The same XID of the same GPU within this is one error, told by the driver and by the kernel's log."""

KEPT_MAX = 1_024
"""Errors that are remembered of a day."""


class Xid(NamedTuple):
    """One error: of the GPU of this index (``None``: of the server), its number, what the kernel's log says of it.

    ``recovery`` is the GPU's own recovery action (``None``: not told). ``switch``: of an NVSwitch, an SXID.
    ``bus`` is the PCI address, as numbers, of what is no GPU of this server that has an index. ``at`` is when it was
    heard, in monotonic seconds, ``until`` when it was heard last where that was more than once; ``owner`` whose work was on the GPU then; ``model`` the GPU's.
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
    until: float = 0.0


class Judged(NamedTuple):
    """What follows from one error. ``out``: the node takes no new work; ``test``: the check that is to be run."""

    kind: Kind
    detail: str
    action: str
    out: bool
    test: Level | None


def judge(xid: Xid, before: Sequence[Xid]) -> Judged:
    """Return what follows from one error; ``before`` are those of the last day, in order."""
    policy = _policy(xid, before)
    mine = [one for one in before if (one.device, one.code) == (xid.device, xid.code)]
    bursts = bursts_of([*mine, xid], policy.burst_s)
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


def heard_last(xid: Xid) -> float:
    """Return when an error was heard last, in monotonic seconds."""
    return max(xid.at, xid.until or xid.at)


def bursts_of(errors: Sequence[Xid], apart_s: float) -> list[list[Xid]]:
    """Return errors, in order, by those that are one: each no more than ``apart_s`` after the one before, and for so long."""
    found: list[list[Xid]] = []
    for one in errors:
        if apart_s and found and goes_on(found[-1], one.at, apart_s):
            found[-1].append(one)
        else:
            found.append([one])
    return found


def goes_on(burst: Sequence[Xid], at: float, apart_s: float) -> bool:
    """Tell whether an error that is heard now is one with those of a burst."""
    last = max(map(heard_last, burst))
    return at - last <= apart_s and at - burst[0].at <= BURSTS_LONGEST * apart_s


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
    if xid.code == PAGE_FAULT:
        others = [one for one in before if one.code == PAGE_FAULT and one.device != xid.device]
        alone = [one for one in bursts if not _spread(one, others, policy.burst_s)]
        bursts = alone if bursts[-1] in alone else []
    return policy.level if len(bursts) >= policy.repeats else None


def _spread(burst: Sequence[Xid], others: Sequence[Xid], apart_s: float) -> bool:
    """Tell whether other GPUs had the same meanwhile: a program's that runs on several."""
    begun, ended = burst[0].at - apart_s, max(map(heard_last, burst)) + apart_s
    return any(one.at <= ended and heard_last(one) >= begun for one in others)


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
        and (not xid.text or _rank(xid) >= _rank(other))
        and len(links) < 2
    )


def _rank(xid: Xid) -> int:
    """Return how bad what an NVLink's registers say is, 0 the worst, or where nothing can be read in them."""
    read = read_registers(xid.text, xid.model) if xid.code == NVLINK else None
    return 0 if read is None else list(WORDS).index(read.means[0])


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
    return (
        one.device == torn.device
        and one.code != torn.code
        and abs(torn.at - heard_last(one)) <= CAUSE_S
    )


def _recovery(xid: Xid) -> int | None:
    """Return what a GPU says is to be done to mend it, as it was asked, or as the kernel's log has it."""
    if xid.recovery is not None or xid.code != RECOVERY_CHANGED:
        return xid.recovery
    found = _CHANGED_TO.search(xid.text)
    return None if found is None else int(found["action"], 0)


def _fatal(text: str) -> bool:
    return _FATAL.search(text) is not None
