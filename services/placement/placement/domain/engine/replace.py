"""Members whose nodes are lost sit elsewhere: only they, where their workload goes on meanwhile, or all of it.

What stays decides how near the new seats must be: members of one segment share the NVLink domain of those of
them that are left, and all of them the domain that was required. One workload is changed whole or not at all.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import replace as but

from placement.domain.engine.choose import Choice, NoChoice
from placement.domain.engine.gang import Gang, NoGang, alike, gathers, told, want_of
from placement.domain.engine.nearest import near_enough
from placement.domain.engine.prefer import bias
from placement.domain.engine.site import NOWHERE, Bools, Ints, Part
from placement.domain.engine.topology import NEARNESS
from placement.domain.engine.wish import (
    Moved,
    Near,
    NodesLost,
    Reseated,
    Stranded,
    Told,
    Wish,
)

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine, Holding


class Step(NamedTuple):
    """Lost members that are seated at once: which, how near to each other, and where: the first that does."""

    members: list[int]
    segment: int
    zones: list[Bools]


class Mended(NamedTuple):
    """Where all members sit, once the lost ones have new seats, and why there."""

    parts: tuple[Part, ...]
    why: Told


def lost_rows(engine: "Engine", given: NodesLost) -> list[int]:
    """Return the rows of lost nodes, closed from now on.

    Raises ``ValueError``, with nothing changed, for nodes that nobody knows.
    """
    site = engine.site
    unknown = [node for node in given.nodes if node not in site.row_of]
    if unknown:
        raise ValueError(f"there is no node {unknown[0]}")
    rows = [site.row_of[node] for node in given.nodes]
    for row in rows:
        site.turn(row, closed=True, silent=bool(site.silent[row]))
    return rows


def hit(engine: "Engine", rows: list[int]) -> list["Holding"]:
    """Return who is on lost nodes, the highest priority first, then the largest."""
    lost = np.zeros(engine.site.rows, bool)
    lost[rows] = True
    found = [engine.holdings[workload] for workload in engine.ends.on(lost)]
    return sorted(found, key=lambda one: (-one.wish.priority, -one.wish.size.milli * len(one.parts)))


def replace(engine: "Engine", holding: "Holding", rows: list[int], at: int) -> Reseated | Stranded:
    """Have the members of a workload that are on lost nodes sit elsewhere, or all of it where it is not elastic.

    Where only the lost ones cannot, all of it can. The lost nodes must be closed.
    """
    gone = set(rows)
    lost = [number for number, part in enumerate(holding.parts) if part.row in gone]
    if holding.wish.elastic and len(lost) < len(holding.parts):
        mended = _lost_only(engine, holding.wish, holding, lost)
        if isinstance(mended, Mended):
            return _reseated(engine, holding, lost, mended)
    return _all_anew(engine, holding, at)


def mend(engine: "Engine", holding: "Holding", lost: list[int]) -> Reseated | Stranded:
    """Have some members of a workload sit elsewhere; where they cannot, it holds nothing any more if it is a job.

    A node that one of them was on is taken again only where no other will do.
    """
    wish, site = holding.wish, engine.site
    were = [site.specs[holding.parts[number].row].node for number in lost]
    mended = _lost_only(engine, but(wish, dislike=(*wish.dislike, *were)), holding, lost)
    if isinstance(mended, Mended):
        return _reseated(engine, holding, lost, mended)
    released = wish.kind == "job"
    if released:
        engine.unseat(wish.workload)
    return Stranded(workload=wish.workload, released=released, why=told(mended))


def _reseated(engine: "Engine", holding: "Holding", lost: list[int], mended: "Mended") -> Reseated:
    """Count a workload where its members sit by now."""
    parts, why = mended
    engine.hold(holding._replace(parts=parts))
    return Reseated(
        workload=holding.wish.workload, seats=engine.seats(parts), members=tuple(lost), why=why
    )


def moved(engine: "Engine", given: Moved) -> None:
    """Have a member sit elsewhere: it takes the new seat before it gives back the old one.

    Raises ``ValueError``, with nothing changed, where it does not fit there.
    """
    holding = engine.holdings.get(given.workload)
    row = engine.site.row_of.get(given.to.node)
    if holding is None or row is None or not 0 <= given.member < len(holding.parts):
        raise ValueError(
            f"{given.workload} has no member {given.member}, or there is no {given.to.node}"
        )
    part = Part(row, given.to.cards, given.to.milli_each, given.to.slices)
    with engine.turns.keeping(holding):
        takes = engine.chooser.takes(holding.wish.size, holding.wish.terms, part)
        if not takes or given.to.node in holding.wish.avoid:
            raise ValueError(f"{given.workload} does not fit on {given.to.node}")
    parts = (*holding.parts[: given.member], part, *holding.parts[given.member + 1 :])
    if not near_enough(engine.site, alike(holding.wish).near, [one.row for one in parts]):
        raise ValueError(
            f"{given.workload} would not be as near to itself on {given.to.node} as it must"
        )
    engine.seating.sit(holding.wish, part)
    engine.seating.stand(holding.wish, holding.parts[given.member])
    engine.hold(holding._replace(parts=parts))


def _all_anew(engine: "Engine", holding: "Holding", at: int) -> Reseated | Stranded:
    """Have all of a workload sit elsewhere; else it ends if it is a job, or stays as it is."""
    wish = holding.wish
    with ExitStack() as undo:
        _lift(engine, undo, wish, holding.parts)
        parts, last = engine.choose(wish)
        if isinstance(last, Choice | Gang):
            undo.pop_all()
            engine.turns.admission.restart(holding, tuple(parts), at)
            return Reseated(
                workload=wish.workload,
                seats=engine.seats(tuple(parts)),
                members=tuple(range(len(parts))),
                why=told(last),
            )
        engine.leave(wish, parts)
        if wish.kind == "job":
            undo.pop_all()
            engine.forget(wish.workload)
    return Stranded(workload=wish.workload, released=wish.kind == "job", why=told(last))


def _lost_only(
    engine: "Engine", wish: Wish, holding: "Holding", lost: list[int]
) -> Mended | NoChoice | NoGang:
    """Seat the lost members elsewhere by ``wish``, near enough to those that are left; else nothing has changed."""
    parts = list(holding.parts)
    left = np.array([part.row for number, part in enumerate(parts) if number not in set(lost)])
    last: Choice | Gang | None = None
    with ExitStack() as undo:
        _lift(engine, undo, wish, [parts[number] for number in lost])
        for step in _steps(engine, wish, parts, lost, left):
            seated, found = _seat(engine, wish, step)
            if isinstance(found, NoChoice | NoGang):
                return found
            last = found
            undo.callback(engine.leave, wish, seated)
            for number, part in zip(step.members, seated, strict=True):
                parts[number] = part
        undo.pop_all()
    assert last is not None
    return Mended(tuple(parts), told(last))


def _seat(
    engine: "Engine", wish: Wish, step: Step
) -> tuple[Sequence[Part], Choice | Gang | NoChoice | NoGang]:
    """Seat some members in the first zone that does; nobody where none does."""
    less = but(wish, members=len(step.members), near=Near(segment=step.segment))
    if not gathers(wish):
        parts, last = engine.choose(but(less, near=Near()))
        if isinstance(last, Choice | Gang):
            return parts, last
        engine.leave(less, parts)
        return (), last
    dislikes = bias(engine.site, wish, engine.groups.get(wish.group))
    gang: Gang | NoGang | None = None
    for zone in step.zones:
        gang = engine.gangs.seat(less, bias=dislikes, only=zone)
        if not isinstance(gang, NoGang):
            engine.seating.enter(less, gang.seats)
            return gang.seats.parts(), gang
    assert gang is not None, "there is a zone, if only the whole site"
    return (), gang


def _steps(
    engine: "Engine", wish: Wish, parts: list[Part], lost: list[int], left: Ints
) -> Iterator[Step]:
    """Yield the lost members that are seated at once: those tied to a domain first, then whole segments."""
    zones: list[Bools] = []
    if gathers(wish):
        zones = list(_zones(engine, wish, left))
    segment = want_of(wish).segment
    if segment == 1:
        yield Step(lost, 1, zones)
        return
    nvlink = engine.site.at("nvlink")
    free: list[list[int]] = []
    for first in range(0, len(parts), segment):
        members = range(first, min(first + segment, len(parts)))
        here = [number for number in members if number in set(lost)]
        stay = [number for number in members if number not in set(lost)]
        if not stay:
            free.append(here)
        elif here:
            yield Step(here, len(here), [nvlink == nvlink[parts[stay[0]].row]])
    for here in free:
        yield Step(here, len(here), zones)


def _zones(engine: "Engine", wish: Wish, left: Ints) -> Iterator[Bools]:
    """Yield parts of the site that those who are left share, nearest first, as far as may be."""
    site, near = engine.site, wish.near
    base = np.ones(site.rows, bool)
    if near.required and near.level:
        at = site.every if near.level == "node" else site.at(near.level)
        base = at == at[left[0]]
    known: Bools | None = None
    for level in NEARNESS[1:]:
        at = site.at(level)
        if (at[left] == at[left[0]]).all() and at[left[0]] != NOWHERE:
            zone = base & (at == at[left[0]])
            if known is None or not np.array_equal(zone, known):
                yield zone
            known = zone
    if known is None or not np.array_equal(base, known):
        yield base


def _lift(engine: "Engine", undo: ExitStack, wish: Wish, parts: Sequence[Part]) -> None:
    """Have members sit there no more until ``undo`` puts them back."""
    engine.leave(wish, parts)
    undo.callback(engine.sit, wish, parts)
