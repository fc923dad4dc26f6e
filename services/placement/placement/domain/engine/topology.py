"""How a site's nodes hang together: which of them share a domain, at each level and within another."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from placement.domain.engine.site import NOWHERE, POWER, Bools, Ints, Site

NEARNESS = ("node", "nvlink", "rack", "leaf", "rail", "pdu", "row", "hall", "site")
"""Levels from near to far; what is no level is all that is known of the site."""
EVERYWHERE = ""


def domain_in_words(level: str, domain: str) -> str:
    """Return what a reader calls a domain; a hall knows one site only, and it has no name here."""
    return "the site" if level == "site" else f"{level} {domain}"


class Split(NamedTuple):
    """The site by the domains of one level; nodes in none are in none of the parts.

    ``cells`` are the cells in some domain, sorted by block; ``block`` int[of cells] says which block each is
    in: what one domain and one NVLink domain have in common. ``domain`` int[block], ``island`` int[block];
    ``code`` int[domain] is the domain's number at the level; domains are in the order of these numbers.
    ``simple``: each block is one cell; ``lone``: each domain is one block.
    """

    level: str
    cells: Ints
    block: Ints
    domain: Ints
    island: Ints
    code: Ints
    simple: bool
    lone: bool


class Topology:
    """A site's nodes as cells: those alike in every domain, and in what one of their GPUs draws.

    ``cell`` int[row]; ``at`` int[cell] by level; ``gpu_w`` int[cell]. ``island`` int[cell] is the NVLink
    domain, by rising number; a node in none that is known is an island of its own, not ``linked``.
    """

    def __init__(self, site: Site) -> None:
        rows = site.rows
        nvlink = site.at("nvlink")
        own = len(site.domains["nvlink"]) + np.arange(rows)
        levels = (*POWER, "nvlink", "leaf", "rail")
        keys = np.stack(
            (
                np.where(nvlink == NOWHERE, own, nvlink),
                *(site.at(level) for level in levels),
                site.gpu_w[:rows],
            )
        )
        cells, self.cell = _alike(keys)
        self.cells = cells.shape[1]
        self.at = dict(zip(levels, cells[1:-1], strict=True))
        self.gpu_w: Ints = cells[-1]
        islands, self.island = np.unique(cells[0], return_inverse=True)
        self.linked: Bools = islands < len(site.domains["nvlink"])
        # The rows of each cell, one after the other.
        self.rows: Ints = np.argsort(self.cell, kind="stable")
        self.names = {level: list(site.domains[level]) for level in levels}
        self._splits: dict[tuple[str, str], Split] = {}
        self._ladders: dict[tuple[str, bool], tuple[Split, ...]] = {}

    def ladder(self, level: str, *, required: bool) -> tuple[Split, ...]:
        """Return what to look for a place in, nearest first, for a workload that is to be within ``level``.

        First what is nearer than that, cut apart by it; then that; and, where it is not required, what is
        wider. Of levels that divide the site alike, the first. Single nodes are none of it.
        """
        found = self._ladders.get((level, required))
        if found is None:
            found = self._ladders[level, required] = tuple(self._ladder(level, required=required))
        return found

    def _ladder(self, level: str, *, required: bool) -> Iterator[Split]:
        steps = [(name, EVERYWHERE) for name in NEARNESS[1:]] + [(EVERYWHERE, EVERYWHERE)]
        if level:
            upto = NEARNESS.index(level)
            steps = [(name, level) for name in NEARNESS[1:upto]] + ([] if required else steps[upto:])
            if level != NEARNESS[0]:
                steps.insert(upto - 1, (level, EVERYWHERE))
        last: Split | None = None
        for step in dict.fromkeys(steps):
            split = self.split(*step)
            if len(split.code) and (last is None or not self.same(last, split)):
                yield split
                last = split

    def split(self, level: str, within: str = EVERYWHERE) -> Split:
        """Return the site by domains of ``level``, those cut apart that are in two domains of ``within``."""
        found = self._splits.get((level, within))
        if found is None:
            found = self._splits[level, within] = self._split(level, within)
        return found

    def _split(self, level: str, within: str) -> Split:
        at = np.zeros(self.cells, np.int64) if level == EVERYWHERE else self.at[level]
        inside = np.zeros(self.cells, np.int64) if within == EVERYWHERE else self.at[within]
        known = np.flatnonzero((at != NOWHERE) & (inside != NOWHERE))
        domains, domain = _alike(np.stack((at[known], inside[known])))
        blocks, block = _alike(np.stack((domain, self.island[known])))
        order = np.argsort(block, kind="stable")
        simple, lone = len(block) == blocks.shape[1], blocks.shape[1] == domains.shape[1]
        return Split(level, known[order], block[order], blocks[0], blocks[1], domains[0], simple, lone)

    def same(self, one: Split, other: Split) -> bool:
        """Return whether two levels divide the site in the same way."""
        return (
            len(one.code) == len(other.code)
            and np.array_equal(one.cells, other.cells)
            and np.array_equal(one.domain[one.block], other.domain[other.block])
        )


def _alike(keys: Ints) -> tuple[Ints, Ints]:
    """Return the different columns, in order, and which of them each column is."""
    number = np.zeros(keys.shape[1], np.int64)
    for key in keys:
        _, rank = np.unique(key, return_inverse=True)
        _, number = np.unique(number * (len(key) + 1) + rank, return_inverse=True)
    _, first = np.unique(number, return_index=True)
    return keys[:, first], number
