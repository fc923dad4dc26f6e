"""Where a member fits: the one function that both finds candidates and guards what is applied.

Each constraint that a node fails is one bit; the bits' order is the order in which an explanation
tells them.
"""

import numpy as np

from placement.domain.engine.site import Bools, Ints, Site
from placement.domain.engine.size import Size, Terms

CONSTRAINTS = (
    "ready",
    "heard",
    "jurisdiction",
    "assurance",
    "gpu_model",
    "gpus",
    "cpu",
    "memory",
    "slots",
    "isolation",
    "power",
    "reserved",
)
"""What a node must meet, in order; the code of each, as reasons say it."""

BIT = {name: 1 << number for number, name in enumerate(CONSTRAINTS)}
FITS = len(CONSTRAINTS)

_all = np.arange(1 << FITS)
LOWEST = np.full(1 << FITS, FITS, np.int64)
"""The first constraint that a set of bits fails; ``FITS`` for none."""
for _number in reversed(range(FITS)):
    LOWEST[_all & (1 << _number) != 0] = _number


def fit(site: Site, size: Size, terms: Terms, rows: Ints) -> Ints:
    """Return which constraints each of ``rows`` fails for one member: int[row], bits of ``BIT``.

    Those that look at one node alone: not isolation, power and reservations (see ``dynamic``).
    """
    fails = np.where(site.closed[rows] != 0, BIT["ready"], 0)
    fails |= np.where(site.silent[rows] != 0, BIT["heard"], 0)
    if terms.jurisdictions:
        codes = [site.jurisdictions.get(name, -1) for name in terms.jurisdictions]
        fails |= np.where(_among(site.jurisdiction[rows], codes), 0, BIT["jurisdiction"])
    if terms.assurances:
        # One that no node has yet has no bit: nobody meets it.
        wanted = [site.assurances.get(name, -1) for name in terms.assurances]
        mask = sum(1 << code for code in set(wanted) if code >= 0)
        met = (site.assurance[rows] & mask == mask) & (min(wanted) >= 0)
        fails |= np.where(met, 0, BIT["assurance"])
    if size.models:
        codes = [site.models.get(name, -1) for name in size.models]
        fails |= np.where(_among(site.model[rows], codes), 0, BIT["gpu_model"])
    if size.cards:
        free = site.free[rows] >= size.milli_each
        fails |= np.where(free.sum(1) >= size.cards, 0, BIT["gpus"])
    fails |= np.where(site.cpu[rows] >= size.cpu_milli, 0, BIT["cpu"])
    fails |= np.where(site.memory[rows] >= size.memory_mib, 0, BIT["memory"])
    fails |= np.where(site.slots[rows] >= 1, 0, BIT["slots"])
    return fails


def _among(codes: Ints, wanted: list[int]) -> Bools:
    found: Bools = codes == wanted[0]
    for code in wanted[1:]:
        found |= codes == code
    return found
