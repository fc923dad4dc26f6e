"""Multi-Instance GPU: which instances each GPU model can be cut into, where each may begin, where it begins best.

The tables are those of NVIDIA's *Multi-Instance GPU User Guide* (chapter "Supported MIG Profiles", and what
``nvidia-smi mig -lgipp`` lists as placements), without the variants that add media engines or graphics.

A GPU in MIG mode has eight memory slices (an A30: four). An instance takes a run of them that begins at one of
a few places, and compute slices, of which there are seven (four). Where the memory slices are free, so are
compute slices enough: no set of instances that fits by memory takes more than there are. So what is left of
a GPU is one number, the bits of its free memory slices, and all that is asked about it stands in a table.

Which start: the one after which the most is left for others, U = the mean over all profiles of the GPU of
the slices that instances of that profile alone could still take. That is the fragmentation of ``mix`` where each
profile is as likely as any other: a start that spoils the room for larger instances costs what they would have taken.
Of equal starts the lowest.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from placement.domain.engine.mix import ONE, Ints
from placement.domain.engine.size import MILLI_PER_GPU

MASKS = 256
"""So many sets of free slices there are of one GPU."""
UNFIT = -(1 << 62)
"""The gain where an instance does not fit."""


class Profile(NamedTuple):
    """One kind of instance: its compute and memory slices, and at which memory slices it may begin."""

    name: str
    compute: int
    memory: int
    starts: tuple[int, ...]

    def mask(self, start: int) -> int:
        """Return the slices that it takes from a start on, as bits."""
        return ((1 << self.memory) - 1) << start


class Geometry(NamedTuple):
    """What a GPU can be cut into: ``slices`` of memory, ``compute`` slices, its profiles by name."""

    slices: int
    compute: int
    profiles: dict[str, Profile]

    @property
    def full(self) -> int:
        """All slices, as bits."""
        return (1 << self.slices) - 1


def _sevenths(*names: str) -> Geometry:
    shapes = (
        (1, 1, (0, 1, 2, 3, 4, 5, 6)),
        (1, 2, (0, 2, 4, 6)),
        (2, 2, (0, 2, 4)),
        (3, 4, (0, 4)),
        (4, 4, (0,)),
        (7, 8, (0,)),
    )
    made = [Profile(name, *shape) for name, shape in zip(names, shapes, strict=True)]
    return Geometry(8, 7, {one.name: one for one in made})


def _quarters(*names: str) -> Geometry:
    shapes = ((1, 1, (0, 1, 2, 3)), (2, 2, (0, 2)), (4, 4, (0,)))
    made = [Profile(name, *shape) for name, shape in zip(names, shapes, strict=True)]
    return Geometry(4, 4, {one.name: one for one in made})


_H200 = _sevenths("1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb")
_OF_MODELS: tuple[tuple[Geometry, tuple[str, ...]], ...] = (
    (Geometry(0, 0, {}), ()),
    (
        _sevenths("1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"),
        ("A100-SXM4-40GB", "A100-PCIE-40GB", "A100-40GB"),
    ),
    (
        _sevenths("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
        (
            *("A100-SXM4-80GB", "A100 80GB PCIe", "A100-80GB", "A800-SXM4-80GB"),
            *("H100", "H100 80GB HBM3", "H100 PCIe", "H100-80GB", "H800"),
        ),
    ),
    (
        _sevenths("1g.12gb", "1g.24gb", "2g.24gb", "3g.47gb", "4g.47gb", "7g.94gb"),
        ("H100 NVL", "H100-94GB"),
    ),
    (
        _sevenths("1g.12gb", "1g.24gb", "2g.24gb", "3g.48gb", "4g.48gb", "7g.96gb"),
        ("GH200 480GB", "H100-96GB"),
    ),
    (_H200, ("H200", "H200 NVL", "rehearsal")),
    (
        _sevenths("1g.23gb", "1g.45gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb"),
        ("B200",),
    ),
    (
        _sevenths("1g.23gb", "1g.47gb", "2g.47gb", "3g.93gb", "4g.93gb", "7g.186gb"),
        ("GB200",),
    ),
    (_quarters("1g.6gb", "2g.12gb", "4g.24gb"), ("A30",)),
)
GEOMETRIES = tuple(geometry for geometry, _ in _OF_MODELS)
"""All that are known. The first is that of models of which none is: nothing fits them."""
NUMBERS = {name: number for number, (_, names) in enumerate(_OF_MODELS) for name in names}
"""Which of them a model has, by the name that NVML gives it without its maker's."""
PROFILES = frozenset(name for one in GEOMETRIES for name in one.profiles)
"""The names of all profiles of all models."""


