"""Where a member fits: the one function that both finds candidates and guards what is applied.

Each constraint that a node fails is one bit; the bits' order is the order in which an explanation
tells them.
"""

import numpy as np

from placement.domain.engine.site import Bools, Ints, Site
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.slices import fits

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
    fails: Ints = (site.cpu.take(rows) < size.cpu_milli) * BIT["cpu"]
    fails |= (site.memory.take(rows) < size.memory_mib) * BIT["memory"]
    fails |= (site.slots.take(rows) < 1) * BIT["slots"]
    if size.gpus:
        fails |= (site.whole.take(rows) < size.gpus) * BIT["gpus"]
    elif size.gpu_milli:
        fails |= (site.most.take(rows) < size.gpu_milli) * BIT["gpus"]
    elif size.mig:
        fails |= ~fits(site, size.mig, rows) * BIT["gpus"]
    return fails


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
