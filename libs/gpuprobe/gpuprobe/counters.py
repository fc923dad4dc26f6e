"""Counters of a card before and after a run: a result that is right does not excuse one that moved.

ECC repairs single flips before any check sees them, and links repeat what they lost: the counters
are the only trace.
"""

import time
from dataclasses import dataclass, field
from typing import Protocol

from gpuprobe import xids
from gpuprobe.backend import Backend
from gpuprobe.nvml import NoSensors, Nvml
from gpuprobe.verdict import REPLACE, WATCH, Check, Evidence, Finding, Verdict

RESET = "drain the device and reset it, then check it at the level standard twice"
RESET_IDLE = "reset the device when nobody works on it, then check it at the level standard"
NAMED_MAX = 16

PCIE_REPLAYS_MAX = 8
"""A link may repeat so many packets in one run."""

HELD_MAX_MS = 100
"""A clock may be held down so many milliseconds in one run before it is worth a word."""


class Counting(Protocol):
    """What counters are read from."""

    def counters(self) -> dict[str, int]:
        """Return every counter there is, by name."""

    def listen(self) -> bool:
        """Begin to keep XIDs; ``False`` where that cannot be."""

    def heard(self) -> list[int]:
        """Return the XIDs since."""

    def recovery(self) -> str | None:
        """Return what the driver wants done to the card."""


class Mute:
    """A card of which nothing can be read: what it says about itself is judged to be nothing."""

    def counters(self) -> dict[str, int]:
        """Return no counter."""
        return {}

    def listen(self) -> bool:
        """Return that no XID is kept."""
        return False

    def heard(self) -> list[int]:
        """Return no XID."""
        return []

    def recovery(self) -> str | None:
        """Return no wish."""
        return None


@dataclass(frozen=True)
class Moved:
    """Counters that moved during a run, and XIDs that came."""

    by: dict[str, int]
    xids: list[int] = field(default_factory=list)
    recovery: str | None = None


class Watch:
    """The counters of a card from now on."""

    def __init__(self, card: Counting) -> None:
        began = time.perf_counter()
        self._card = card
        self._listening = card.listen()
        self._before = card.counters()
        self._took_ms = (time.perf_counter() - began) * 1_000

    @property
    def counted(self) -> int:
        """How many counters there are."""
        return len(self._before)

    @property
    def listening(self) -> bool:
        """Whether XIDs are kept."""
        return self._listening

    def moved(self) -> Moved:
        """Return what moved since the beginning."""
        after = self._card.counters()
        by = {
            name: after[name] - was
            for name, was in self._before.items()
            if name in after and after[name] != was
        }
        recovery = self._card.recovery()
        return Moved(by, self._card.heard(), None if recovery == "none" else recovery)

    def check(self, device: int) -> Check:
        """Return the check ``counters`` of what ran meanwhile; the time is that of the counting alone."""
        began = time.perf_counter()
        finding = judge(self.moved(), self.counted, listening=self._listening)
        return Check(
            name="counters",
            device=device,
            verdict=finding.verdict,
            backend="cupy",
            took_ms=round(self._took_ms + (time.perf_counter() - began) * 1_000),
            detail=finding.detail,
            action=finding.action,
            evidence=finding.evidence,
        )


def judge(moved: Moved, counted: int, *, listening: bool = True) -> Finding:
    """Return the verdict on counters that moved; none at all is ``inconclusive``."""
    evidence: Evidence = {"counters": counted, "xids_watched": int(listening)}
    for name, by in sorted(moved.by.items())[:NAMED_MAX]:
        evidence[name] = by
    if moved.xids:
        evidence["xids"] = moved.xids[:NAMED_MAX]
    if moved.recovery:
        evidence["recovery"] = moved.recovery
    if counted == 0:
        action = "let the check read NVML's counters, then check again"
        return Finding(
            verdict="inconclusive", detail="no counter can be read", action=action, evidence=evidence
        )
    for said in (_hard(moved), _repaired(moved)):
        if said is not None:
            verdict, why, action = said
            return Finding(verdict=verdict, detail=why, action=action, evidence=evidence)
    detail = f"none of {counted} counters moved that should not"
    if moved.xids:
        told = sorted(set(moved.xids))[:NAMED_MAX]
        detail += f"; XIDs {told} came, which are no fault of the hardware"
    return Finding(verdict="pass", detail=detail, evidence=evidence)


def begin(backend: Backend) -> Watch | None:
    """Return a watch over a GPU's counters; ``None`` on the host, which has none."""
    if backend.name != "cupy":
        return None
    try:
        return Watch(Nvml.open(backend.traits.uuid))
    except NoSensors:
        return Watch(Mute())


def _hard(moved: Moved) -> tuple[Verdict, str, str] | None:
    """Return what no sound card does: the verdict, why, and what to do."""
    by = moved.by
    failed = xids.of("fail", moved.xids)
    lost = sorted(name for name in by if name.startswith("ecc_uncorrected"))
    broken = sorted(name for name in by if name.startswith("nvlink") and name.endswith("_recovery"))
    said: tuple[tuple[object, str, str], ...] = (
        (by.get("rows_failed"), "a row of memory could not be replaced", REPLACE),
        (failed, f"the driver told XIDs {failed} during the run", RESET),
        (moved.recovery, f"the driver wants the device recovered: {moved.recovery}", RESET),
        (lost, f"errors came that ECC could not repair ({lost[:1]})", RESET),
        (by.get("rows_uncorrected"), "a row of memory was given up", RESET),
        (by.get("rows_pending"), "a row of memory is to be replaced at the next reset", RESET),
        (broken, f"an NVLink lost its training ({broken[:1]})", RESET),
    )
    return next((("fail", why, action) for is_so, why, action in said if is_so), None)


def _repaired(moved: Moved) -> tuple[Verdict, str, str] | None:
    """Return what a sound card seldom does."""
    by = moved.by
    watched = xids.of("warn", moved.xids)
    remap = xids.REMAP_PENDING in watched
    noisy = sorted(
        name for name in by if name.startswith(("nvlink", "ecc_corrected", "rows_corrected"))
    )
    replays, held_ms = by.get("pcie_replay", 0), by.get("held_thermal_us", 0) // 1_000
    said: tuple[tuple[object, str, str], ...] = (
        (watched, f"the driver told XIDs {watched} during the run", RESET_IDLE if remap else WATCH),
        (noisy, f"errors came that were repaired ({noisy[:1]})", WATCH),
        (replays > PCIE_REPLAYS_MAX, f"{replays} packets were repeated on PCIe", WATCH),
        (held_ms > HELD_MAX_MS, f"the clock was held down {held_ms} ms for heat", WATCH),
    )
    return next((("warn", why, action) for is_so, why, action in said if is_so), None)
