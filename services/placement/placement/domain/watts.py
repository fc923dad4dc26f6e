"""What the parts of a site draw by plan: each server's idle watts, and those of each GPU that somebody holds."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import get_args

from mesh_contracts.placement import PowerDomain, Reason

from placement.domain.fleet import Server

POWER: tuple[str, ...] = get_args(PowerDomain)
SITE = "site"


def planned(server: Server) -> int:
    """Return what a server draws by plan."""
    taken = sum(not card.idle for card in server.cards)
    return server.idle_w + taken * server.gpu_w


def by_domain(fleet: Sequence[Server]) -> Counter[tuple[str, str]]:
    """Return what each part of a site draws by plan, by level and name."""
    sums: Counter[tuple[str, str]] = Counter()
    for server in fleet:
        watts = planned(server)
        for domain in _domains(server):
            sums[domain] += watts
    return sums


def _domains(server: Server) -> list[tuple[str, str]]:
    places = ((SITE, server.site), *server.place.items())
    return [(level, name) for level, name in places if level in POWER]


def drawn_late(
    fleet: Iterable[Server], leaving: Mapping[str, Collection[str]], near: Collection[str]
) -> Counter[tuple[str, str]]:
    """Return the watts beyond the plan that each part of the site with one of the nodes ``near`` in it draws yet.

    ``leaving`` are devices, by node, of those who are to end and whose place is another's by plan already. ``fleet``
    are these nodes and those near.
    """
    sums: Counter[tuple[str, str]] = Counter()
    there: set[tuple[str, str]] = set()
    for server in fleet:
        if server.node_id in near:
            there.update(_domains(server))
        # What another has been given already draws no more than once.
        free = {card.device_id for card in server.cards if card.idle}
        drawn = len(free.intersection(leaving.get(server.node_id, ())))
        for domain in _domains(server) if drawn else ():
            sums[domain] += drawn * server.gpu_w
    return Counter({domain: drawn for domain, drawn in sums.items() if domain in there})


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
