"""What members needed together, in words: for how many there is room, which domains hold all, which was taken."""

from mesh_contracts.placement import Reason

from placement.domain.engine.spill import Area, Reach, Together
from placement.domain.engine.wish import Wish

PARTS = {
    "node": ("node", "nodes"),
    "nvlink": ("NVLink domain", "NVLink domains"),
    "rack": ("rack", "racks"),
    "leaf": ("leaf", "leaves"),
    "rail": ("rail", "rails"),
    "pdu": ("PDU", "PDUs"),
    "row": ("row", "rows"),
    "hall": ("hall", "halls"),
    "site": ("site", "sites"),
    "": ("site", "sites"),
}
"""Parts of a site as people call them, one and several of them."""


def survivors_together(wish: Wish, together: Together) -> list[Reason]:
    """Return for how many members there is room, how many may draw at once, and what holds all of them."""
    found = [
        Reason(
            code="seats",
            detail=f"members there is room for, node by node, of {wish.members}",
            count=together.seats,
        )
    ]
    if together.powered < together.seats:
        detail = "members that the caps let draw at once"
        found.append(Reason(code="powered", detail=detail, count=together.powered))
    return found + [_reach(wish, reach) for reach in together.reach]


def chosen_together(together: Together) -> list[Reason]:
    """Return which domain was taken, and the next best."""
    if together.best is None:
        return []
    found = [Reason(code="chosen", detail=_area(together.best))]
    if together.second is None:
        return [*found, Reason(code="runner_up", detail="nothing else so near holds all members")]
    return [*found, Reason(code="runner_up", detail=_area(together.second))]


def refused_together(wish: Wish, together: Together) -> Reason:
    """Return what kept all members from having seats, where one alone has a node."""
    members = wish.members
    if together.seats < members:
        return Reason(
            code="not_enough_seats",
            detail=f"there is room for {together.seats} of {members} members",
            unblock="wait until other work has ended, ask for fewer members, or add nodes",
            count=together.seats,
        )
    if together.powered < members:
        return Reason(
            code="power_capped",
            detail=f"the caps let {together.powered} of {members} members draw at once",
            unblock="raise the cap, or stop other work under it",
            count=together.powered,
        )
    most = max((reach.most for reach in together.reach), default=0)
    near, words = wish.near, []
    if near.level and near.required:
        words.append(f"in one {PARTS[near.level][0]}")
    if near.segment > 1:
        words.append(f"with each {min(near.segment, members)} in a row in one NVLink domain")
    where = " and ".join(words) or "together under every cap"
    return Reason(
        code="not_near_enough",
        detail=f"{most} of {members} members have room {where}",
        unblock="prefer to be near instead of requiring it, ask for shorter segments, or wait",
        count=most,
    )


def _reach(wish: Wish, reach: Reach) -> Reason:
    parts = PARTS[reach.level][1]
    detail = f"{parts} of {reach.domains} that hold all {wish.members} members"
    if not reach.holds:
        detail += f"; the best holds {reach.most}"
    return Reason(code=f"holds_{reach.level or 'site'}", detail=detail, count=reach.holds)


def _area(area: Area) -> str:
    part = PARTS[area.level][0]
    over = "" if area.islands == 1 else f", over {area.islands} NVLink domains"
    return (
        f"{part} {area.domain}".rstrip()
        + f": room for {area.room}, of which {area.left} stay free{over}"
    )