def weight_of(profile: str) -> tuple[int, int]:
    """Return the compute slices and the GB that a profile's name says; nothing of one that nobody knows."""
    compute, _, memory = profile.partition("g.")
    return (int(compute), int(memory.removesuffix("gb"))) if profile in PROFILES else (0, 0)


@cache
def smaller(profile: str) -> tuple[tuple[int, str], ...]:
    """Return by how much each smaller profile is smaller, in GB and compute slices together: the largest first."""
    compute, memory = weight_of(profile)
    found = []
    for other in PROFILES - {profile}:
        less, gb = weight_of(other)
        if less <= compute and gb <= memory:
            found.append((compute - less + memory - gb, other))
    return tuple(sorted(found))


def number_of(model: str) -> int:
    """Return which geometry a model has; 0 for one that is not known."""
    return NUMBERS.get(model.removeprefix("NVIDIA "), 0)


def profile_of(model: str, name: str) -> Profile | None:
    """Return a model's profile of that name, if it has one."""
    return GEOMETRIES[number_of(model)].profiles.get(name)


class Table(NamedTuple):
    """All about one profile, by geometry and free slices: int[geometry * MASKS + slices], but ``milli`` int[geometry].

    ``fits``: how many instances of it fit. ``taken``: the slices that the next one takes, as bits; 0 where none fits.
    ``gain``: how much fragmentation that takes away, in milli times ``ONE``; ``UNFIT`` where none fits. ``milli``: its
    part of the GPU's memory slices, in thousandths.
    """

    fits: Ints
    taken: Ints
    gain: Ints
    milli: Ints


@cache
def table(profile: str) -> Table:
    """Return the table of a profile; of one that nobody knows nothing fits anywhere."""
    size = len(GEOMETRIES) * MASKS
    found = Table(
        np.zeros(size, np.int64),
        np.zeros(size, np.int64),
        np.full(size, UNFIT, np.int64),
        np.zeros(len(GEOMETRIES), np.int64),
    )
    for number, geometry in enumerate(GEOMETRIES):
        one = geometry.profiles.get(profile)
        if one is None:
            continue
        milli = found.milli[number] = MILLI_PER_GPU * one.memory // geometry.slices
        for free in range(geometry.full + 1):
            at = number * MASKS + free
            masks = [one.mask(start) for start in one.starts]
            able = [mask for mask in masks if mask & free == mask]
            if able:
                best = max(able, key=lambda mask: _useful(geometry, free & ~mask))
                found.fits[at], found.taken[at] = len(able), best
                change = _useful(geometry, free & ~best) - _useful(geometry, free)
                found.gain[at] = change + int(milli) * ONE
    return found


def instances_of(model: str, taken: int) -> dict[str, int]:
    """Return how many instances of each profile would fit beside slices that are taken of a GPU, if no others came."""
    number = number_of(model)
    at = number * MASKS + (GEOMETRIES[number].full & ~taken)
    return {name: int(table(name).fits[at]) for name in GEOMETRIES[number].profiles}


def first_of(slices: int) -> int:
    """Return the first memory slice of an instance, of its slices as bits."""
    return (slices & -slices).bit_length() - 1


def _useful(geometry: Geometry, free: int) -> int:
    """Return the mean over all profiles of the milli that instances of each alone could take, times ``ONE``."""
    slices = sum(
        one.memory * sum(one.mask(start) & free == one.mask(start) for start in one.starts)
        for one in geometry.profiles.values()
    )
    return slices * MILLI_PER_GPU * ONE // (geometry.slices * len(geometry.profiles))
