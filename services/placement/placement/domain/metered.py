"""What meters say that the plan does not: where a capped part of a site draws more than it was planned to."""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from placement.domain.engine.engine import Engine
from placement.domain.engine.site import NOWHERE
from placement.domain.engine.wish import Measured

STEP_PERCENT: Final = 1
"""A change of what is drawn beyond the plan is told from so much of the cap on: meters never stand still."""


def beyond(engine: Engine, drawn: Mapping[str, int]) -> Iterator[Measured]:
    """Yield what each capped part of the site draws, where that is another excess than the engine knows.

    ``drawn`` are watts by node; a node whose meter is not heard draws what is planned. Whoever draws less than planned
    gives nobody more room: it may draw the rest at any moment.
    """
    site, power = engine.site, engine.power
    caps = power.caps()
    if not caps:
        return
    rows = np.array([site.row_of[node] for node in drawn if node in site.row_of], np.int64)
    watts = np.array([more for node, more in drawn.items() if node in site.row_of], np.int64)
    more = watts - site.idle_w[rows] - site.taken[rows] * site.gpu_w[rows]
    for level, of_level in caps.items():
        at = site.at(level)[rows]
        sums = np.zeros(len(site.domains[level]) + 1, np.int64)
        np.add.at(sums, at, more)
        sums[NOWHERE] = 0
        names = list(site.domains[level])
        for code, cap in of_level.items():
            excess, known = max(0, int(sums[code])), power.excess_of(level, code)
            if abs(excess - known) * 100 > cap * STEP_PERCENT or (known and not excess):
                planned = int(power.planned[level][code])
                yield Measured(level=level, domain=names[code], watts=planned + excess)
