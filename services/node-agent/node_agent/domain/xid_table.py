"""The table of XIDs: whose fault each is, what is to be done, and how many are too many.

The classes follow NVIDIA's catalogue of XIDs (docs.nvidia.com/deploy/xid-errors, driver branch 590), in our own
words. What the GPU itself says is to be done (NVML field 230, its recovery action) stands above the table.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from node_agent.domain.verdicts import Level

Kind = Literal["application", "note", "fabric", "watch", "reset", "reboot", "links", "hands", "replace"]
"""Whose fault it is, and what mends it.

``application``, ``note`` and ``fabric`` leave the node in service; ``watch`` has it tested; all others take it out.
"""


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
BURSTS_LONGEST = 10
"""What goes on for so many times as long is more than one: a GPU that is broken tells of it without a pause, too."""

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
