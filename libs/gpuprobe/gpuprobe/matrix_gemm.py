"""Faults put into exact products, one at a time: which are found, where, and what others would see of them.

Beside Freivalds' check and the golden digest stands the method of most burn-in tools: the product
is compared with the same device's first one, as numbers, within a tolerance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe.backend import Backend
from gpuprobe.exact import Exact, Look, Shape
from gpuprobe.fault import Fault
from gpuprobe.golden import SEEDS
from gpuprobe.product import KINDS
from gpuprobe.struck import RIGHT, Struck

SELF_TOLERANCE = 1e-3
"""What burn-in tools let two products of the same operands differ by."""

LANES = 32

ON_HOST = Shape(128, 256, 128)
ON_GPU = Shape(512, 2048, 512)

Make = Callable[[np.random.Generator, Exact, Any], list[Fault]]


@dataclass
class Tally:
    """What became of one model's faults. ``changed`` counts those that changed a result at all."""

    probe: str
    model: str
    injected: int = 0
    changed: int = 0
    detected: int = 0
    located: int | None = 0
    """Named at the right place; ``None`` where the fault has none."""
    self_compared: int | None = None
    """Found by comparing the device with itself; ``None`` where nobody does that."""
    watched: int | None = None
    """Found by watching for what is no number."""

    @property
    def detection(self) -> float:
        """The part of the faults that changed a result and were found; none is found of none."""
        return self.detected / self.changed if self.changed else 0.0

    @property
    def location(self) -> float | None:
        """The part of the found faults whose place was named rightly; ``None`` where there is none to name."""
        if self.located is None:
            return None
        return self.located / self.detected if self.detected else 0.0


def one_bit(chance: np.random.Generator, exact: Exact, _: Any) -> list[Fault]:
    """Return a flip of any bit of any element."""
    return [_flip(chance, exact, 1 << int(chance.integers(32)), persistent=False)]


def one_low_bit(chance: np.random.Generator, exact: Exact, _: Any) -> list[Fault]:
    """Return a flip among the eight lowest bits, which statistics of a product cannot see."""
    return [_flip(chance, exact, 1 << int(chance.integers(8)), persistent=False)]


def many_bits(chance: np.random.Generator, exact: Exact, _: Any) -> list[Fault]:
    """Return a flip of two to eight bits of an element."""
    return [_flip(chance, exact, bits_of(chance, 2, 8), persistent=False)]


def one_bit_always(chance: np.random.Generator, exact: Exact, _: Any) -> list[Fault]:
    """Return the same flip in every product."""
    return [_flip(chance, exact, 1 << int(chance.integers(32)), persistent=True)]


