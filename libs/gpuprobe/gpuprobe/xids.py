"""What an error that the driver tells (an XID) says of the hardware: nothing, that it wants a look, or that it is at fault.

By NVIDIA's catalogue of XIDs. A check that was stopped in the middle causes some of the first kind itself.
"""

from gpuprobe.verdict import Verdict

APPLICATION = frozenset(
    (8, 11, 13, 25, 31, 32, 39, 40, 41, 69, 70, 71, 72, 75, 76, 77, 80, 85, 94, *range(126, 136))
)
"""One program failed, or its channel, or an error of memory was contained to it."""

NOTES = frozenset(
    (37, 38, 43, 44, 45, 66, 67, 78, 93, 106, 107, 121, 137, 141, 152, 153, 154, 159, 160, 161)
)
"""The driver tells of itself, or that it ended a program; 154, that what would mend the GPU has changed: that is read."""

REMAP_PENDING = 63
"""A row of memory is to be replaced at the next reset."""

WATCHED = frozenset((REMAP_PENDING, 92, 157))
"""The GPU works on, with a row or another part of it to be watched."""

HARDWARE = frozenset(
    (46, 48, 54, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, *range(144, 152), 155, 156, 158)
)
"""The GPU, its firmware, its memory, its power or its links have failed: only a reset or a hand mends it."""


def says(code: int) -> Verdict:
    """Return ``pass`` for an error that is no fault of the hardware, ``fail`` for one that is.

    What is to be watched, or is in none of the lists, is ``warn``.
    """
    if code in APPLICATION or code in NOTES:
        return "pass"
    return "fail" if code in HARDWARE else "warn"


def of(verdict: Verdict, codes: list[int]) -> list[int]:
    """Return those of ``codes`` that say so, each once, in order."""
    return sorted({code for code in codes if says(code) == verdict})
