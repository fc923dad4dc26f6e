"""The rules of gangs, said once more in plain Python: every way to seat one on a small site is tried."""

from collections import Counter
from collections.abc import Iterator
from itertools import product

from placement.domain.engine.engine import Engine
from placement.domain.engine.size import MILLI_PER_GPU, Terms
from placement.domain.engine.wish import Placed, Wish

from tests.domain.gang_world import TENANTS


def seatings(engine: Engine, wished: Wish) -> Iterator[dict[str, int]]:
    """Yield every way to seat a wish: how many members on each node."""
    nodes = list(engine.site.row_of)
    rooms = [range(room(engine, node, wished) + 1) for node in nodes]
    for counts in product(*rooms):
        seated = {node: count for node, count in zip(nodes, counts, strict=True) if count}
        if sum(counts) == wished.members and allowed(engine, wished, seated):
            yield seated


def allowed(engine: Engine, wished: Wish, seated: dict[str, int]) -> bool:
    """Return whether members may sit so, as far as they concern each other and those who are there."""
    return (
        _apart(engine, wished, seated)
        and _near(engine, wished, seated)
        and _powered(engine, wished, seated)
    )


def place(engine: Engine, node: str, level: str) -> str:
    """Return the domain of a node at a level; nothing where it is not known."""
    if level == "node":
        return node
    return engine.site.specs[engine.site.row_of[node]].place.get(
        level, "site" if level == "site" else ""
    )


def there(engine: Engine) -> Iterator[tuple[str, Wish]]:
    """Yield each member that has its seat: its node and its workload's wish."""
    for holding in engine.holdings.values():
        for part in holding.parts:
            yield engine.site.specs[part.row].node, holding.wish


def cards_left(engine: Engine, node: str) -> list[int]:
    """Return the milli left of each card of a node, counted from who sits there."""
    row = engine.site.row_of[node]
    left = [MILLI_PER_GPU] * engine.site.specs[row].gpus
    for holding in engine.holdings.values():
        for part in holding.parts:
            for card in part.cards if part.row == row else ():
                left[card] -= part.milli_each
    return left


def room(engine: Engine, node: str, wished: Wish) -> int:
    row = engine.site.row_of[node]
    spec, size = engine.site.specs[row], wished.size
    if engine.site.closed[row] or node in wished.avoid:
        return 0
    mine = [one for at, one in there(engine) if at == node]
    room = min(spec.slots - len(mine), wished.members)
    if size.cpu_milli:
        room = min(room, (spec.cpu_milli - sum(one.size.cpu_milli for one in mine)) // size.cpu_milli)
    left = cards_left(engine, node)
    if size.gpus:
        room = min(room, sum(milli == MILLI_PER_GPU for milli in left) // size.gpus)
    if size.gpu_milli:
        room = min(room, sum(milli // size.gpu_milli for milli in left))
    return room


def _apart(engine: Engine, wished: Wish, seated: dict[str, int]) -> bool:
    for node in seated:
        for at, other in there(engine):
            if other.terms.tenant == wished.terms.tenant:
                continue
            for level in {wished.terms.isolation, other.terms.isolation} - {""}:
                if place(engine, at, level) == place(engine, node, level) != "":
                    return False
        if wished.terms.isolation and not place(engine, node, wished.terms.isolation):
            return False
    return True


def _near(engine: Engine, wished: Wish, seated: dict[str, int]) -> bool:
    near = wished.near
    if near.level and near.required and wished.members > 1:
        domains = {place(engine, node, near.level) for node in seated}
        if len(domains) > 1 or "" in domains:
            return False
    if near.segment == 1 or wished.members == 1:
        return True
    segment = min(near.segment, wished.members)
    rest = wished.members % segment
    by_island: Counter[str] = Counter()
    for node, count in seated.items():
        by_island[place(engine, node, "nvlink") or f"none of {node}"] += count
    for island in by_island if rest else [""]:
        beyond = by_island - Counter({island: rest})
        lonely = [one for one in beyond if one.startswith("none of ")]
        if by_island[island] < rest or (rest > 1 and island.startswith("none of ")):
            continue
        if not lonely and all(count % segment == 0 for count in beyond.values()):
            return True
    return False


def _powered(engine: Engine, wished: Wish, seated: dict[str, int]) -> bool:
    for level, caps in engine.power._caps.items():
        for domain, code in engine.site.domains[level].items():
            inside = [node for node in engine.site.row_of if place(engine, node, level) == domain]
            if code in caps and any(node in seated for node in inside):
                watts = sum(drawn_w(engine, node, wished, seated.get(node, 0)) for node in inside)
                if watts > caps[code]:
                    return False
    return True


def drawn_w(engine: Engine, node: str, wished: Wish | None = None, more: int = 0) -> int:
    """Return what a node draws by plan, with so many members more on the cards that are awake first."""
    spec = engine.site.specs[engine.site.row_of[node]]
    left = cards_left(engine, node)
    if wished:
        left.sort()
        for _ in range(more):
            for _ in range(wished.size.cards):
                each = wished.size.milli_each
                card = next(at for at, milli in enumerate(left) if milli >= each)
                left[card] -= each
                left.sort()
    return spec.idle_w + spec.gpu_w * sum(milli < MILLI_PER_GPU for milli in left)


def segments_hold(engine: Engine, wished: Wish, nodes: list[str]) -> bool:
    """Return whether each segment, in the order of the members, shares one NVLink domain that is known."""
    segment = wished.near.segment
    for first in range(0, len(nodes), segment):
        domains = {place(engine, node, "nvlink") for node in nodes[first : first + segment]}
        if len(nodes[first : first + segment]) > 1 and (len(domains) > 1 or "" in domains):
            return False
    return True


def columns(engine: Engine) -> dict[str, object]:
    """Return all that comes and goes with members, in a form that compares."""
    site, found = engine.site, {}
    names = ("free", "idle", "whole", "most", "cpu", "memory", "slots", "taken", "tenant")
    for name in names:
        found[name] = getattr(site, name)[: site.rows].tolist()
    found["planned"] = {level: sums.tolist() for level, sums in engine.power.planned.items()}
    found["rooms"] = {level: sums.tolist() for level, sums in engine.power.rooms().items()}
    found["apart"] = [
        engine.tenancy.apart(Terms(tenant=tenant, isolation=alone)).tolist()
        for tenant in TENANTS
        for alone in ("", "node", "nvlink", "rack")
    ]
    found["groups"] = {name: dict(sorted(group.items())) for name, group in engine.groups.items()}
    return found


def seated_nodes(outcome: Placed) -> dict[str, int]:
    """Return how many members sit on each node."""
    return dict(Counter(seat.node for seat in outcome.seats))