def lanes_always(chance: np.random.Generator, exact: Exact, _: Any) -> list[Fault]:
    """Return several bits of the same lane of every warp along a row, in every product."""
    row, lane = int(chance.integers(exact.shape.rows)), int(chance.integers(LANES))
    count = int(chance.integers(2, exact.shape.cols // LANES + 1))
    mask = bits_of(chance, 2, 8)
    return [Fault(row=row, col=lane, mask=mask, stride=LANES, count=count, persistent=True)]


def cancelling_pair(chance: np.random.Generator, exact: Exact, sound: Any) -> list[Fault]:
    """Return two changes of a row whose sum is zero: a sum or a mean cannot see them."""
    row = int(chance.integers(exact.shape.rows))
    one, other = (int(c) for c in chance.choice(exact.shape.cols, 2, replace=False))
    values = sound[row, [one, other]].view(np.float32)
    by = np.float32(2.0 ** int(chance.integers(17, 20)))
    changed = np.array([values[0] + by, values[1] - by], np.float32).view(np.uint32)
    masks = changed ^ sound[row, [one, other]]
    return [
        Fault(row=row, col=col, mask=int(mask), persistent=True)
        for col, mask in zip((one, other), masks, strict=True)
        if mask
    ]


def dropped_term(chance: np.random.Generator, exact: Exact, _: Any) -> list[Fault]:
    """Return a multiplication left out of one element's sum, in every product."""
    row, col = int(chance.integers(exact.shape.rows)), int(chance.integers(exact.shape.cols))
    inner = int(chance.integers(exact.shape.inner))
    return [Fault(kind="drop", row=row, col=col, inner=inner, persistent=True)]


def tile_left_out(chance: np.random.Generator, exact: Exact, _: Any) -> list[Fault]:
    """Return a tile of one product that is not written, and so keeps what stood there before."""
    row, col = int(chance.integers(exact.shape.rows)), int(chance.integers(exact.shape.cols))
    return [Fault(kind="stale", row=row, col=col)]


def left_operand(chance: np.random.Generator, exact: Exact, _: Any) -> list[Fault]:
    """Return a bit of A that changed in memory."""
    return [_operand(chance, exact, 0)]


def right_operand(chance: np.random.Generator, exact: Exact, _: Any) -> list[Fault]:
    """Return a bit of B that changed in memory."""
    return [_operand(chance, exact, RIGHT)]


MODELS: dict[str, Make] = {
    "one bit": one_bit,
    "one of the low 8 bits": one_low_bit,
    "2 to 8 bits": many_bits,
    "one bit, persistent": one_bit_always,
    "lane-strided bits, persistent": lanes_always,
    "cancelling pair, persistent": cancelling_pair,
    "term left out, persistent": dropped_term,
    "tile not written": tile_left_out,
    "bit of A in memory, persistent": left_operand,
    "bit of B in memory, persistent": right_operand,
}


def run(backend: Backend, count: int, seed: int, kind: str = "bf16") -> list[Tally]:
    """Return what becomes of ``count`` faults of each model."""
    shape = ON_GPU if backend.name == "cupy" else ON_HOST
    exact = Exact(backend, KINDS[kind], shape, SEEDS[seed % len(SEEDS)])
    exact.multiply()
    assert _look(exact).right, "the product is wrong before any fault was put in"
    sound = _patterns(exact).copy()
    return [_tally(exact, sound, name, count=count, seed=seed) for name in MODELS]


def clean(backend: Backend, count: int, seed: int, kind: str = "bf16") -> int:
    """Return how many of ``count`` sound products, each of other operands, are called wrong."""
    shape = ON_GPU if backend.name == "cupy" else ON_HOST
    wrong = 0
    for number in range(count):
        exact = Exact(backend, KINDS[kind], shape, seed + number)
        exact.multiply()
        wrong += not _look(exact).right
    return wrong


def bits_of(chance: np.random.Generator, least: int, most: int) -> int:
    """Return a mask of ``least`` to ``most`` bits of 32."""
    chosen = chance.choice(32, int(chance.integers(least, most + 1)), replace=False)
    return int(sum(1 << int(bit) for bit in chosen))


def _tally(exact: Exact, sound: Any, name: str, *, count: int, seed: int) -> Tally:
    tally = Tally("gemm", name, self_compared=0, watched=0)
    for number in range(count):
        chance = np.random.default_rng((seed, number, *name.encode()))
        faults = MODELS[name](chance, exact, sound)
        struck = Struck(exact, faults)
        exact.spoil()
        struck.before(0)
        exact.multiply()
        struck.after(0, 0)
        _count(tally, struck, _look(exact), sound)
        if struck.held:
            exact.fill()
    return tally


def _count(tally: Tally, struck: Struck, look: Look, sound: Any) -> None:
    exact, faults = struck.exact, struck.faults
    found = _patterns(exact)
    tally.injected += 1
    off = found != sound
    if not off.any():
        return
    tally.changed += 1
    # What is not written holds the right product of before, where nobody spoils it: others see nothing.
    if faults[0].kind != "stale":
        _others(tally, found[off], sound[off], lasts=all(fault.persistent for fault in faults))
    if look.right:
        return
    tally.detected += 1
    tally.located = (tally.located or 0) + _located(exact, faults, look, off, found ^ sound)


def _others(tally: Tally, found: Any, sound: Any, *, lasts: bool) -> None:
    """Count what watching for no number, and comparing the device with itself, would have seen."""
    tally.watched = (tally.watched or 0) + int(not np.isfinite(found.view(np.float32)).all())
    # What is there every time is there in the first product too: they agree.
    if not lasts:
        with np.errstate(all="ignore"):
            apart = np.abs(found.view(np.float32) - sound.view(np.float32))
        tally.self_compared = (tally.self_compared or 0) + int((apart > SELF_TOLERANCE).any())


def _located(exact: Exact, faults: Sequence[Fault], look: Look, off: Any, flipped: Any) -> bool:
    """Tell whether the rows named are those that changed, the elements too, and a changed operand is found."""
    if look.rows != tuple(int(row) for row in np.flatnonzero(off.any(axis=1))):
        return False
    fault = faults[0]
    if fault.kind == "operand":
        line = fault.col if fault.level == RIGHT else fault.row
        side = "right" if fault.level == RIGHT else "left"
        return exact.operand_errors() == [(side, 1, line, fault.inner, fault.mask)]
    row = look.rows[0]
    true = [(row, int(col), int(flipped[row, col])) for col in np.flatnonzero(off[row])]
    return exact.wrong_elements(look.rows[:1]) == true


def _look(exact: Exact) -> Look:
    exact.begin_verifying()
    exact.verify()
    return exact.looks()[0]


def _patterns(exact: Exact) -> Any:
    shape = exact.shape
    return exact.backend.fetch(exact.products[0]).reshape(shape.rows, shape.cols).view(np.uint32)


def _flip(chance: np.random.Generator, exact: Exact, mask: int, *, persistent: bool) -> Fault:
    row, col = int(chance.integers(exact.shape.rows)), int(chance.integers(exact.shape.cols))
    return Fault(row=row, col=col, mask=mask, persistent=persistent)


def _operand(chance: np.random.Generator, exact: Exact, level: int) -> Fault:
    line = int(chance.integers(exact.shape.cols if level == RIGHT else exact.shape.rows))
    bit = int(chance.integers(8 * np.dtype(exact.kind.operand).itemsize))
    inner = int(chance.integers(exact.shape.inner))
    place: dict[str, Any] = {"col": line} if level == RIGHT else {"row": line}
    return Fault(kind="operand", inner=inner, mask=1 << bit, level=level, persistent=True, **place)
