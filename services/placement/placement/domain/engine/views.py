"""Scores that are kept: one vector for each size and its terms, of which only changed rows are scored anew."""

from collections import OrderedDict

import numpy as np

from placement.domain.engine.fit import FITS, LOWEST, fit
from placement.domain.engine.mix import Mix
from placement.domain.engine.score import NONE, score
from placement.domain.engine.site import Ints, Site
from placement.domain.engine.size import Size, Terms

VIEWS_MAX = 512
"""Vectors kept; of more, those longest not asked for are computed anew when they are."""


class View:
    """What each row is for one size on its terms: which constraints it fails, and how good it is.

    ``counts`` int[constraint]: how many rows fail it first; the last is how many fit.
    """

    def __init__(self, site: Site, mix: Mix, size: Size, terms: Terms) -> None:
        self._site, self._mix, self._size, self._terms = site, mix, size, terms
        self._seen = -1
        self._empty(site.rows)

    def _empty(self, rows: int) -> None:
        self.fails: Ints = np.zeros(rows, np.int64)
        self.score: Ints = np.full(rows, NONE, np.int64)
        self.gain: Ints = np.zeros(rows, np.int64)
        self.card: Ints = np.zeros(rows, np.int64)
        self.watts: Ints = np.zeros(rows, np.int64)
        self.counts: Ints = np.zeros(FITS + 1, np.int64)
        self.counts[FITS] = rows

    def refresh(self) -> "View":
        """Score the rows that have changed since; return the view."""
        site = self._site
        if self._seen == site.seen:
            return self
        rows = None if len(self.fails) != site.rows or self._seen < 0 else site.since(self._seen)
        if rows is None:
            self._empty(site.rows)
            rows = np.arange(site.rows)
        fails = fit(site, self._size, self._terms, rows)
        self.counts -= np.bincount(LOWEST[self.fails[rows]], minlength=FITS + 1)
        self.counts += np.bincount(LOWEST[fails], minlength=FITS + 1)
        self.fails[rows] = fails
        self.score[rows] = NONE
        fits = rows[fails == 0]
        if len(fits):
            scored = score(site, self._mix, self._size, fits)
            self.score[fits], self.gain[fits] = scored.score, scored.gain
            self.card[fits], self.watts[fits] = scored.card, scored.watts
        self._seen = site.seen
        return self


class Views:
    """The views of a site, by size and terms."""

    def __init__(self, site: Site, mix: Mix) -> None:
        self._site = site
        self._mix = mix
        self._held: OrderedDict[tuple[Size, Terms], View] = OrderedDict()

    def of(self, size: Size, terms: Terms) -> View:
        """Return the view of a size on its terms, as the site is now."""
        key = (size, terms)
        view = self._held.get(key)
        if view is None:
            view = self._held[key] = View(self._site, self._mix, size, terms)
            if len(self._held) > VIEWS_MAX:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return view.refresh()

    def expect(self, mix: Mix) -> None:
        """Score by another mix from now on."""
        self._mix = mix
        self._held.clear()
