"""Who has had how much: use of each resource now and lately, and the share that decides whose turn it is.

Dominant-resource fairness after Ghodsi et al. (NSDI 2011): a project's share is the largest of its parts of
the site's GPUs, CPUs and memory, divided by its weight. Half of what is counted is what it holds now, half
the mean of what it held, in which a moment weighs half as much as one ``HALF_LIFE_MS`` later. Integers
only: a replay on another machine gives the same order to the last bit.
"""

from math import isqrt
from typing import NamedTuple

from placement.domain.engine.site import Site
from placement.domain.engine.size import MILLI_PER_GPU, Size

HALF_LIFE_MS = 6 * 3_600_000
"""After so long what was held counts half."""
GRAIN_MS = 1_000
"""Time is told apart so finely: within a second nothing decays, and it costs nothing to count."""
SLICES = 7
"""Compute slices of a GPU that can be cut into instances."""

ONE = 1 << 32
"""What has not decayed."""
STEPS = 64
"""A half-life is cut into so many steps; between two of them decay runs straight (off by less than 1 in 60,000)."""
MEAN = 1 << 20
"""A mean counts in units of one part of this."""
SHARE = 1 << 60
"""All of a site, at weight 1."""


class Amount(NamedTuple):
    """So much of each resource that is shared: milli of GPU, milli of CPU, MiB of memory."""

    gpu: int
    cpu: int
    memory: int


NOTHING = Amount(0, 0, 0)


def amount(size: Size, members: int) -> Amount:
    """Return what a workload takes in all; an instance of a GPU counts by its compute slices."""
    gpu = size.milli
    if members == 1 and not size.mig:
        return Amount(gpu, size.cpu_milli, size.memory_mib)
    if size.mig:
        slices = int("0" + size.mig.partition("g")[0])
        gpu = -(-MILLI_PER_GPU * slices // SLICES)
    return Amount(gpu * members, size.cpu_milli * members, size.memory_mib * members)


def capacity(site: Site) -> Amount:
    """Return what a site has in all, free or not, in service or not; at least 1 of each."""
    return Amount(
        max(1, int(site.cards[: site.rows].sum()) * MILLI_PER_GPU),
        max(1, sum(spec.cpu_milli for spec in site.specs)),
        max(1, sum(spec.memory_mib for spec in site.specs)),
    )


def _table() -> list[int]:
    """Return 2^(-i / STEPS) for each i, as parts of ``ONE``."""
    root, found = ONE * ONE // 2, [ONE]
    roots = []
    for _ in range(STEPS.bit_length() - 1):
        roots.append(isqrt(root))
        root = roots[-1] * ONE
    for _ in range(STEPS):
        found.append(found[-1] * roots[-1] // ONE)
    # Halves, quarters, … are exact to the last bit; only what is between them is a product.
    for power, exact in enumerate(roots):
        found[STEPS >> (power + 1)] = exact
    found[STEPS] = ONE // 2
    return found


TABLE = _table()


def decay(passed: int, half_life: int) -> int:
    """Return what is left of ``ONE`` after so many milliseconds."""
    whole, rest = divmod(passed * STEPS, half_life)
    halves, step = divmod(whole, STEPS)
    if halves > ONE.bit_length():
        return 0
    left = TABLE[step] - (TABLE[step] - TABLE[step + 1]) * rest // half_life
    return left >> halves


class Account:
    """What one project (or organisation) holds, and the mean of what it held; ``at`` counts grains."""

    __slots__ = ("at", "cpu", "gpu", "means", "memory")

    def __init__(self) -> None:
        self.gpu = self.cpu = self.memory = 0
        self.means = (0, 0, 0)
        self.at = 0

    def copy(self) -> "Account":
        """Return the same."""
        copy = Account()
        copy.gpu, copy.cpu, copy.memory = self.gpu, self.cpu, self.memory
        copy.means, copy.at = self.means, self.at
        return copy

    def charge(self, one: Amount, sign: int, at: int, half_life: int) -> None:
        """Count an amount more (``sign`` 1) or less (-1), from a moment on that is not before the last one."""
        grain = at // GRAIN_MS
        if grain > self.at:
            self.means = self.lately(at, half_life)
            self.at = grain
        gpu, cpu, memory = one
        self.gpu += sign * gpu
        self.cpu += sign * cpu
        self.memory += sign * memory

    def lately(self, at: int, half_life: int) -> tuple[int, int, int]:
        """Return the mean of each resource up to a moment, in parts of ``MEAN``."""
        left = decay(max(0, at // GRAIN_MS - self.at) * GRAIN_MS, half_life)
        new = (ONE - left) * MEAN
        gpu, cpu, memory = self.means
        return (
            (gpu * left + self.gpu * new) >> 32,
            (cpu * left + self.cpu * new) >> 32,
            (memory * left + self.memory * new) >> 32,
        )

    def base(self, at: int, half_life: int) -> Amount:
        """Return what it holds and what it held lately, up to a moment, in parts of ``MEAN``."""
        gpu, cpu, memory = self.lately(at, half_life)
        return Amount(self.gpu * MEAN + gpu, self.cpu * MEAN + cpu, self.memory * MEAN + memory)


def share(base: Amount, more: Amount, whole: Amount, weight: int) -> int:
    """Return the dominant share of whoever has such a base, with so much ``more`` held: parts of ``SHARE``."""
    most = max(
        (base.gpu + more.gpu * MEAN) * SHARE // whole.gpu,
        (base.cpu + more.cpu * MEAN) * SHARE // whole.cpu,
        (base.memory + more.memory * MEAN) * SHARE // whole.memory,
    )
    return most // (2 * MEAN * weight)
