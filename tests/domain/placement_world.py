"""A small site as anybody would write it down, and every question about it answered by trying everything.

It shares no line with the engine: what fits is what some choice of cards makes fit, what relaxes is
what is found by going through all single changes from the smallest.
"""

from collections.abc import Iterator
from itertools import combinations

from msgspec.structs import replace
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import (
    Advanced,
    Asked,
    Capped,
    Input,
    Measured,
    Moved,
    NodePut,
    NodeTurned,
    Outcome,
    Placed,
    Released,
    Reseated,
    Seat,
    SeatsLost,
    Wish,
)

from tests.domain.placement_cuts import instances, smaller, taken

POWER = ("rack", "pdu", "row", "hall", "site")
WIDER = {"rack": ["nvlink", "node", ""], "nvlink": ["node", ""], "node": [""], "": []}
Change = tuple[tuple[str, ...], "World", Wish]
"""What it is called, the world it leads to, and the wish."""
Changes = tuple[str, int, list[Change]]
"""All changes of one kind and one amount."""


class World:
    """Nodes in the order they came, who sits where, and what each domain may draw."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeSpec] = {}
        self.closed: set[str] = set()
        self.silent: set[str] = set()
        self.caps: dict[tuple[str, str], int] = {}
        self.excess: dict[tuple[str, str], int] = {}
        self.held: dict[str, tuple[Wish, tuple[Seat, ...]]] = {}

    def hear(self, given: Input, outcome: Outcome) -> None:
        """Note what the engine was told and, of a wish, what it decided."""
        match given:
            case NodePut(spec=spec):
                self.nodes[spec.node] = spec
            case NodeTurned():
                for turned, those in ((given.closed, self.closed), (given.silent, self.silent)):
                    (those.add if turned else those.discard)(given.node)
            case Capped():
                self.caps.pop((given.level, given.domain), None)
                if given.watts is not None:
                    self.caps[given.level, given.domain] = given.watts
            case Measured(level=level, domain=domain):
                self.excess[level, domain] = max(0, given.watts - self.planned(level, domain))
            case Released():
                self.held.pop(given.workload, None)
            case Moved():
                wish, seats = self.held.pop(given.workload)
                moved = [given.to if n == given.member else seat for n, seat in enumerate(seats)]
                self.held[given.workload] = (wish, tuple(moved))
            case Asked() | SeatsLost():
                self._seat(given, outcome)

    def _seat(self, given: Asked | SeatsLost, outcome: Outcome) -> None:
        if isinstance(given, Asked):
            if isinstance(outcome, Placed):
                self.held[given.wish.workload] = (given.wish, outcome.seats)
            return
        assert isinstance(outcome, Advanced)
        wish, _ = self.held.pop(given.workload)
        for one in outcome.outcomes:
            if isinstance(one, Reseated):
                self.held[given.workload] = (wish, one.seats)

    def but(self, **fields: object) -> "World":
        """Return the same world, but for some of it."""
        other = World()
        other.__dict__ |= self.__dict__ | fields
        return other

    def without(self, workload: str) -> "World":
        return self.but(held={name: held for name, held in self.held.items() if name != workload})

    def seats(self) -> Iterator[tuple[Wish, Seat]]:
        for wish, seats in self.held.values():
            for seat in seats:
                yield wish, seat

    def free(self, node: str) -> list[int]:
        spec = self.nodes[node]
        left = [0 if card in spec.mig else 1_000 for card in range(spec.gpus)]
        for _, seat in self.seats():
            for card in seat.cards if seat.node == node else ():
                left[card] -= seat.milli_each
        return left

    def cut(self, node: str) -> dict[int, list[int]]:
        """Return the memory slices that are taken of each GPU in MIG mode."""
        here = [seat for wish, seat in self.seats() if wish.size.mig and seat.node == node]
        return taken(self.nodes[node].mig, here)

    def awake(self, node: str) -> set[int]:
        """Return the GPUs of which somebody holds a part."""
        spec, cut = self.nodes[node], self.cut(node)
        whole = {card for card, left in enumerate(self.free(node)) if left < 1_000}
        return whole - set(spec.mig) | {card for card, taken in cut.items() if taken}

    def at(self, node: str, level: str) -> str:
        """Return a node's domain at a level; empty where nobody knows it."""
        if level == "node":
            return node
        return self.nodes[node].place.get(level, "site" if level == "site" else "")

    def planned(self, level: str, domain: str) -> int:
        return sum(
            spec.idle_w + spec.gpu_w * len(self.awake(node))
            for node, spec in self.nodes.items()
            if self.at(node, level) == domain
        )

    def short(self, node: str, watts: int) -> dict[tuple[str, str], int]:
        """Return by how much each capped domain of a node would be above its cap."""
        found = {}
        for level in POWER:
            domain = self.at(node, level)
            cap = self.caps.get((level, domain)) if domain else None
            if cap is not None:
                above = self.planned(level, domain) + self.excess.get((level, domain), 0) + watts - cap
                found[level, domain] = above
        return {domain: above for domain, above in found.items() if above > 0}

    def apart(self, node: str, terms: Terms) -> bool:
        """Whether a member on a node would be as alone as it must, and disturb nobody who must be."""
        for wish, seat in self.seats():
            if wish.terms.tenant == terms.tenant:
                continue
            theirs = wish.terms.isolation
            if theirs and self.at(seat.node, theirs) == self.at(node, theirs):
                return False
            if terms.isolation and self.at(seat.node, terms.isolation) == self.at(
                node, terms.isolation
            ):
                return False
        return not terms.isolation or self.at(node, terms.isolation) != ""

    def takes(self, node: str, size: Size, terms: Terms) -> bool:
        """Whether a node takes one member."""
        spec, free = self.nodes[node], self.free(node)
        here = [wish.size for wish, seat in self.seats() if seat.node == node]
        plain = (
            node not in self.closed | self.silent
            and (not terms.jurisdictions or spec.jurisdiction in terms.jurisdictions)
            and set(terms.assurances) <= set(spec.assurances)
            and (not size.models or spec.model in size.models)
            and spec.cpu_milli - sum(one.cpu_milli for one in here) >= size.cpu_milli
            and spec.memory_mib - sum(one.memory_mib for one in here) >= size.memory_mib
            and len(here) < spec.slots
            and self.apart(node, terms)
        )
        if not plain:
            return False
        if size.mig:
            awake = self.awake(node)
            return any(
                not self.short(node, 0 if card in awake else spec.gpu_w)
                for card, _ in instances(spec.model, size.mig, self.cut(node))
            )
        for cards in combinations(range(spec.gpus), size.cards):
            if all(free[card] >= size.milli_each for card in cards):
                watts = spec.gpu_w * sum(free[card] == 1_000 for card in cards)
                if not self.short(node, watts):
                    return True
        return False

    def where(self, wish: Wish) -> list[str]:
        """Return the nodes that take one member of a wish."""
        return [node for node in self.nodes if self.takes(node, wish.size, wish.terms)]

    def seats_all(self, wish: Wish, members: int) -> bool:
        """Whether some way of seating members one after the other seats so many."""
        if not members:
            return True
        for node in self.where(wish):
            free = self.free(node)
            assert not wish.size.mig, "of instances one at a time is asked for"
            for cards in combinations(range(self.nodes[node].gpus), wish.size.cards):
                if all(free[card] >= wish.size.milli_each for card in cards):
                    seat = Seat(node, cards, wish.size.milli_each)
                    held = self.held | {f"{wish.workload}/{members}": (wish, (seat,))}
                    if self.but(held=held).seats_all(wish, members - 1):
                        return True
        return False

    def smallest(self, wish: Wish) -> tuple[str, int, set[tuple[str, ...]]] | None:
        """Return the smallest change that admits a wish of one member, and what all may be changed so."""
        for kind, amount, changes in self.changes(wish):
            names = {name for name, world, changed in changes if world.where(changed)}
            if names:
                return kind, amount, names
        return None

    def changes(self, wish: Wish) -> Iterator[Changes]:
        """Yield all single changes, the smallest first."""
        yield from self.with_a_smaller_size(wish)
        yield from self.on_easier_terms(wish)
        yield "ready", 1, [((n,), self.but(closed=self.closed - {n}), wish) for n in self.closed]
        yield "heard", 1, [((n,), self.but(silent=self.silent - {n}), wish) for n in self.silent]
        yield from self.under_a_higher_cap(wish)
        yield from self.with_mig_mode(wish)
        for workload in sorted(self.held, key=self.worth):
            yield "workload", 1, [((workload,), self.without(workload), wish)]

    def with_a_smaller_size(self, wish: Wish) -> Iterator[Changes]:
        size = wish.size

        def sized(*names: str, **fields: object) -> list[Change]:
            return [(names, self, replace(wish, size=replace(size, **fields)))]

        for less in range(1, size.cpu_milli):
            yield "cpu", less, sized(cpu_milli=size.cpu_milli - less)
        for less in range(1, size.memory_mib):
            yield "memory", less, sized(memory_mib=size.memory_mib - less)
        if size.models:
            models = dict.fromkeys(spec.model for spec in self.nodes.values() if spec.model)
            others = [sized(name, models=(*size.models, name))[0] for name in models]
            yield "gpu_model", 1, others
        if size.gpu_milli or size.gpus == 1:
            # How many shares fit changes only where so many of them pass what is left of some card.
            frees = [left for node in self.nodes for left in self.free(node)]
            shares = {left // count for left in frees for count in range(1, wish.members + 1)}
            lefts = {left for left in shares if 0 < left < size.milli}
            for left in sorted(lefts, reverse=True):
                yield "gpu_milli", size.milli - left, sized(gpus=0, gpu_milli=left)
        for less in range(1, size.gpus):
            yield "gpus", less, sized(gpus=size.gpus - less)

        if size.mig and not size.mig.startswith("9g"):
            for less, others in smaller(size.mig).items():
                yield "mig", less, [sized(other, mig=other)[0] for other in others]

    def with_mig_mode(self, wish: Wish) -> Iterator[Changes]:
        """Yield the one change that puts an idle GPU of a node in MIG mode."""
        found: list[Change] = []
        for node, spec in self.nodes.items():
            idle = [card for card, left in enumerate(self.free(node)) if left == 1_000]
            if idle and wish.size.mig:
                on = {node: replace(spec, mig=(*spec.mig, idle[0]))}
                found.append(((node,), self.but(nodes=self.nodes | on), wish))
        yield "mig_mode", 1, found

    def on_easier_terms(self, wish: Wish) -> Iterator[Changes]:
        terms = wish.terms

        def termed(*names: str, **fields: object) -> Change:
            return names, self, replace(wish, terms=replace(terms, **fields))

        for less, part in enumerate(WIDER[terms.isolation], 1):
            yield "isolation", less, [termed(*([part] if part else []), isolation=part)]
        for less in range(1, len(terms.assurances) + 1):
            stays = combinations(terms.assurances, len(terms.assurances) - less)
            gone = [(tuple(a for a in terms.assurances if a not in stay), stay) for stay in stays]
            yield "assurance", less, [termed(*names, assurances=stay) for names, stay in gone]
        if terms.jurisdictions:
            places = dict.fromkeys(
                spec.jurisdiction for spec in self.nodes.values() if spec.jurisdiction
            )
            wider = [termed(name, jurisdictions=(*terms.jurisdictions, name)) for name in places]
            yield "jurisdiction", 1, wider

    def under_a_higher_cap(self, wish: Wish) -> Iterator[Changes]:
        """Yield all raises of one cap that can matter: to what any number of cards of some node needs."""
        watts = {0} | {n.gpu_w * cards for n in self.nodes.values() for cards in range(n.gpus + 1)}
        raises = {
            (above, domain)
            for node in self.nodes
            for more in watts
            for domain, above in self.short(node, more).items()
        }
        for more in sorted({above for above, _ in raises}):
            domains = sorted(domain for above, domain in raises if above == more)
            higher = [(at, self.caps | {at: self.caps[at] + more}) for at in domains]
            yield "power", more, [(at, self.but(caps=caps), wish) for at, caps in higher]

    def worth(self, workload: str) -> tuple[int, int, int, int]:
        wish, seats = self.held[workload]
        milli = wish.size.milli * len(seats)
        return wish.priority, wish.restart_cost, milli, -list(self.held).index(workload)
