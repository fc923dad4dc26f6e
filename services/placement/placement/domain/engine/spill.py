"""Over which domains a gang goes: the one that holds it best, and of that as few NVLink domains as will do.

Everything here is counted in members, by the blocks of a ``Split``: what a domain and an NVLink domain
have in common. A gang is whole segments and a rest; each of them is in one NVLink domain.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from placement.domain.engine.site import Bools, Ints
from placement.domain.engine.topology import Split

SEGMENTS = (4, 16)
"""Segments that are usual; the last is the hardest to find room for, and so the first that is not broken."""


class Reach(msgspec.Struct, frozen=True, array_like=True):
    """One level tried: how many domains it has, how many hold all members, and what the best holds."""

    level: str
    domains: int
    holds: int
    most: int


class Area(msgspec.Struct, frozen=True, array_like=True):
    """One domain that holds all members.

    It had room for ``room``, of which ``left`` remain, and spreads them over ``islands`` NVLink domains
    (nodes, where none is known).
    """

    level: str
    domain: str
    room: int
    left: int
    islands: int


class Together(msgspec.Struct, frozen=True, array_like=True):
    """What members needed together, after each had its node.

    ``seats`` are the members that have room node by node; ``powered`` no more than caps let draw at once;
    ``reach`` the levels tried, nearest first, to the one that holds all; ``best`` the domain taken and
    ``second`` the next.
    """

    seats: int
    powered: int
    reach: tuple[Reach, ...]
    best: Area | None = None
    second: Area | None = None


class Want(NamedTuple):
    """So many members, of which each ``segment`` in a row share one NVLink domain."""

    members: int
    segment: int = 1

    @property
    def whole(self) -> int:
        """How many whole segments they are."""
        return self.members // self.segment

    @property
    def rest(self) -> int:
        """How many are left beyond whole segments; they share one NVLink domain too."""
        return self.members % self.segment


class Survey(NamedTuple):
    """What the domains of one level have room for.

    By block: ``room`` in members, ``full`` in whole segments, ``spare`` what is left for a rest beside
    them. By domain: ``most`` is how many of the gang it has room for, ``holds`` whether that is all.
    """

    split: Split
    room: Ints
    full: Ints
    spare: Ints
    most: Ints
    holds: Bools


def survey(split: Split, seats: Ints, linked: Bools, want: Want) -> Survey:
    """Return what each domain has room for; ``seats`` int[cell], ``linked`` bool[island]."""
    blocks, domains = len(split.domain), len(split.code)
    room = seats[split.cells] if split.simple else total(split.block, seats[split.cells], blocks)
    if want.segment == 1 or split.lone:
        if want.segment > 1:
            # One NVLink domain that has room for all has it for their segments, if it is known as one.
            room = np.where(linked[split.island], room, 0)
            whole = np.minimum(room // want.segment, want.whole) * want.segment
            most = whole + np.where(room - whole >= want.rest, want.rest, 0)
        else:
            most = room if split.lone else total(split.domain, room, domains)
            most = np.minimum(most, want.members)
        return Survey(split, room, room, np.zeros_like(room), most, most == want.members)
    near = linked[split.island]
    full = np.where(near, room // want.segment, 0)
    spare = np.where(near | (want.rest == 1), room - full * want.segment, 0)
    segments = total(split.domain, full, domains)
    most = np.minimum(segments, want.whole)
    if want.rest:
        largest = np.zeros(domains, np.int64)
        np.maximum.at(largest, split.domain, spare)
        beside = (segments > want.whole) | (largest >= want.rest)
        most = most * want.segment + np.where(beside, want.rest, 0)
    else:
        most *= want.segment
    return Survey(split, room, full, spare, most, most == want.members)


def largest(split: Split, seats: Ints, linked: Bools, segment: int) -> Ints:
    """Return how many members each domain has room for, in such segments and a rest of any length."""
    room = total(split.block, seats[split.cells], len(split.domain))
    if segment == 1:
        return total(split.domain, room, len(split.code))
    near = linked[split.island]
    full = np.where(near, room // segment, 0)
    rest = np.zeros(len(split.code), np.int64)
    np.maximum.at(rest, split.domain, np.where(near, room % segment, np.minimum(room, 1)))
    return total(split.domain, full, len(split.code)) * segment + rest


def total(at: Ints, counts: Ints, length: int) -> Ints:
    """Return the sum of the counts that are at each of ``length`` places."""
    # Exact: far below the 2**53 up to which a float counts.
    return np.bincount(at, counts, length).astype(np.int64)


def best_first(found: Survey, want: Want) -> Ints:
    """Return the domains that hold all, best first: over fewest NVLink domains, then with least room left.

    Where all go into one NVLink domain, first into one that has no fewer whole segments for others then. Of
    equals the lowest number.
    """
    split = found.split
    holds = np.flatnonzero(found.holds)
    if len(holds) < 2:
        return holds
    room = found.room if split.lone else total(split.domain, found.room, len(split.code))
    left = room[holds] - want.members
    if split.lone:
        costs = [(left + want.members) // segment - left // segment for segment in SEGMENTS]
        return holds[np.lexsort((left, *costs))]
    over = islands(found, want)[holds]
    return holds[np.lexsort((left, over))]


def islands(found: Survey, want: Want) -> Ints:
    """Return over how few NVLink domains each domain can take all of it (of those that hold it)."""
    split = found.split
    if split.lone:
        return np.ones(len(split.code), np.int64)
    order = np.lexsort((-found.full, split.domain))
    domain, full = split.domain[order], found.full[order]
    cum = full.cumsum()
    first = np.searchsorted(domain, np.arange(len(split.code)))
    before = (cum - full)[first]
    short = cum - before[domain] < want.whole
    over = np.bincount(domain[short], minlength=len(split.code)) + 1
    if want.rest:
        # The rest needs another where none of these has more segments than that, nor room beside them.
        last = np.minimum(first + over - 1, len(cum) - 1)
        more = cum[last] - before > want.whole
        spare = np.zeros(len(split.code), np.int64)
        within = np.arange(len(order)) - first[domain] < over[domain]
        np.maximum.at(spare, domain[within], found.spare[order][within])
        over += ~more & (spare < want.rest)
    return over


def fewest(found: Survey, domain: int, want: Want) -> tuple[Ints, Ints, int]:
    """Return which blocks of a domain take the gang, how many members each, and which has the rest.

    As few blocks as will do among those alike in room, and of these the ones with the least: what is
    left stays in one piece. The last is -1 where there is no rest.
    """
    split = found.split
    if split.lone:
        return np.array([domain]), np.array([want.members]), 0 if want.rest else -1
    begin, end = np.searchsorted(split.domain, [domain, domain + 1])
    blocks = np.arange(begin, end)
    blocks = blocks[(found.full[begin:end] > 0) | (found.spare[begin:end] > 0)]
    blocks = blocks[np.lexsort((found.room[blocks], found.full[blocks]))]
    full, spare = found.full[blocks], found.spare[blocks]
    start, count = _window(full, spare, want)
    blocks, full, spare = (one[start : start + count] for one in (blocks, full, spare))
    beyond = full.cumsum() - (full.sum() - want.whole)
    taken = np.clip(beyond, 0, full)
    members = taken * want.segment
    rest = -1
    if want.rest:
        left = found.room[blocks] - members
        fits = np.where((left >= want.rest) & ((full > 0) | (spare > 0)), left, 1 << 40)
        fits[(taken == 0) & (fits < 1 << 40)] += 1 << 30
        rest = int(fits.argmin())
        members[rest] += want.rest
    used = members > 0
    return blocks[used], members[used], -1 if rest < 0 else int(used[:rest].sum())


def _window(full: Ints, spare: Ints, want: Want) -> tuple[int, int]:
    """Return the first and the number of those, in a row, that hold all: the fewest, the least of them."""
    cum = np.concatenate(([0], full.cumsum()))
    top = full[::-1].cumsum()
    count = max(1, int(top.searchsorted(want.whole)) + 1) if want.whole else 1
    while count <= len(full):
        sums = cum[count:] - cum[:-count]
        if want.rest:
            largest = np.lib.stride_tricks.sliding_window_view(spare, count).max(1)
            does = (sums > want.whole) | ((sums == want.whole) & (largest >= want.rest))
        else:
            does = sums >= want.whole
        start = int(does.argmax())
        if does[start]:
            return start, count
        count += 1
    raise AssertionError("a domain that holds all has the blocks for it")


def spread(want: Ints, group: Ints, room: Ints) -> Ints:
    """Return how many each item takes of what its group wants, items first to last; groups stand together."""
    cum = room.cumsum()
    first = np.searchsorted(group, np.arange(len(want)))
    base = np.concatenate(([0], cum))[first]
    found: Ints = np.clip(want[group] - (cum - room - base[group]), 0, room)
    return found
