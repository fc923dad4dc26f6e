"""What it says of a card that its counters moved, how it stood before, and what it would not say."""

from dataclasses import dataclass, field

from gpuprobe import xids
from gpuprobe.nvml import HARD_CAUSES, named_reasons
from gpuprobe.verdict import COOL, WATCH, Evidence, Finding, Verdict

RESET = "drain the device and reset it, then check it at the level standard twice"
RESET_IDLE = "reset the device when nobody works on it, then check it at the level standard"
RETIRE = "drain the device and replace it: rows of its memory can be replaced no more"
UNLIMIT = "put the device's power limit back to its default, or expect it to be slower by what it lacks"
NAMED_MAX = 16

PCIE_REPLAYS_MAX = 8
"""A link may repeat so many packets in one run."""

HELD_MAX_MS = 100
"""A clock may be held down so many milliseconds in one run before it is worth a word."""

HARD_LOOKS_MIN = 2
"""A slowdown for heat or by the power brake is a fault where so many looks between checks show it; one may be an edge."""

LIMIT_MIN = 0.95
"""A card that may draw less than this part of what it was made for has been limited by somebody."""

HARD = ("hard_thermal", "power_brake")
UNREAD = "look whether the driver still knows the device, then check again"


@dataclass(frozen=True)
class Moved:
    """Counters that moved during a run, and XIDs that came; how the card stood, and what it would not say.

    ``unread`` are counters that could be read before and not after; ``stood`` are rows that waited or
    had failed already; ``hard`` are the hardware's reasons for a slow clock, look by look.
    """

    by: dict[str, int]
    xids: list[int] = field(default_factory=list)
    recovery: str | None = None
    unread: tuple[str, ...] = ()
    stood: dict[str, int] = field(default_factory=dict)
    hard: tuple[int, ...] = ()
    limits_w: tuple[float, float] | None = None

    def held_ms(self, *names: str) -> int:
        """Return how long the clock was held down for these reasons."""
        return sum(self.by.get(f"held_{name}_us", 0) for name in names) // 1_000


def judge(moved: Moved, counted: int, *, listening: bool = True) -> Finding:
    """Return the verdict on counters that moved.

    What no sound card does fails, whatever else could not be read; then a counter that is not there
    after the run, or none at all, is ``inconclusive``: it may have moved.
    """
    evidence = _evidence(moved, counted, listening=listening)
    for said in (_hard(moved), _unread(moved, counted), _repaired(moved)):
        if said is not None:
            verdict, why, action = said
            return Finding(verdict=verdict, detail=why, action=action, evidence=evidence)
    detail = f"none of {counted} counters moved that should not"
    if moved.xids:
        told = sorted(set(moved.xids))[:NAMED_MAX]
        detail += f"; XIDs {told} came, which are no fault of the hardware"
    return Finding(verdict="pass", detail=detail, evidence=evidence)


def _evidence(moved: Moved, counted: int, *, listening: bool) -> Evidence:
    evidence: Evidence = {"counters": counted, "xids_watched": int(listening)}
    for name, by in sorted(moved.by.items())[:NAMED_MAX]:
        evidence[name] = by
    for name, stood in moved.stood.items():
        evidence[f"{name}_before"] = stood
    if moved.xids:
        evidence["xids"] = moved.xids[:NAMED_MAX]
    if moved.recovery:
        evidence["recovery"] = moved.recovery
    if moved.hard:
        evidence["slowdowns_seen"] = len(moved.hard)
    if moved.unread:
        evidence["counters_unread"] = len(moved.unread)
    if moved.limits_w:
        evidence |= {
            "power_limit_w": round(moved.limits_w[0]),
            "power_default_w": round(moved.limits_w[1]),
        }
    return evidence


def _unread(moved: Moved, counted: int) -> tuple[Verdict, str, str] | None:
    """Return why the counters say nothing, where they do not."""
    if counted == 0:
        action = "let the check read NVML's counters, then check again"
        return "inconclusive", "no counter can be read", action
    if moved.unread:
        gone = f"{len(moved.unread)} of {counted} counters ({moved.unread[0]})"
        return "inconclusive", f"{gone} could be read before the run and not after it", UNREAD
    return None


