"""What would be freed on each node if workloads left it: card by card where several share one, else by node.

Who holds half of each of two cards frees none of them alone. So on nodes with shared cards the room for
members is put together of cards, and the cards of all who have a part of them.
"""

from typing import NamedTuple

import numpy as np

from placement.domain.engine.mig import MASKS, table
from placement.domain.engine.prices import Units, complete, rank
from placement.domain.engine.roster import Roster
from placement.domain.engine.site import Bools, Ints, Site
from placement.domain.engine.size import MILLI_PER_GPU, Size
from placement.domain.engine.slices import BITS, EACH
from placement.domain.engine.spill import total

SEAT = 720_720
"""Parts of a seat: a number that any number of GPUs of one node divides."""


class Held(NamedTuple):
    """Who holds something that is in the way: the row, the card (-1: the node), the holder.

    ``milli`` of that card, or of all cards of the node (of an instance its slices, as bits); ``share`` what it is of a seat.
    """

    row: Ints
    card: Ints
    holder: Ints
    milli: Ints
    share: Ints

    def by(self, order: Ints) -> "Held":
        """Return the same in another order."""
        return Held(*(column[order] for column in self))


def held(site: Site, roster: Roster, size: Size, soft: Bools, rows: Bools) -> Held:
    """Return what those who can make way hold on ``rows``: bool[holder], bool[row]."""
    members, cards = roster.members, roster.cards
    shared = np.zeros(site.rows, bool)
    if size.gpus:
        parts = np.flatnonzero(cards.milli < MILLI_PER_GPU)
        shared[cards.row[parts[roster.here[cards.holder[parts]]]]] = True
    elif size.gpu_milli:
        shared[cards.row[roster.here[cards.holder]]] = True
    elif size.mig:
        shared[roster.instances.row[roster.here[roster.instances.holder]]] = True
    some = np.flatnonzero(soft[members.holder] & (rows & ~shared)[members.row])
    holder, many = members.holder[some], members.many[some]
    if size.milli:
        share = members.milli[some] * SEAT // size.milli
    elif size.cpu_milli:
        share = roster.of("cpu")[holder] * many * SEAT // size.cpu_milli
    else:
        share = many * SEAT
    by_node = Held(members.row[some], np.full(len(some), -1), holder, members.milli[some], share)
    by_card = (_instances if size.mig else _shares)(site, roster, size, soft, rows & shared)
    found = Held(*(np.concatenate(both) for both in zip(by_node, by_card, strict=True)))
    return found._replace(share=np.maximum(found.share, 1))


def _shares(site: Site, roster: Roster, size: Size, soft: Bools, rows: Bools) -> Held:
    """Return what they hold card by card."""
    del site
    cards = roster.cards
    those = np.flatnonzero(soft[cards.holder] & rows[cards.row])
    milli = cards.milli[those]
    share = milli * SEAT // max(size.milli, 1)
    return Held(cards.row[those], cards.card[those], cards.holder[those], milli, share)


def _instances(site: Site, roster: Roster, size: Size, soft: Bools, rows: Bools) -> Held:
    """Return which instances they hold: ``milli`` are the slices, as bits."""
    held = roster.instances
    those = np.flatnonzero(soft[held.holder] & rows[held.row])
    row, slices = held.row[those], held.slices[those]
    geometry = site.geometry[row]
    share = BITS[slices] * EACH[geometry] * SEAT // np.maximum(table(size.mig).milli[geometry], 1)
    return Held(row, held.card[those], held.holder[those], slices, share)


def freed(site: Site, size: Size, items: Held, price: Ints, gain: Ints) -> Units:
    """Return the seats that are freed, by row, and which of them each item is for.

    ``gain`` int[row]: how many seats there are more with all gone.
    """
    by_card = items.card >= 0
    piece = np.full(len(items.row), -1, np.int64)
    nodes = np.flatnonzero(~by_card)
    piece[nodes] = np.arange(len(nodes))
    row, amount, prices = items.row[nodes], items.share[nodes], price[nodes]
    on_cards = np.flatnonzero(by_card)
    if len(on_cards):
        cards = (_cut if size.mig else _cards)(site, size, items, price, on_cards)
        piece[on_cards] = np.where(cards.of >= 0, cards.of + len(nodes), -1)
        row = np.concatenate((row, cards.group))
        amount = np.concatenate((amount, cards.counts * SEAT // max(size.gpus, 1)))
        prices = np.concatenate((prices, cards.price))
    order = _by_row(row, amount, prices)
    begun = np.zeros(site.rows, np.int64)
    if size.gpus:
        begun = site.whole[: site.rows] % size.gpus * (SEAT // size.gpus)
    found = complete(row[order], amount[order], prices[order], base=begun, per=SEAT, most=gain)
    of_piece = np.full(len(row) + 1, -1, np.int64)
    of_piece[order] = found.of
    return found._replace(of=of_piece[piece])


def _cards(site: Site, size: Size, items: Held, price: Ints, which: Ints) -> Units:
    """Return the cards that are freed, as far as is of use, by row."""
    width = site.free.shape[1]
    row, card, milli = items.row[which], items.card[which], items.milli[which]
    keys, group = np.unique(row * width + card, return_inverse=True)
    free = site.free[keys // width, keys % width]
    all_gone = free + total(group, milli, len(keys))
    if size.gpus:
        per, base, most = MILLI_PER_GPU, free, (all_gone == MILLI_PER_GPU).astype(np.int64)
    else:
        per = size.gpu_milli
        base, most = free % per, all_gone // per - free // per
    order = np.lexsort((items.holder[which], rank(price[which], milli), group))
    found = complete(group[order], milli[order], price[which][order], base=base, per=per, most=most)
    of = np.full(len(which), -1, np.int64)
    of[order] = found.of
    return found._replace(group=keys[found.group] // width, of=of)


def _cut(site: Site, size: Size, items: Held, price: Ints, which: Ints) -> Units:
    """Return the instances that could be cut where others leave, by row.

    An instance begins at a multiple of its length, so that of two that overlap one holds the other: what is freed at
    once is what lies in one place for an instance of the wish, or the larger instance that lies there.
    """
    width, profile = site.free.shape[1], table(size.mig)
    row, card, slices = items.row[which], items.card[which], items.milli[which]
    geometry = site.geometry[row]
    each = np.maximum(profile.milli[geometry] // np.maximum(EACH[geometry], 1), 1)
    length = np.maximum(each, BITS[slices])
    first = BITS[(slices & -slices) - 1]
    keys, of = np.unique((row * width + card) * MASKS + first // length * length, return_inverse=True)
    left = np.zeros(len(keys), np.int64)
    np.bitwise_or.at(left, of, slices)
    row, card = np.divmod(keys // MASKS, width)
    free, at = site.slices[row, card], site.geometry[row] * MASKS
    counts = profile.fits[at + (free | left)] - profile.fits[at + free]
    found = Units(row, counts, total(of, price[which], len(keys)), of)
    some = counts > 0
    number = np.where(some, some.cumsum() - 1, -1)
    return Units(found.group[some], counts[some], found.price[some], number[of])


def _by_row(row: Ints, amount: Ints, price: Ints) -> Ints:
    """Return the order by row, on each the cheapest for its amount first."""
    if len(row) and np.bincount(row).max() == 1:
        at = np.full(int(row.max()) + 1, -1, np.int64)
        at[row] = np.arange(len(row))
        return at[at >= 0]
    return np.lexsort((np.arange(len(row)), rank(price, amount), row))
