"""Faults that are put in on purpose, to show that a check finds them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

BITS_MAX = 32
_NUMBERS = ("device", "row", "col", "bit")


class FaultUnusable(ValueError):
    """A fault's description cannot be read, or lies outside of the product it should hit."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A bit flipped in one element of the product: once, or (``persistent``) in every round.

    ``bit`` counts from the lowest of the float32 pattern (31 is the sign).
    """

    row: int
    col: int
    bit: int
    device: int = 0
    persistent: bool = False

    def strikes(self, round_number: int) -> bool:
        """Tell whether the fault shows in this round (the first is 0)."""
        return self.persistent or round_number == 0

    def hit(self, product: Any) -> None:
        """Flip the bit in ``product`` (float32[row, col], changed in place; NumPy or CuPy).

        Raises ``FaultUnusable`` where the product has no such element.
        """
        rows, cols = product.shape
        if not (0 <= self.row < rows and 0 <= self.col < cols and 0 <= self.bit < BITS_MAX):
            raise FaultUnusable(
                f"the product is {rows} by {cols} with {BITS_MAX} bits an element;"
                f" row={self.row}, col={self.col}, bit={self.bit} is outside of it"
            )
        product.view(np.uint32)[self.row, self.col] ^= np.uint32(1 << self.bit)


def parse_fault(text: str) -> Fault:
    """Return the fault that ``row=17,col=3,bit=5[,device=0][,persistent]`` describes.

    Raises ``FaultUnusable``, which says what is expected.
    """
    numbers: dict[str, int] = {}
    persistent = False
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name == "persistent" and not value:
            persistent = True
        elif name in _NUMBERS and value.isdecimal():
            numbers[name] = int(value)
        else:
            raise FaultUnusable(f"{part!r} is not understood; write row=17,col=3,bit=5[,persistent]")
    missing = [name for name in ("row", "col", "bit") if name not in numbers]
    if missing:
        raise FaultUnusable(f"{' and '.join(missing)} missing; write row=17,col=3,bit=5[,persistent]")
    return Fault(persistent=persistent, **numbers)
