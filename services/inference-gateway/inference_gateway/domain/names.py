"""What the names of one project lead to: endpoints, aliases with weights, LoRAs, fallbacks."""

from bisect import bisect_right
from hashlib import blake2b
from itertools import accumulate

import msgspec
from mesh_contracts.placement import Route

GONE = ("stopping", "stopped")
LORA_WEIGHT = 100
"""What an endpoint weighs where several have one LoRA; as much as an alias by default."""


class Way(msgspec.Struct, frozen=True):
    """One endpoint a request may be sent to, and what it is asked for there.

    ``lora`` is the adapter the name means, ``asked_as`` the client's name where it is not the
    endpoint's own, ``canary`` whether a draw among several led here, ``fallback`` whether it is
    asked only where no replica of the first way answers.
    """

    route: Route
    lora: str | None = None
    asked_as: str | None = None
    canary: bool = False
    fallback: bool = False


class _Lot(msgspec.Struct, frozen=True):
    """The endpoints that share a name which is no endpoint's own; ``upto`` sums their weights."""

    routes: list[Route]
    upto: list[int]
    lora: bool


class Names:
    """The names of one project. What follows from its endpoints is worked out when first asked for."""

    def __init__(self) -> None:
        self._own: dict[str, Route] = {}
        self._lots: dict[str, _Lot] | None = None
        self._plain: dict[str, tuple[Way, ...]] = {}

    @property
    def empty(self) -> bool:
        """Whether there is no endpoint left."""
        return not self._own

    def put(self, route: Route) -> None:
        """Let an endpoint's own name mean ``route``."""
        self._own[route.name] = route
        self._changed()

    def drop(self, name: str) -> None:
        """Forget an endpoint's own name."""
        del self._own[name]
        self._changed()

    def listed(self) -> list[Route]:
        """Return the routes by name, without those on their way out."""
        return [self._own[name] for name in sorted(self._own) if live(self._own[name])]

    def called(self) -> list[tuple[str, Route]]:
        """Return every name that can be asked for, with a route it leads to, by name."""
        lots = self._drawn()
        found = {name: lot.routes[0] for name, lot in lots.items()}
        found |= {route.name: route for route in self.listed()}
        return sorted(found.items())

    def ways(self, name: str, session: str | None, chance: float) -> tuple[Way, ...]:
        """Return where ``name`` leads, then the fallbacks; each endpoint once."""
        known = self._plain.get(name)
        if known is not None:
            return known
        first = self._first(name, session, chance)
        if first is None:
            return ()
        ways = [first, *self._fallbacks(first, session, chance)]
        if not any(way.canary for way in ways):
            # Only names that lead somewhere are kept, so there are no more of them than were told.
            self._plain[name] = tuple(ways)
        return tuple(ways)

    def _changed(self) -> None:
        self._lots = None
        self._plain.clear()

    def _first(self, name: str, session: str | None, chance: float) -> Way | None:
        own = self._own.get(name)
        lot = self._drawn().get(name)
        if own is not None and (lot is None or live(own)):
            return Way(own)
        if lot is None:
            return None
        drawn = lot.routes[_draw(lot.upto, name, session, chance)]
        return Way(drawn, name if lot.lora else None, name, canary=len(lot.routes) > 1)

    def _fallbacks(self, first: Way, session: str | None, chance: float) -> list[Way]:
        seen = {first.route.endpoint_id}
        found = []
        for name in first.route.routing.fallbacks:
            way = self._first(name, session, chance)
            if way is None or not live(way.route) or way.route.endpoint_id in seen:
                continue
            if way.route.embedding == first.route.embedding:
                seen.add(way.route.endpoint_id)
                asked_as = first.asked_as or first.route.name
                found.append(Way(way.route, way.lora, asked_as, way.canary, fallback=True))
        return found

    def _drawn(self) -> dict[str, _Lot]:
        if self._lots is None:
            shares: dict[str, list[tuple[Route, int]]] = {}
            loras: dict[str, list[tuple[Route, int]]] = {}
            for route in sorted(self.listed(), key=lambda route: (route.created_at, route.endpoint_id)):
                for alias in route.routing.aliases:
                    if alias.weight:
                        shares.setdefault(alias.name, []).append((route, alias.weight))
                for name in route.routing.loras:
                    loras.setdefault(name, []).append((route, LORA_WEIGHT))
            self._lots = {name: _lot(held, lora=True) for name, held in loras.items()}
            self._lots |= {name: _lot(held, lora=False) for name, held in shares.items()}
        return self._lots


def live(route: Route) -> bool:
    """Tell whether an endpoint is not on its way out."""
    return route.state not in GONE


def _lot(held: list[tuple[Route, int]], *, lora: bool) -> _Lot:
    """Return the draw among endpoints; those that cannot answer are no part of it while others can."""
    able = [(route, weight) for route, weight in held if route.replicas or route.wakes] or held
    return _Lot([route for route, _ in able], list(accumulate(weight for _, weight in able)), lora)


def _draw(upto: list[int], name: str, session: str | None, chance: float) -> int:
    if len(upto) == 1:
        return 0
    if session is not None:
        digest = blake2b(f"{name}\x1f{session}".encode(errors="replace"), digest_size=6).digest()
        chance = int.from_bytes(digest, "big") / 2**48
    return bisect_right(upto, int(chance * upto[-1]))
