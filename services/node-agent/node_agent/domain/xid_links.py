"""What the registers in an NVLink error (XID 74) of a Hopper GPU tell of its link.

By the workflow for it in NVIDIA's catalogue of XIDs, as NVSentinel's design 019 quotes it; in our own words. Of the
seven registers the first, third, fourth and fifth count. Other GPUs' registers are not described there.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Meaning = Literal[
    "nothing", "threshold", "secondary", "parity", "seat", "signal", "repeats", "never", "unknown"
]

WORDS: dict[Meaning, str] = {
    "never": "an error that no part in service should show: tell its vendor",
    "parity": "parity or ECC errors of its buffers: the GPU, or the baseboard, is to be replaced if they come a third time",
    "seat": "perhaps its connection: reseat it, then run the vendor's field diagnostics",
    "signal": "a marginal signal: look at its connection, then run the vendor's field diagnostics",
    "repeats": "an error that matters where it repeats",
    "secondary": "what follows from another error: see to that one first",
    "unknown": "bits that the catalogue does not name: tell its vendor",
    "threshold": "many errors were corrected, and none was left",
    "nothing": "nothing that matters",
}
"""What each bit means; the worst first."""

GONE_ON_WITH: tuple[Meaning, ...] = ("threshold", "nothing")
"""A link of which no more is told works on."""

PARITY_TIMES = 3
"""So often in a day on one link parity errors are no chance."""

_BITS: dict[int, dict[Meaning, tuple[int, ...]]] = {
    0: {
        "nothing": (0, 23, 30),
        "secondary": (1, 20),
        "parity": (4, 5),
        "seat": (8, 9, 12, 16, 17, 24, 28),
        "signal": (21, 22),
        "repeats": (27, 29),
    },
    2: {"parity": (0, 1, 2, 6), "never": (13,), "repeats": (16, 17, 18, 19)},
    3: {"secondary": (16, 17, 18)},
    4: {"parity": (18, 19, 21, 22, 24, 25, 27, 28), "threshold": (20, 23, 26, 29)},
}
_MEANS: dict[tuple[int, int], Meaning] = {
    (register, bit): meaning
    for register, by_meaning in _BITS.items()
    for meaning, bits in by_meaning.items()
    for bit in bits
}
_HOPPER = re.compile(r"\bG?H(?:100|200|20|800)\b")
_REGISTERS = re.compile(
    r"\blink (?P<link>\d+)\s*\((?P<registers>0x[0-9a-f]+(?:,\s*0x[0-9a-f]+){6})\)", re.IGNORECASE
)


class Read(NamedTuple):
    """Which link it is, and what its registers mean, the worst first."""

    link: int
    means: tuple[Meaning, ...]


def read_registers(text: str, model: str) -> Read | None:
    """Return what the kernel's line of an XID 74 tells; ``None`` where nothing says what its registers mean."""
    found = _REGISTERS.search(text)
    if found is None or _HOPPER.search(model) is None:
        return None
    registers = [int(one, 16) for one in found["registers"].split(",")]
    means = set(_meanings(registers))
    if not means:
        return None
    return Read(int(found["link"]), tuple(one for one in WORDS if one in means))


def _meanings(registers: list[int]) -> Iterator[Meaning]:
    for register in _BITS:
        value = registers[register]
        for bit in range(value.bit_length()):
            if value >> bit & 1:
                yield _MEANS.get((register, bit), "unknown")
