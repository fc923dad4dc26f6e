"""What it costs to make room: for seats node by node, then segment by segment, at what a restart costs.

A workload's cost counts on each of its nodes by what it holds there, of as much as is of use: so the nodes of
one gang cost together what the gang does. All of this is an estimate that finds candidates; whether they do
is asked of the site itself.
"""

from typing import NamedTuple

import numpy as np

from placement.domain.engine.site import Ints
from placement.domain.engine.spill import total

SCALE = 1 << 8
"""Parts of a cost that prices are counted in."""
COST_BITS = 20
"""Of larger costs, the last digits do not count in prices."""


class Units(NamedTuple):
    """What is freed at once, in the order of its group: ``counts`` for ``price``, by ``group``.

    ``of`` int[item] says which unit each item that was given belongs to; -1: none.
    """

    group: Ints
    counts: Ints
    price: Ints
    of: Ints


def complete(group: Ints, amount: Ints, price: Ints, *, base: Ints, per: int, most: Ints) -> Units:
    """Return the units that items make up, item by item, each of ``per``.

    ``group`` int[item], items of a group together, the cheapest first. ``base`` int[group] is there already
    (below ``per``), ``most`` int[group] how many units there are with the last item at the latest.
    """
    if not len(group):
        empty = np.zeros(0, np.int64)
        return Units(empty, empty, empty, empty)
    first = np.concatenate(([True], group[1:] != group[:-1]))
    start = np.flatnonzero(first)[first.cumsum() - 1]
    cum = amount.cumsum()
    within = cum - (cum - amount)[start] + base[group]
    made = np.minimum(within // per, most[group])
    last = np.concatenate((first[1:], [True]))
    made[last] = most[group[last]]
    count = made - np.where(first, 0, np.concatenate(([0], made[:-1])))
    done = count > 0
    unit = done.cumsum() - done
    groups = group[done]
    belongs = np.append(groups, -1)[unit] == group
    prices = total(unit[belongs], price[belongs], len(groups))
    return Units(groups, count[done], prices, np.where(belongs, unit, -1))


def rank(price: Ints, count: Ints) -> Ints:
    """Return what orders units by price for each."""
    return price * SCALE // np.maximum(count, 1)


def rising(group: Ints, key: Ints) -> Ints:
    """Return keys that do not fall within a group (groups together): nothing is cheaper than what it needs."""
    if not (group[1:] == group[:-1]).any():
        return key
    number = np.concatenate(([0], (group[1:] != group[:-1]).cumsum()))
    values, order = np.unique(key, return_inverse=True)
    together = np.maximum.accumulate(number * len(values) + order)
    found: Ints = values[together - number * len(values)]
    return found


def scaled(cost: Ints) -> Ints:
    """Return costs in the parts that prices are counted in, as large as sums of them allow."""
    bits = max(0, int(cost.max(initial=0)).bit_length() - COST_BITS)
    return (np.maximum(cost, 0) >> bits) * SCALE


def price(cost: Ints, share: Ints, of_use: Ints) -> Ints:
    """Return the part of each (scaled) cost that a share bears, where so much is of use."""
    return cost * np.minimum(share, of_use) // np.maximum(of_use, 1)
