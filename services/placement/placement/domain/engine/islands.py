"""NVLink domains are opened one after the other: of nodes equally good the one whose domain has least left is taken.

Without that single GPUs would lie in as many racks as there are, in the order in which their nodes joined, and
no rack would be left for whoever needs a whole one.
"""

import numpy as np

from placement.domain.engine.mix import ONE
from placement.domain.engine.site import NOWHERE, Ints, Site

UNTOUCHED = ONE // 64
"""What each node with no GPU in use costs in the domain that a member is put in: 72 of them cost less than one
GPU that stays free on its own node, so that this decides among equals only."""


class Islands:
    """What a member costs each row for the nodes of its NVLink domain that are untouched: kept, not counted anew."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._built = self._seen = -1
        self._several = False

    def costs(self) -> Ints | None:
        """Return what each row costs: int[row]; ``None`` where no domain has several nodes."""
        site = self._site
        if self._built != site.puts:
            self._built, self._seen = site.puts, -1
            at = site.at("nvlink")
            self._several = int(np.bincount(at[at != NOWHERE], minlength=1).max()) > 1
        if not self._several:
            return None
        if self._seen != site.seen:
            self._count(site.at("nvlink"))
        return self._costs

    def _count(self, at: Ints) -> None:
        site = self._site
        rows = site.since(self._seen) if self._seen >= 0 else None
        self._seen = site.seen
        if rows is None:
            self._free: Ints = (site.taken[: site.rows] == 0).astype(np.int64)
            # The last is for nodes in no domain that is known: they cost nothing.
            self._left: Ints = np.zeros(len(site.domains["nvlink"]) + 1, np.int64)
            np.add.at(self._left, at, self._free)
        else:
            changes = (site.taken[rows] == 0) - self._free[rows]
            if not changes.any():
                return
            self._free[rows] += changes
            np.add.at(self._left, at[rows], changes)
        self._left[NOWHERE] = 0
        self._costs: Ints = self._left[at] * UNTOUCHED
