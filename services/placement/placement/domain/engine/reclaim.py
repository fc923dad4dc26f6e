"""Who gives way: what is borrowed to who is guaranteed it, and what is of a lower class to what is of a higher."""

from placement.domain.engine.admission import Admission, bits
from placement.domain.engine.holding import Holding, Seated
from placement.domain.engine.preempt import May, plan
from placement.domain.engine.queue import rank_of
from placement.domain.engine.quota import Granted
from placement.domain.engine.site import Bools
from placement.domain.engine.wish import Wish


def reclaim(
    admission: Admission,
    wish: Wish,
    granted: Granted,
    *,
    kept: Bools | None,
    now: int,
    missed: bool = False,
) -> tuple[Seated, tuple[Holding, ...]] | None:
    """Have a wish sit in place of those who must give way to it; return where, and who sits no more.

    ``missed``: that it has no seats of what is free is known, and nothing but room was in the way. Nobody is counted
    or forgotten yet. ``None``: nothing has changed.
    """
    engine = admission.engine
    may = may_give_way(admission, wish, granted, kept)
    engine.barred = bits(kept, None)
    planned = plan(engine, wish, may, now, admission.soft, missed=missed)
    engine.barred = None
    if planned is None or not planned.victims:
        return None
    gone = tuple(engine.holdings[workload] for workload in planned.victims)
    assert all(may(one, now) is not None for one in gone), "only who may be preempted is"
    for one in gone:
        engine.leave(one.wish, one.parts)
    chosen = admission.find(wish, granted, kept)
    if isinstance(chosen, Seated):
        return chosen, gone
    for one in reversed(gone):
        engine.sit(one.wish, one.parts)
    return None


def may_give_way(admission: Admission, wish: Wish, granted: Granted, kept: Bools | None) -> May:
    """Return who may be preempted for a wish, and at what cost.

    If it is firm: what is borrowed, in its own project only of its own class or lower ones. In its own
    project, and in all where there are no quotas: what can be preempted and is of a lower class. Nobody
    before it has run as long as it was promised, and nobody whose seats would be of no use.
    """
    rank, firm = rank_of(wish.priority), not granted.borrowed
    shared = not admission.quota.active

    def cost(holding: Holding, now: int) -> int | None:
        other = holding.wish
        if other.reservation or now - holding.at < other.min_run_ms:
            return None
        own = (other.organization, other.project) == (wish.organization, wish.project)
        below = rank_of(other.priority) - rank
        lower = other.preemptible and below > 0 and (own or shared)
        lent = firm and holding.borrowed and (below >= 0 or not own)
        if not lower and not lent:
            return None
        if kept is not None and all(kept[part.row] for part in holding.parts):
            return None
        return other.restart_cost

    return cost
