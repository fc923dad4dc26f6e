"""Faults that are put in on purpose, to show that a check finds them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

BITS_MAX = 32
EXAMPLE = "row=17,col=3,bit=5[,device=0][,persistent], or PROBE:KIND and what it takes"
KINDS = ("flip", "stick", "alias", "drop", "operand", "slow", "perturb", "stale")
"""What can be done: flip bits of a result; hold bits; a dead address line; a multiplication or a
launch left out; an operand changed after its checksum; a slower run; one multiprocessor's own error; a tile of a product that is not written."""

_NUMBERS = (
    "device",
    "row",
    "col",
    "inner",
    "word",
    "mask",
    "stride",
    "count",
    "level",
    "line",
    "sm",
    "round",
)


class FaultUnusable(ValueError):
    """A fault's description cannot be read, or lies outside of what it should hit."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault in one check of one device: once, or (``persistent``) in every round.

    ``row``, ``col`` and ``inner`` are places of a product; ``word`` is a place in memory, in words
    of 32 bits; ``mask`` has the bits to change, and those of ``level`` they are held at; ``count``
    places are hit, ``stride`` apart; ``line`` is the address bit that is dead; ``sm`` a
    multiprocessor; ``factor`` how much slower; ``round`` when a fault that is there once shows.
    """

    probe: str = "gemm"
    kind: str = "flip"
    row: int = 0
    col: int = 0
    inner: int = 0
    word: int = 0
    mask: int = 1
    stride: int = 1
    count: int = 1
    level: int = 0
    line: int = 0
    sm: int = 0
    factor: float = 1.0
    round: int = 0
    device: int = 0
    persistent: bool = False

    def strikes(self, round_number: int) -> bool:
        """Tell whether the fault shows in this round (the first is 0)."""
        return self.persistent or round_number == self.round

    def hit(self, product: Any) -> None:
        """Flip the bits in ``product`` (float32[row, col], changed in place; NumPy or CuPy).

        Raises ``FaultUnusable`` where the product has no such element.
        """
        rows, cols = product.shape
        if not (0 <= self.row < rows and 0 <= self.col < cols and 0 < self.mask < 1 << BITS_MAX):
            raise FaultUnusable(
                f"the product is {rows} by {cols} with {BITS_MAX} bits an element;"
                f" row={self.row}, col={self.col}, mask={self.mask:#x} is outside of it"
            )
        product.view(np.uint32)[self.row, self.col] ^= np.uint32(self.mask)


def parse_fault(text: str) -> Fault:
    """Return the fault that e.g. ``memory_hash:flip,word=123,mask=0x11,persistent`` describes.

    Without a name in front it is ``gemm:flip``; ``bit=5`` is ``mask=0x20``. Raises
    ``FaultUnusable``, which says what is expected.
    """
    head, named, tail = text.partition(":")
    fault = Fault(probe=head.strip()) if named else Fault()
    said: set[str] = set()
    for part in (tail if named else text).split(","):
        name, _, value = part.strip().partition("=")
        if name == "persistent" and not value:
            fault = replace(fault, persistent=True)
        elif name in KINDS and not value:
            fault = replace(fault, kind=name)
        else:
            fault = replace(fault, **_number(name, value))
            said.add(name)
    missing = [n for n in ("row", "col") if n not in said] if fault.probe == "gemm" else []
    if fault.kind == "flip" and not {"bit", "mask"} & said:
        missing.append("bit")
    if missing:
        raise FaultUnusable(f"{' and '.join(missing)} missing; write {EXAMPLE}")
    return fault


def _number(name: str, value: str) -> dict[str, Any]:
    try:
        if name == "factor":
            return {name: float(value)}
        number = int(value, 0)
    except ValueError:
        number = -1
    if number >= 0 and name == "bit" and number < 64:
        return {"mask": 1 << number}
    if number >= 0 and name in _NUMBERS:
        return {name: number}
    raise FaultUnusable(f"{name}={value} is not understood; write {EXAMPLE}")
