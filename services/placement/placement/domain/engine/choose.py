"""The decision for one member: the best node of those where it fits, and why it and not the next."""

from collections.abc import Callable

import msgspec
import numpy as np

from placement.domain.engine.fit import BIT, FITS, LOWEST, fit
from placement.domain.engine.mix import ONE
from placement.domain.engine.power import Power
from placement.domain.engine.score import NONE, Scored, needed_w
from placement.domain.engine.site import Ints, Part, Site
from placement.domain.engine.size import MILLI_PER_GPU, Size, Terms
from placement.domain.engine.slices import allows, part_of, wakes
from placement.domain.engine.tenancy import Tenancy
from placement.domain.engine.views import View, Views

POOR = NONE // 2
"""No node that does is so bad."""
REGRET_MAX = 100 * ONE
"""For the sake of watts no node is taken that is worse than the best by more than 100 milli of fragments."""


class Rated(msgspec.Struct, frozen=True, array_like=True):
    """One candidate: its row, its score, and the terms that add up to it.

    ``score`` = ``gain`` (fragmentation taken away) - ``left`` (what stays free on the node)
    - ``power`` (watts added, weighted) - ``bias`` (spreading, locality, whatever was asked for).
    """

    row: int
    score: int
    gain: int
    left: int
    power: int
    bias: int


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Take ``part``. ``failed`` counts the rows that fail each constraint first, then those that fit."""

    part: Part
    failed: tuple[int, ...]
    best: Rated
    second: Rated | None


class NoChoice(msgspec.Struct, frozen=True, kw_only=True):
    """It fits nowhere: ``fails`` int[row] are the constraints that each node fails, all of them."""

    failed: tuple[int, ...]
    fails: Ints


class Chooser:
    """Chooses among the nodes of one site."""

    def __init__(self, site: Site, views: Views, power: Power, tenancy: Tenancy) -> None:
        self._site, self._views, self._power, self._tenancy = site, views, power, tenancy
        self.reserved: Callable[[Size, Terms], Ints | None] = lambda _size, _terms: None

    def choose(
        self, size: Size, terms: Terms, *, watt_costs: int = 0, bias: Ints | None = None
    ) -> Choice | NoChoice:
        """Return where one member goes, or what each node lacks.

        ``watt_costs`` is what a watt more costs in the score; ``bias`` int[row] is taken from it.
        """
        view = self._views.of(size, terms)
        also, room = self._beyond(view, size, terms)
        picked = self._picked(view, room, watt_costs)
        score = picked.score
        if also is not None:
            score = np.where(also == 0, score, NONE)
        if bias is not None:
            score = score - bias
        if watt_costs:
            near = score >= score.max(initial=NONE) - REGRET_MAX
            score = np.where(near, score - watt_costs * picked.watts, NONE)
        failed = self._failed(view, also)
        if not failed[FITS]:
            if room is not None:
                also, _ = self._beyond(view, size, terms, everywhere=True)
            return NoChoice(failed=failed, fails=view.fails if also is None else view.fails | also)
        row = int(score.argmax())
        best = self._rated(picked, score, row, watt_costs, bias)
        part = self.part(size, row, int(picked.card[row]))
        second = self._second(picked, score, row, watt_costs, bias)
        return Choice(part=part, failed=failed, best=best, second=second)

    def also(self, view: View, size: Size, terms: Terms) -> Ints | None:
        """Return which constraints each row fails that depend on more than itself; ``None`` for none."""
        return self._beyond(view, size, terms, everywhere=True)[0]

    def lacks(self, size: Size, terms: Terms, rows: Ints) -> Ints:
        """Return all constraints that each of ``rows`` fails for one member, computed anew: int[row]."""
        site = self._site
        fails = fit(site, size, terms, rows)
        if terms.isolation or self._tenancy.locked:
            fails |= np.where(self._tenancy.apart(terms)[rows], 0, BIT["isolation"])
        fails |= np.where(self._power.room(rows) < needed_w(site, size, rows), BIT["power"], 0)
        kept = self.reserved(size, terms)
        return fails if kept is None else fails | kept[rows]

    def plain(self, size: Size, terms: Terms) -> bool:
        """Tell whether a member fits wherever its node alone has room: no cap, neighbour or reservation matters."""
        apart = terms.isolation or self._tenancy.locked
        return not apart and not self._power.capped and self.reserved(size, terms) is None

    def takes(self, size: Size, terms: Terms, part: Part) -> bool:
        """Tell whether a member fits just there, on those cards."""
        site, here = self._site, np.array([part.row])
        cards = list(part.cards)
        if len(set(cards)) != size.cards or part.milli_each != size.milli_each:
            return False
        if (
            any(not 0 <= card < site.cards[part.row] for card in cards)
            or self.lacks(size, terms, here)[0]
            or not allows(site, size, part)
        ):
            return False
        watts = wakes(site, part) * int(site.gpu_w[part.row])
        free = site.free[part.row, cards]
        return bool((free >= size.milli_each).all()) and watts <= int(self._power.room(here)[0])

    def _beyond(
        self, view: View, size: Size, terms: Terms, *, everywhere: bool = False
    ) -> tuple[Ints | None, Ints | None]:
        """Return ``also``, and the watts each row may add; ``None`` where all may add enough.

        Whether there are watts enough is told of the rows that fit, or of all rows ``everywhere``.
        """
        found: Ints | None = None
        room: Ints | None = None
        site = self._site
        if terms.isolation or self._tenancy.locked:
            found = np.where(self._tenancy.apart(terms), 0, BIT["isolation"])
        if self._power.capped and self._power.tightest() < site.gpu_w_max * size.cards:
            room = self._power.room()
            dark = room < view.needs
            if not everywhere:
                dark &= view.fails == 0
            if dark.any():
                bits = dark * BIT["power"]
                found = bits if found is None else found | bits
        kept = self.reserved(size, terms)
        if kept is not None:
            found = kept if found is None else found | kept
        return found, room

    def _picked(self, view: View, room: Ints | None, watt_costs: int) -> Scored:
        """Return each row with the card it would give: one already awake where watts are short, or dear."""
        usual, awake = view.scored, view.awake
        if awake is None or (room is None and not watt_costs):
            return usual
        thrifty = awake.score > usual.score - watt_costs * usual.watts
        if room is not None:
            thrifty |= room < usual.watts
        thrifty &= usual.score > NONE
        if not thrifty.any():
            return usual
        return Scored(
            np.where(thrifty, awake.score, usual.score),
            np.where(thrifty, awake.gain, usual.gain),
            np.where(thrifty, awake.card, usual.card),
            np.where(thrifty, awake.watts, usual.watts),
        )

    def part(self, size: Size, row: int, card: int) -> Part:
        """Return what a member takes of a node: whole cards first to last, a share or an instance of the one given."""
        cards: tuple[int, ...] = ()
        if size.mig:
            return part_of(self._site, size, row, card)
        if size.gpu_milli:
            cards = (card,)
        elif size.gpus:
            whole = np.flatnonzero(self._site.free[row] >= MILLI_PER_GPU)
            cards = tuple(whole[: size.gpus].tolist())
        return Part(row, cards, size.milli_each)

    def _failed(self, view: View, also: Ints | None) -> tuple[int, ...]:
        if also is None:
            return tuple(view.counts.tolist())
        return tuple(np.bincount(LOWEST.take(view.fails | also), minlength=FITS + 1).tolist())

    def _rated(
        self, picked: Scored, score: Ints, row: int, watt_costs: int, bias: Ints | None
    ) -> Rated:
        gain = int(picked.gain[row])
        return Rated(
            row=row,
            score=int(score[row]),
            gain=gain,
            left=gain - int(picked.score[row]),
            power=watt_costs * int(picked.watts[row]),
            bias=0 if bias is None else int(bias[row]),
        )

    def _second(
        self, picked: Scored, score: Ints, first: int, watt_costs: int, bias: Ints | None
    ) -> Rated | None:
        kept = score[first]
        score[first] = NONE
        row = int(score.argmax())
        score[first] = kept
        return None if score[row] < POOR else self._rated(picked, score, row, watt_costs, bias)
