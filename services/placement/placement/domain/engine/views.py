"""Scores that are kept: one vector for each size, of which only changed rows are scored anew."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from placement.domain.engine.fit import FITS, LOWEST, barred, short
from placement.domain.engine.mix import Mix
from placement.domain.engine.score import NONE, Scored, needed_w, score
from placement.domain.engine.site import Bools, Ints, Site
from placement.domain.engine.size import Size, Terms

VIEWS_MAX = 512
"""Vectors kept; of more, those longest not asked for are computed anew when they are."""


class View(NamedTuple):
    """What each row is for one size on its terms, as the site is now: which constraints it fails, how good it is.

    ``counts`` int[constraint]: how many rows fail it first; the last is how many fit. ``needs`` int[row]
    are the fewest watts it adds to any row; what is scored is of those that fit, all else of no meaning.
    """

    fails: Ints
    counts: Ints
    needs: Ints
    scored: Scored
    awake: Scored | None


class Kept:
    """The scores of one size, whatever the terms: of rows where there is enough of everything."""

    awake: Scored | None

    def __init__(self, site: Site, mix: Mix, size: Size) -> None:
        self._site, self.mix, self._size = site, mix, size
        self.seen = -1
        self._empty(site.rows)

    def _empty(self, rows: int) -> None:
        self.fails: Ints = np.zeros(rows, np.int64)
        self.needs: Ints = np.zeros(rows, np.int64)
        self.scored = _unscored(rows)
        self.awake = _unscored(rows) if self._size.gpu_milli or self._size.mig else None
        self.counts: Ints = np.zeros(FITS + 1, np.int64)
        self.counts[FITS] = rows

    def copy(self, site: Site) -> "Kept":
        """Return the same for a copy of the site."""
        copy = Kept(site, self.mix, self._size)
        copy.fails, copy.needs, copy.counts = self.fails.copy(), self.needs.copy(), self.counts.copy()
        copy.scored = _copied(self.scored)
        copy.awake = _copied(self.awake) if self.awake else None
        copy.seen = self.seen
        return copy

    def refresh(self) -> None:
        """Score the rows that have changed since."""
        site = self._site
        if self.seen == site.seen:
            return
        rows = None if len(self.fails) != site.rows or self.seen < 0 else site.since(self.seen)
        if rows is None:
            self._empty(site.rows)
            rows = np.arange(site.rows)
        fails = short(site, self._size, rows)
        self.counts -= np.bincount(LOWEST.take(self.fails.take(rows)), minlength=FITS + 1)
        self.counts += np.bincount(LOWEST.take(fails), minlength=FITS + 1)
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

    def on(self, bars: Ints | None) -> View:
        """Return what each row is where these constraints bar it besides (``barred``; ``None`` for nowhere)."""
        if bars is None:
            return View(self.fails, self.counts, self.needs, self.scored, self.awake)
        fails = self.fails | bars
        open_ = bars == 0
        counts = np.bincount(LOWEST[fails], minlength=FITS + 1)
        awake = _where(open_, self.awake) if self.awake else None
        return View(fails, counts, self.needs, _where(open_, self.scored), awake)


def _where(open_: Bools, scored: Scored) -> Scored:
    return scored._replace(score=np.where(open_, scored.score, NONE))


def _unscored(rows: int) -> Scored:
    gain, card, watts = (np.zeros(rows, np.int64) for _ in range(3))
    return Scored(np.full(rows, NONE, np.int64), gain, card, watts)


def _copied(scored: Scored) -> Scored:
    return Scored(scored.score.copy(), scored.gain.copy(), scored.card.copy(), scored.watts.copy())


def _write(into: Scored, rows: Ints, scored: Scored) -> None:
    into.score[rows], into.gain[rows] = scored.score, scored.gain
    into.card[rows], into.watts[rows] = scored.card, scored.watts


class Views:
    """The views of a site, by size and terms; all terms share the scores of a size."""

    def __init__(self, site: Site, mix: Mix) -> None:
        self._site = site
        self._mix = mix
        self._held: OrderedDict[Size, Kept] = OrderedDict()
        self._bars: OrderedDict[tuple[Terms, tuple[str, ...]], tuple[int, Ints | None]] = OrderedDict()
        # Those of the site that this one's is a copy of, and how many changes that had seen by then.
        self._others: tuple[Mapping[Size, Kept], int] = ({}, 0)

    def copy(self, site: Site) -> "Views":
        """Return the same for a copy of the site: each size's scores are copied once they are asked for."""
        copy = Views(site, self._mix)
        copy._others = (self._held, site.seen)
        return copy

    def of(self, size: Size, terms: Terms) -> View:
        """Return the view of a size on its terms, as the site is now.

        Who asks and how far apart from others is no part of it (see ``fit``).
        """
        kept = self._held.get(size)
        if kept is None:
            kept = self._held[size] = self._known(size) or Kept(self._site, self._mix, size)
            if len(self._held) > VIEWS_MAX:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(size)
        kept.refresh()
        return kept.on(self._barred(size, terms))

    def expect(self, mix: Mix) -> None:
        """Score by another mix from now on."""
        self._mix = mix
        self._held.clear()

    def _barred(self, size: Size, terms: Terms) -> Ints | None:
        """Return which rows the terms and the models bar, whatever is free there; ``None`` for none."""
        if terms.tenant or terms.isolation:
            terms = Terms(jurisdictions=terms.jurisdictions, assurances=terms.assurances)
        key = (terms, size.models)
        built, bars = self._bars.get(key, (-1, None))
        if built != self._site.built:
            found = barred(self._site, size, terms, self._site.every)
            bars = found if found.any() else None
            self._bars[key] = (self._site.built, bars)
            if len(self._bars) > VIEWS_MAX:
                self._bars.popitem(last=False)
        return bars

    def _known(self, size: Size) -> Kept | None:
        """Return a copy of scores that the other site has, unless that went on since."""
        others, seen = self._others
        kept = others.get(size)
        if kept is None or kept.seen > seen or kept.mix is not self._mix:
            return None
        return kept.copy(self._site)
