"""Counters of a card before and after a run: a result that is right does not excuse one that moved.

ECC repairs single flips before any check sees them, and links repeat what they lost: the counters
are the only trace. What a card says at the beginning counts too where it stays until somebody acts:
rows of memory that wait for a reset, or could not be replaced.
"""

import time
from typing import Protocol

from gpuprobe.backend import Backend
from gpuprobe.moved import Moved, judge
from gpuprobe.nvml import HARD_REASONS, NoSensors, Nvml
from gpuprobe.verdict import Check

STANDING = ("rows_pending", "rows_failed")
LOOKS_MAX = 64
AGAIN_S = 0.01


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

    def reasons(self) -> int | None:
        """Return why the clock is held down now, as the driver's bits."""

    def power_limits_w(self) -> tuple[float, float] | None:
        """Return what the card may draw, and what it was made to draw."""


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

    def reasons(self) -> int | None:
        """Return no reason."""
        return None

    def power_limits_w(self) -> tuple[float, float] | None:
        """Return no limit."""
        return None


class Watch:
    """The counters of a card from now on."""

    def __init__(self, card: Counting) -> None:
        began = time.perf_counter()
        self._card = card
        self._listening = card.listen()
        self._before = card.counters()
        self._hard: list[int] = []
        self.look()
        self._took_ms = (time.perf_counter() - began) * 1_000

    @property
    def counted(self) -> int:
        """How many counters there are."""
        return len(self._before)

    @property
    def listening(self) -> bool:
        """Whether XIDs are kept."""
        return self._listening

    def look(self) -> None:
        """Remember whether the hardware itself holds the clock down now: right after a check, some of it shows.

        A driver may tell of it for a moment while the clock changes: what is gone at a second look is none.
        """
        hard = (self._card.reasons() or 0) & HARD_REASONS
        if hard:
            time.sleep(AGAIN_S)
            hard &= self._card.reasons() or 0
        if hard and len(self._hard) < LOOKS_MAX:
            self._hard.append(hard)

    def moved(self) -> Moved:
        """Return what moved since the beginning."""
        after = self._card.counters()
        by = {
            name: after[name] - was
            for name, was in self._before.items()
            if name in after and after[name] != was
        }
        recovery = self._card.recovery()
        return Moved(
            by,
            self._card.heard(),
            None if recovery == "none" else recovery,
            unread=tuple(name for name in self._before if name not in after),
            stood={name: n for name in STANDING if (n := self._before.get(name, 0))},
            hard=tuple(self._hard),
            limits_w=self._card.power_limits_w() if "held_power_us" in by else None,
        )

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


def begin(backend: Backend) -> Watch | None:
    """Return a watch over a GPU's counters; ``None`` on the host, which has none."""
    if backend.name != "cupy":
        return None
    try:
        return Watch(Nvml.open(backend.traits.uuid))
    except NoSensors:
        return Watch(Mute())
