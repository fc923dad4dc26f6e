"""What the parts of a site draw by plan: each server's idle watts, and those of each GPU that somebody holds."""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from mesh_contracts.placement import PowerDomain, Reason

from placement.domain.fleet import MILLI_PER_GPU, Server

POWER: tuple[str, ...] = get_args(PowerDomain)
SITE = "site"


def planned(server: Server) -> int:
    """Return what a server draws by plan."""
    taken = sum(card.free_milli < MILLI_PER_GPU for card in server.cards)
    return server.idle_w + taken * server.gpu_w


def by_domain(fleet: Sequence[Server]) -> Counter[tuple[str, str]]:
    """Return what each part of a site draws by plan, by level and name."""
    sums: Counter[tuple[str, str]] = Counter()
    for server in fleet:
        watts = planned(server)
        for level, name in ((SITE, server.site), *server.place.items()):
            if level in POWER:
                sums[level, name] += watts
    return sums


def known(level: str, domain: str, fleet: Sequence[Server]) -> bool:
    """Tell whether a part of the site has any server in it."""
    return (level, domain) in by_domain(fleet)


def over(watts: int | None, plan: int) -> tuple[Reason, ...]:
    """Return why a part of a site draws more by plan than it may; nothing where it does not."""
    if watts is None or plan <= watts:
        return ()
    return (
        Reason(
            code="above_cap",
            detail=f"{plan} W by plan, {plan - watts} W above the cap: nothing more is placed there",
            unblock="raise the cap, or end work there",
            count=plan - watts,
        ),
    )
