"""Where a member fits: the one function that both finds candidates and guards what is applied.

Each constraint that a node fails is one bit; the bits' order is the order in which an explanation
tells them.
"""

from functools import lru_cache

import numpy as np

from placement.domain.engine.site import LEFT, Bools, Ints, Site
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.slices import fits

NEEDS_MAX = 4_096
"""Sizes of which what they need is remembered."""

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
    "quota",
)
"""What a node must meet, in order; the code of each, as reasons say it."""

BIT = {name: 1 << number for number, name in enumerate(CONSTRAINTS)}
OF_LEFT = np.array([BIT[{"whole": "gpus", "most": "gpus"}.get(name, name)] for name in LEFT], np.int64)
"""The constraint that each column of ``left`` is about."""
FITS = len(CONSTRAINTS)

_all = np.arange(1 << FITS)
LOWEST = np.full(1 << FITS, FITS, np.int64)
"""The first constraint that a set of bits fails; ``FITS`` for none."""
for _number in reversed(range(FITS)):
    LOWEST[_all & (1 << _number) != 0] = _number


def fit(site: Site, size: Size, terms: Terms, rows: Ints) -> Ints:
    """Return which constraints each of ``rows`` fails for one member: int[row], bits of ``BIT``.

    Those that look at one node alone: isolation, power and reservations look at its neighbours, too
    (see ``choose``).
    """
    return barred(site, size, terms, rows) | short(site, size, rows)


def lacks(site: Site, size: Size, row: int) -> bool:
    """Return whether one row has too little of anything: what ``short`` says of it."""
    return bool(short(site, size, row))  # type: ignore[arg-type] # a number will do, and is faster


def short(site: Site, size: Size, rows: Ints) -> Ints:
    """Return which of GPUs, CPU, memory and slots each of ``rows`` has too little of."""
    fails: Ints = (site.left.take(rows, 0) < _needs(size)) @ OF_LEFT
    if size.mig:
        fails = fails | ~fits(site, size.mig, rows) * BIT["gpus"]
    return fails


@lru_cache(NEEDS_MAX)
def _needs(size: Size) -> Ints:
    """Return how much of each of ``LEFT`` a member needs: int[of them]. A share needs one card with so much left."""
    found = np.array(
        (size.cpu_milli, size.memory_mib, 1, size.gpus, 0 if size.gpus else size.gpu_milli), np.int64
    )
    found.flags.writeable = False
    return found


def barred(site: Site, size: Size, terms: Terms, rows: Ints) -> Ints:
    """Return which constraints each of ``rows`` fails whatever is free there: these change seldom."""
    fails: Ints = (site.closed[rows] != 0) * BIT["ready"]
    fails |= (site.silent[rows] != 0) * BIT["heard"]
    if terms.jurisdictions:
        codes = [site.jurisdictions.get(name, -1) for name in terms.jurisdictions]
        fails |= ~_among(site.jurisdiction[rows], codes) * BIT["jurisdiction"]
    if terms.assurances:
        # One that no node has yet has no bit: nobody meets it.
        wanted = [site.assurances.get(name, -1) for name in terms.assurances]
        mask = sum(1 << code for code in set(wanted) if code >= 0)
        met = (site.assurance[rows] & mask == mask) & (min(wanted) >= 0)
        fails |= ~met * BIT["assurance"]
    if size.models:
        codes = [site.models.get(name, -1) for name in size.models]
        fails |= ~_among(site.model[rows], codes) * BIT["gpu_model"]
    return fails


def beside(site: Site, avoid: tuple[str, ...], only: str, bars: Ints | None) -> Ints | None:
    """Return what keeps a member from each row, those it avoids among them; ``None`` for nothing.

    ``only``: the one node that will do (empty: any).
    """
    avoided: Bools | list[int] = [site.row_of[node] for node in avoid if node in site.row_of]
    if only:
        avoided = site.every != site.row_of.get(only, -1)
    elif not avoided:
        return bars
    found = np.zeros(site.rows, np.int64) if bars is None else bars.copy()
    found[avoided] |= BIT["ready"]
    return found


def _among(codes: Ints, wanted: list[int]) -> Bools:
    found: Bools = codes == wanted[0]
    for code in wanted[1:]:
        found |= codes == code
    return found
