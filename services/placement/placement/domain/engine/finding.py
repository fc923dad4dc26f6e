"""Where a workload is found, on a site that did not put it there."""

from collections.abc import Iterable

from placement.domain.engine.site import Part, Site
from placement.domain.engine.slices import allows
from placement.domain.engine.wish import Found, Seat


def parts_of(site: Site, seats: Iterable[Seat]) -> tuple[Part, ...]:
    """Return seats by the rows of their nodes."""
    return tuple(
        Part(site.row_of[seat.node], seat.cards, seat.milli_each, seat.slices) for seat in seats
    )


def found_parts(site: Site, given: Found) -> tuple[Part, ...]:
    """Return what its members hold. Raises ``ValueError`` where others hold it, or there is no such node."""
    parts = []
    for seat in given.seats:
        row = site.row_of.get(seat.node)
        if row is None:
            raise ValueError(f"there is no node {seat.node}")
        if any(site.free[row, card] < seat.milli_each for card in seat.cards):
            raise ValueError(f"{given.wish.workload} sits on cards of {seat.node} that others hold")
        parts.append(Part(row, seat.cards, seat.milli_each, seat.slices))
        if not allows(site, given.wish.size, parts[-1]):
            raise ValueError(
                f"{given.wish.workload} sits on an instance that {seat.node} does not have free"
            )
    return tuple(parts)