def _hard(moved: Moved) -> tuple[Verdict, str, str] | None:
    """Return what no sound card does: the verdict, why, and what to do."""
    by, stood = moved.by, moved.stood
    failed = xids.of("fail", moved.xids)
    lost = sorted(name for name in by if name.startswith("ecc_uncorrected"))
    broken = sorted(name for name in by if name.startswith("nvlink") and name.endswith("_recovery"))
    caused = sum(1 for reasons in moved.hard if reasons & HARD_CAUSES)
    slowed = caused >= HARD_LOOKS_MIN or moved.held_ms(*HARD) > HELD_MAX_MS
    said: tuple[tuple[object, str, str], ...] = (
        (by.get("rows_failed"), "a row of memory could not be replaced", RETIRE),
        (stood.get("rows_failed"), "a row of memory could not be replaced, before the run", RETIRE),
        (failed, f"the driver told XIDs {failed} during the run", RESET),
        (moved.recovery, f"the driver wants the device recovered: {moved.recovery}", RESET),
        (lost, f"errors came that ECC could not repair ({lost[:1]})", RESET),
        (by.get("rows_uncorrected"), "a row of memory was given up", RESET),
        (by.get("rows_pending"), "a row of memory is to be replaced at the next reset", RESET),
        (broken, f"an NVLink lost its training ({broken[:1]})", RESET),
        (slowed, f"the hardware held the clock down ({_slowdowns(moved)})", COOL),
    )
    return next((("fail", why, action) for is_so, why, action in said if is_so), None)


def _repaired(moved: Moved) -> tuple[Verdict, str, str] | None:
    """Return what a sound card seldom does.

    Power holds every card down that multiplies for long: that is no sign, unless its limit was lowered.
    """
    by = moved.by
    watched = xids.of("warn", moved.xids)
    remap = xids.REMAP_PENDING in watched
    noisy = sorted(
        name for name in by if name.startswith(("nvlink", "ecc_corrected", "rows_corrected"))
    )
    replays = by.get("pcie_replay", 0)
    said: tuple[tuple[object, str, str], ...] = (
        (
            moved.stood.get("rows_pending"),
            "a row of memory waits for the next reset to be replaced",
            RESET_IDLE,
        ),
        (watched, f"the driver told XIDs {watched} during the run", RESET_IDLE if remap else WATCH),
        (noisy, f"errors came that were repaired ({noisy[:1]})", WATCH),
        (replays > PCIE_REPLAYS_MAX, f"{replays} packets were repeated on PCIe", WATCH),
        (
            moved.hard or moved.held_ms(*HARD),
            f"the hardware held the clock down for a moment ({_slowdowns(moved)})",
            COOL,
        ),
        *_held(moved),
    )
    return next((("warn", why, action) for is_so, why, action in said if is_so), None)


def _held(moved: Moved) -> list[tuple[object, str, str]]:
    """Return for how long the driver held the clock down, where that is worth a word, and why."""
    said: list[tuple[object, str, str]] = []
    for name, why, action in (
        ("thermal", "heat", COOL),
        ("board_limit", "a limit of the board", WATCH),
        ("reliability", "its voltage's reliability", WATCH),
    ):
        ms = moved.held_ms(name)
        said.append((ms > HELD_MAX_MS, f"the clock was held down {ms} ms for {why}", action))
    ms = moved.held_ms("power")
    if ms > HELD_MAX_MS and moved.limits_w and moved.limits_w[0] < LIMIT_MIN * moved.limits_w[1]:
        limit_w, default_w = moved.limits_w
        why = f"the clock was held down {ms} ms for power: the limit is {limit_w:.0f} W, and was made to be {default_w:.0f}"
        said.append((True, why, UNLIMIT))
    return said


def _slowdowns(moved: Moved) -> str:
    """Return what the hardware held the clock down for, by name."""
    seen = 0
    for reasons in moved.hard:
        seen |= reasons
    names = named_reasons(seen)
    names += [f"{name.replace('_', ' ')} {ms} ms" for name in HARD if (ms := moved.held_ms(name))]
    return ", ".join(names)
