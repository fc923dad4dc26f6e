"""Who is where, and who must be alone: isolation of tenants by node, NVLink domain and rack."""

from collections import Counter

import numpy as np

from placement.domain.engine.site import NOBODY, NOWHERE, SEVERAL, Bools, Ints, Site
from placement.domain.engine.size import Terms

ISOLATING = ("node", "nvlink", "rack")


class Tenancy:
    """Counts the members of each tenant on each node, and the parts of the site that are one tenant's."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._there: dict[int, Counter[int]] = {}
        self._locks: dict[str, dict[int, list[int]]] = {level: {} for level in ISOLATING}

    @property
    def locked(self) -> bool:
        """Whether any part of the site is one tenant's alone."""
        return any(self._locks.values())

    def enter(self, row: int, terms: Terms) -> None:
        """Count one member more on a node."""
        tenant = self._site.tenants.of(terms.tenant)
        there = self._there.setdefault(row, Counter())
        there[tenant] += 1
        self._note(row, there)
        if terms.isolation:
            lock = self._locks[terms.isolation].setdefault(
                self._domain(terms.isolation, row), [tenant, 0]
            )
            assert lock[0] == tenant, "another tenant holds this part of the site"
            lock[1] += 1

    def leave(self, row: int, terms: Terms) -> None:
        """Count one member less."""
        tenant = self._site.tenants.of(terms.tenant)
        there = self._there[row]
        there[tenant] -= 1
        if not there[tenant]:
            del there[tenant]
        self._note(row, there)
        if terms.isolation:
            locks = self._locks[terms.isolation]
            lock = locks[self._domain(terms.isolation, row)]
            lock[1] -= 1
            if not lock[1]:
                del locks[self._domain(terms.isolation, row)]

    def apart(self, terms: Terms) -> Bools:
        """Return which rows such a member may go to: nobody else's alone, and its own where it must be."""
        site = self._site
        tenant = site.tenants.of(terms.tenant)
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

    def _note(self, row: int, there: Counter[int]) -> None:
        self._site.tenant[row] = (
            NOBODY if not there else next(iter(there)) if len(there) == 1 else SEVERAL
        )
