"""Who is where, and who must be alone: isolation of tenants by node, NVLink domain and rack."""

from collections.abc import Mapping

import numpy as np

from placement.domain.engine.site import NOBODY, NOWHERE, SEVERAL, Bools, Ints, Site
from placement.domain.engine.size import Terms

ISOLATING = ("node", "nvlink", "rack")
STRANGER = -3
"""A tenant that is nowhere yet: a question makes nobody known."""


class Tenancy:
    """Counts the members of each tenant on each node, and the parts of the site that are one tenant's."""

    def __init__(self, site: Site) -> None:
        self._site = site
        # Of each row with members: how many of each tenant.
        self._there: dict[int, dict[int, int]] = {}
        # Of each part that is one tenant's: whose, and for how many members.
        self._locks: dict[str, dict[int, tuple[int, int]]] = {level: {} for level in ISOLATING}

    def copy(self, site: Site) -> "Tenancy":
        """Return the same for a copy of the site."""
        copy = Tenancy(site)
        copy._there = {row: there.copy() for row, there in self._there.items()}
        copy._locks = {level: locks.copy() for level, locks in self._locks.items()}
        return copy

    @property
    def locked(self) -> bool:
        """Whether any part of the site is one tenant's alone."""
        return any(self._locks.values())

    def enter(self, row: int, terms: Terms) -> None:
        """Count one member more on a node."""
        tenant = self._site.tenants.of(terms.tenant)
        there = self._there.setdefault(row, {})
        there[tenant] = there.get(tenant, 0) + 1
        self._note(row, there)
        if terms.isolation:
            locks, domain = self._locks[terms.isolation], self._domain(terms.isolation, row)
            holder, members = locks.get(domain, (tenant, 0))
            assert holder == tenant, "another tenant holds this part of the site"
            locks[domain] = (tenant, members + 1)

    def leave(self, row: int, terms: Terms) -> None:
        """Count one member less."""
        tenant = self._site.tenants.of(terms.tenant)
        there = self._there[row]
        there[tenant] -= 1
        if not there[tenant]:
            del there[tenant]
        if not there:
            del self._there[row]
        self._note(row, there)
        if terms.isolation:
            locks, domain = self._locks[terms.isolation], self._domain(terms.isolation, row)
            holder, members = locks[domain]
            locks[domain] = (holder, members - 1)
            if members == 1:
                del locks[domain]

    def tied(self, row: int, place: Mapping[str, str]) -> bool:
        """Whether a node that is put elsewhere would take members into, or out of, one tenant's part."""
        if row not in self._there:
            return False
        for level in ISOLATING[1:]:
            before = int(self._at(level)[row])
            after = self._site.domains[level].get(place.get(level, ""), NOWHERE)
            if before != after and self._locks[level].keys() & {before, after}:
                return True
        return False

    def apart(self, terms: Terms) -> Bools:
        """Return which rows such a member may go to: nobody else's alone, and its own where it must be."""
        site = self._site
        tenant = site.tenants.get(terms.tenant, STRANGER)
        found = np.ones(site.rows, bool)
        for level, locks in self._locks.items():
            others = [domain for domain, (holder, _) in locks.items() if holder != tenant]
            if others:
                found &= ~np.isin(self._at(level), np.array(others))
        if terms.isolation:
            at = self._at(terms.isolation)
            there = site.tenant[: site.rows]
            shared = at[(there != NOBODY) & (there != tenant)]
            found &= (at != NOWHERE) & ~np.isin(at, shared)
        return found

    def _at(self, level: str) -> Ints:
        return np.arange(self._site.rows) if level == "node" else self._site.at(level)

    def _domain(self, level: str, row: int) -> int:
        return row if level == "node" else int(self._site.at(level)[row])

    def _note(self, row: int, there: dict[int, int]) -> None:
        self._site.tenant[row] = (
            NOBODY if not there else next(iter(there)) if len(there) == 1 else SEVERAL
        )
