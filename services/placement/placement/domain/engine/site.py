"""All that is known of a site's nodes, one array a column: what decisions are computed on."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from placement.domain.engine.changes import Changes
from placement.domain.engine.counted import Codes, Held
from placement.domain.engine.mig import GEOMETRIES, number_of
from placement.domain.engine.mix import CARDS_MAX, whole_cards
from placement.domain.engine.size import MILLI_PER_GPU, Size

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ROWS_FIRST = 64
CARDS_FIRST = 8
ASSURANCES_MAX = 62
"""Each is one bit of a column."""
POWER = ("rack", "pdu", "row", "hall", "site")
"""Levels that power runs through, each inside the next."""
FABRIC = ("nvlink", "leaf", "rail")
LEVELS = (*POWER, *FABRIC)
NOWHERE = -1
"""The domain of a node whose place at that level is not known."""
NOBODY, SEVERAL = -1, -2
"""No tenant, or more than one, on a node."""
LEFT = ("cpu", "memory", "slots", "whole", "most")
"""What a member may find too little of, side by side in ``left``: what is looked at together lies together."""
MIG = ("slices", "mig")
BUILT = ("cards", "model", "geometry", "jurisdiction", "assurance", "closed", "silent")
POWER_COLUMNS = ("taken", "idle_w", "gpu_w")


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node as it is built.

    ``place`` names its domain at each level that is known. It draws ``idle_w`` with nothing on it, and
    each GPU that somebody holds a part of adds ``gpu_w``. ``lost`` are those of its ``gpus`` positions
    where no GPU is now, ``mig`` those whose GPU is in MIG mode and is given in instances only.
    """

    node: str
    model: str = ""
    gpus: int = 0
    lost: tuple[int, ...] = ()
    mig: tuple[int, ...] = ()
    cpu_milli: int = 0
    memory_mib: int = 0
    jurisdiction: str = ""
    assurances: tuple[str, ...] = ()
    slots: int = 256
    place: dict[str, str] = {}
    idle_w: int = 0
    gpu_w: int = 0


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What one member holds: the row of its node, its cards, the milli of each, or the ``slices`` (bits) of one."""

    row: int
    cards: tuple[int, ...]
    milli_each: int
    slices: int = 0


class Site(Changes):
    """Nodes by row; a row is never given to another node.

    ``free`` int[row, card]: milli left of each card, 0 where there is none or it is in MIG mode; of those
    ``slices`` and ``mig`` int[row, card] are the memory slices that are free, and all of them, as bits. ``idle``,
    ``whole``, ``most`` int[row]: the sum of it, how many cards are free whole, the most on one card. ``cpu``,
    ``memory``, ``slots`` int[row]: milli, MiB and members more that there is room for.
    ``taken`` int[row]: cards that somebody holds a part of. ``tenant`` int[row]: who alone is there, else
    ``NOBODY`` or ``SEVERAL``. ``puts`` counts how often nodes were put, ``built`` that and turned.
    """

    free: Ints
    left: Ints
    slices: Ints
    mig: Ints
    geometry: Ints
    cards: Ints
    cpu: Ints
    memory: Ints
    slots: Ints
    idle: Ints
    whole: Ints
    most: Ints
    model: Ints
    jurisdiction: Ints
    assurance: Ints
    closed: Ints
    silent: Ints
    taken: Ints
    idle_w: Ints
    gpu_w: Ints
    tenant: Ints

    def __init__(self) -> None:
        super().__init__()
        self.any_mig = False
        self.specs: list[NodeSpec] = []
        self.row_of: dict[str, int] = {}
        self.models, self.jurisdictions, self.assurances = Codes(), Codes(), Codes()
        self.tenants = Codes()
        self.domains = {level: Codes() for level in LEVELS}
        self.built = self.puts = self.gpu_w_max = 0
        self._columns: dict[str, Ints] = {}
        self._grow(ROWS_FIRST, CARDS_FIRST)

    def copy(self) -> "Site":
        """Return the same nodes; what becomes of either does not touch the other."""
        copy = Site()
        copy.rows, copy.gpu_w_max, copy.any_mig = self.rows, self.gpu_w_max, self.any_mig
        copy.built, copy.puts = self.built, self.puts
        copy.specs, copy.row_of = self.specs.copy(), self.row_of.copy()
        copy.models, copy.jurisdictions = Codes(self.models), Codes(self.jurisdictions)
        copy.assurances, copy.tenants = Codes(self.assurances), Codes(self.tenants)
        copy.domains = {level: Codes(names) for level, names in self.domains.items()}
        copy._touched, copy._forgotten = self._touched.copy(), self._forgotten
        copy._columns = {name: column.copy() for name, column in self._columns.items()}
        copy._name()
        return copy

    def put(self, spec: NodeSpec) -> int:
        """Know a node, new or built otherwise than before; return its row. What it runs stays.

        With less memory or CPU than that takes it has less than nothing left. Raises ``ValueError``
        where somebody holds a card that it would not have.
        """
        if spec.gpus > CARDS_MAX:
            raise ValueError(f"{spec.node} has {spec.gpus} GPUs: at most {CARDS_MAX} are known of one")
        if len(self.assurances.keys() | spec.assurances) > ASSURANCES_MAX:
            raise ValueError(f"{spec.node}: at most {ASSURANCES_MAX} assurances are known of one site")
        row = self.row_of.get(spec.node)
        before = NodeSpec(node=spec.node, slots=0) if row is None else self.specs[row]
        held = self._held(row, before)
        there, cut = whole_cards(spec.gpus, spec.lost + spec.mig), _cut(spec)
        if (held.cards > there).any() or (held.slices & ~cut).any():
            raise ValueError(f"somebody holds a card that {spec.node} would not have: drain it first")
        if row is None:
            row = self._append(spec)
        if spec.gpus > self.free.shape[1]:
            self._grow(len(self.cards), CARDS_MAX)
        if spec.mig and not self.any_mig:
            self.any_mig = True
            self._grow(len(self.cards), self.free.shape[1])
        self.specs[row] = spec
        width = self.free.shape[1]
        self.free[row] = (there - held.cards)[:width]
        if self.any_mig:
            self.mig[row], self.slices[row] = cut[:width], (cut & ~held.slices)[:width]
        self.geometry[row] = number_of(spec.model)
        self.cpu[row] = spec.cpu_milli - held.cpu
        self.memory[row] = spec.memory_mib - held.memory
        self.slots[row] = spec.slots - held.members
        self.cards[row] = spec.gpus
        self.model[row] = self.models.of(spec.model)
        self.jurisdiction[row] = self.jurisdictions.of(spec.jurisdiction)
        self.assurance[row] = sum(
            1 << self.assurances.of(one) for one in dict.fromkeys(spec.assurances)
        )
        self.idle_w[row], self.gpu_w[row] = spec.idle_w, spec.gpu_w
        self.gpu_w_max = max(self.gpu_w_max, spec.gpu_w)
        for level in LEVELS:
            name = spec.place.get(level, "" if level != "site" else "site")
            self.at(level)[row] = self.domains[level].of(name) if name else NOWHERE
        self.built += 1
        self.puts += 1
        self._count(row)
        self.touch(row)
        return row

    def turn(self, row: int, *, closed: bool, silent: bool) -> None:
        """Have a node take new members or not, and be heard or not."""
        self.closed[row], self.silent[row] = closed, silent
        self.built += 1
        self.touch(row)

    @property
    def every(self) -> Ints:
        """Return all rows."""
        return np.arange(self.rows)

    def at(self, level: str) -> Ints:
        """Return the domain of each row at a level: int[row], ``NOWHERE`` where it is not known."""
        return self._columns[f"at_{level}"][: self.rows]

    def take(self, size: Size, part: Part) -> None:
        """Take what one member takes. It must fit: see ``fit``."""
        row = part.row
        free = self.free[row]
        for card in part.cards:
            assert free[card] >= part.milli_each
            self.taken[row] += int(free[card] == MILLI_PER_GPU)
            free[card] -= part.milli_each
        if part.slices:
            self._instance(part, take=True)
        self.cpu[row] -= size.cpu_milli
        self.memory[row] -= size.memory_mib
        self.slots[row] -= 1
        self._count(row)
        self.touch(row)

    def give(self, size: Size, part: Part) -> None:
        """Give back what one member took."""
        row = part.row
        free = self.free[row]
        for card in part.cards:
            free[card] += part.milli_each
            assert free[card] <= MILLI_PER_GPU
            self.taken[row] -= int(free[card] == MILLI_PER_GPU)
        if part.slices:
            self._instance(part, take=False)
        self.cpu[row] += size.cpu_milli
        self.memory[row] += size.memory_mib
        self.slots[row] += 1
        self._count(row)
        self.touch(row)

    def leave_free(self, rows: Ints, free: Ints) -> None:
        """Have so much be left of each card of ``rows``: int[of rows, card]."""
        self.free[rows], self.idle[rows], self.most[rows] = free, free.sum(1), free.max(1)
        self.whole[rows] = (free == MILLI_PER_GPU).sum(1)

    def _count(self, row: int) -> None:
        """Have what follows from a row's cards be as they are."""
        free = self.free[row].tolist()
        self.idle[row], self.most[row] = sum(free), max(free)
        self.whole[row] = free.count(MILLI_PER_GPU)

    def _instance(self, part: Part, *, take: bool) -> None:
        """Take, or give back, an instance: a GPU is somebody's as long as not all of it is free."""
        row, (card,) = part.row, part.cards
        before, whole = int(self.slices[row, card]), int(self.mig[row, card])
        assert before & part.slices == (part.slices if take else 0)
        after = before ^ part.slices
        self.slices[row, card] = after
        self.taken[row] += int(after != whole) - int(before != whole)

    def _held(self, row: int | None, spec: NodeSpec) -> Held:
        """Return what the members of a node hold, where it is built as ``spec`` says."""
        cards, slices = np.zeros(CARDS_MAX, np.int64), np.zeros(CARDS_MAX, np.int64)
        if row is None:
            return Held(cards, slices, 0, 0, 0)
        width = self.free.shape[1]
        cards[:width] = whole_cards(spec.gpus, spec.lost + spec.mig)[:width] - self.free[row]
        if self.any_mig:
            slices[:width] = self.mig[row] & ~self.slices[row]
        return Held(
            cards,
            slices,
            spec.cpu_milli - int(self.cpu[row]),
            spec.memory_mib - int(self.memory[row]),
            spec.slots - int(self.slots[row]),
        )

    def _append(self, spec: NodeSpec) -> int:
        row = self.rows
        if row == len(self.cards):
            self._grow(2 * row, self.free.shape[1])
        self.rows += 1
        self.row_of[spec.node] = row
        self.specs.append(NodeSpec(node=spec.node, slots=0))
        self._name()
        return row

    def _grow(self, rows: int, cards: int) -> None:
        wide = {"free": cards, "left": len(LEFT)} | dict.fromkeys(MIG, cards if self.any_mig else 0)
        empty = {"tenant": NOBODY} | {f"at_{level}": NOWHERE for level in LEVELS}
        for name in ("free", "left", "idle", *MIG, *BUILT, *POWER_COLUMNS, *empty):
            shape: Any = (rows, wide[name]) if name in wide else rows
            column = np.full(shape, empty.get(name, 0), np.int64)
            before = self._columns.get(name)
            if before is not None:
                column[tuple(slice(length) for length in before.shape)] = before
            self._columns[name] = column
        self._name()

    def _name(self) -> None:
        """Have each column under its name, as far as there are nodes."""
        for name, column in self._columns.items():
            if not name.startswith("at_"):
                setattr(self, name, column)
        for at, name in enumerate(LEFT):
            setattr(self, name, self.left[:, at])


def _cut(spec: NodeSpec) -> Ints:
    """Return the memory slices of each GPU in MIG mode, as bits: int[card]; none of a model that nobody knows."""
    found = np.zeros(CARDS_MAX, np.int64)
    found[[card for card in spec.mig if card < spec.gpus and card not in spec.lost]] = GEOMETRIES[
        number_of(spec.model)
    ].full
    return found
