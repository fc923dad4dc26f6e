"""Scores that are kept: one vector for each size and its terms, of which only changed rows are scored anew."""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from placement.domain.engine.fit import FITS, LOWEST, fit
from placement.domain.engine.mix import Mix
from placement.domain.engine.score import NONE, Scored, needed_w, score
from placement.domain.engine.site import Ints, Site
from placement.domain.engine.size import Size, Terms

VIEWS_MAX = 512
"""Vectors kept; of more, those longest not asked for are computed anew when they are."""


class View:
    """What each row is for one size on its terms: which constraints it fails, and how good it is.

    ``counts`` int[constraint]: how many rows fail it first; the last is how many fit. ``needs`` int[row]
    are the fewest watts it adds to any row; what is scored is of those that fit, all else of no meaning.
    """

    awake: Scored | None

    def __init__(self, site: Site, mix: Mix, size: Size, terms: Terms) -> None:
        self._site, self.mix, self._size, self._terms = site, mix, size, terms
        self.seen = -1
        self._empty(site.rows)

    def _empty(self, rows: int) -> None:
        self.fails: Ints = np.zeros(rows, np.int64)
        self.needs: Ints = np.zeros(rows, np.int64)
        self.scored = _unscored(rows)
        self.awake = _unscored(rows) if self._size.gpu_milli else None
        self.counts: Ints = np.zeros(FITS + 1, np.int64)
        self.counts[FITS] = rows

    def copy(self, site: Site) -> "View":
        """Return the same for a copy of the site."""
        copy = View(site, self.mix, self._size, self._terms)
        copy.fails, copy.needs, copy.counts = self.fails.copy(), self.needs.copy(), self.counts.copy()
        copy.scored = _copied(self.scored)
        copy.awake = _copied(self.awake) if self.awake else None
        copy.seen = self.seen
        return copy

    def refresh(self) -> "View":
        """Score the rows that have changed since; return the view."""
        site = self._site
        if self.seen == site.seen:
            return self
        rows = None if len(self.fails) != site.rows or self.seen < 0 else site.since(self.seen)
        if rows is None:
            self._empty(site.rows)
            rows = np.arange(site.rows)
        fails = fit(site, self._size, self._terms, rows)
        self.counts -= np.bincount(LOWEST[self.fails[rows]], minlength=FITS + 1)
        self.counts += np.bincount(LOWEST[fails], minlength=FITS + 1)
        self.fails[rows] = fails
        self.needs[rows] = needed_w(site, self._size, rows)
        self.scored.score[rows] = NONE
        if self.awake:
            self.awake.score[rows] = NONE
        fits = rows[fails == 0]
        if len(fits):
            scored = score(site, self.mix, self._size, fits)
            _write(self.scored, fits, scored)
            if self.awake and scored.awake:
                _write(self.awake, fits, scored.awake)
        self.seen = site.seen
        return self


def _unscored(rows: int) -> Scored:
    gain, card, watts = (np.zeros(rows, np.int64) for _ in range(3))
    return Scored(np.full(rows, NONE, np.int64), gain, card, watts)


def _copied(scored: Scored) -> Scored:
    return Scored(scored.score.copy(), scored.gain.copy(), scored.card.copy(), scored.watts.copy())


def _write(into: Scored, rows: Ints, scored: Scored) -> None:
    into.score[rows], into.gain[rows] = scored.score, scored.gain
    into.card[rows], into.watts[rows] = scored.card, scored.watts


class Views:
    """The views of a site, by size and terms."""

    def __init__(self, site: Site, mix: Mix) -> None:
        self._site = site
        self._mix = mix
        self._held: OrderedDict[tuple[Size, Terms], View] = OrderedDict()
        # Those of the site that this one's is a copy of, and how many changes that had seen by then.
        self._others: tuple[Mapping[tuple[Size, Terms], View], int] = ({}, 0)

    def copy(self, site: Site) -> "Views":
        """Return the same for a copy of the site: each view is copied once it is asked for."""
        copy = Views(site, self._mix)
        copy._others = (self._held, site.seen)
        return copy

    def of(self, size: Size, terms: Terms) -> View:
        """Return the view of a size on its terms, as the site is now.

        Who asks and how far apart from others is no part of it (see ``fit``): all tenants share it.
        """
        if terms.tenant or terms.isolation:
            terms = Terms(jurisdictions=terms.jurisdictions, assurances=terms.assurances)
        key = (size, terms)
        view = self._held.get(key)
        if view is None:
            view = self._held[key] = self._known(key) or View(self._site, self._mix, size, terms)
            if len(self._held) > VIEWS_MAX:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return view.refresh()

    def expect(self, mix: Mix) -> None:
        """Score by another mix from now on."""
        self._mix = mix
        self._held.clear()

    def _known(self, key: tuple[Size, Terms]) -> View | None:
        """Return a copy of a view that the other site has, unless that went on since."""
        others, seen = self._others
        view = others.get(key)
        if view is None or view.seen > seen or view.mix is not self._mix:
            return None
        return view.copy(self._site)
