"""Who is where, and who must be alone: isolation of tenants by node, NVLink domain and rack."""

from collections.abc import Mapping

import numpy as np

from placement.domain.engine.site import NOBODY, NOWHERE, SEVERAL, Bools, Ints, Site
from placement.domain.engine.size import Terms

ISOLATING = ("node", "nvlink", "rack")
STRANGER = -3
"""A tenant that is nowhere yet: a question makes nobody known."""
OTHERS = "another tenant holds this part of the site"
UNKNOWN = "who must be alone is where it is known who else is near"


class Tenancy:
    """Counts the members on each node, and the parts of the site that are one tenant's.

    ``holder`` int[domain] at each level: whose the domain alone is, else ``NOBODY``. All of it by number,
    so that who may go where is a few looks at arrays, however much is let out alone.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._members: Ints = np.zeros(0, np.int64)
        # Who is on the nodes that several share; of all others the site's ``tenant`` says it.
        self._shared: dict[int, dict[int, int]] = {}
        self.holder: dict[str, Ints] = {level: np.zeros(0, np.int64) for level in ISOLATING}
        self._alone: dict[str, Ints] = {level: np.zeros(0, np.int64) for level in ISOLATING}
        self._locks, self._sized = 0, -1

    @property
    def locked(self) -> bool:
        """Whether any part of the site is one tenant's alone."""
        return self._locks > 0

    def enter(self, row: int, terms: Terms) -> None:
        """Count one member more on a node."""
        tenant = self._site.tenants.of(terms.tenant)
        self._size()
        if terms.isolation:
            domain = self._domain(terms.isolation, row)
            assert self.holder[terms.isolation][domain] in {NOBODY, tenant}, OTHERS
            self.holder[terms.isolation][domain] = tenant
            self._alone[terms.isolation][domain] += 1
            self._locks += 1
        there = int(self._site.tenant[row])
        if there in {NOBODY, tenant}:
            self._site.tenant[row] = tenant
        else:
            self._share(row, tenant, 1)
        self._members[row] += 1

    def leave(self, row: int, terms: Terms) -> None:
        """Count one member less."""
        if terms.isolation:
            domain = self._domain(terms.isolation, row)
            self._alone[terms.isolation][domain] -= 1
            self._locks -= 1
            if not self._alone[terms.isolation][domain]:
                self.holder[terms.isolation][domain] = NOBODY
        self._members[row] -= 1
        if self._site.tenant[row] == SEVERAL:
            self._unshare(row, self._site.tenants.of(terms.tenant), 1)
        elif not self._members[row]:
            self._site.tenant[row] = NOBODY

    def enter_all(self, rows: Ints, counts: Ints, terms: Terms) -> None:
        """Count so many members more on each of ``rows``, no row twice."""
        tenant = self._site.tenants.of(terms.tenant)
        self._size()
        there = self._site.tenant[rows]
        if terms.isolation:
            domains = self.at(terms.isolation)[rows]
            assert (domains != NOWHERE).all(), UNKNOWN
            holder, alone = self.holder[terms.isolation], self._alone[terms.isolation]
            whose = holder[domains]
            assert ((whose == NOBODY) | (whose == tenant)).all(), OTHERS
            holder[domains] = tenant
            np.add.at(alone, domains, counts)
            self._locks += int(counts.sum())
        free = (there == NOBODY) | (there == tenant)
        self._site.tenant[rows[free]] = tenant
        for row, count in _pairs(rows, counts, ~free):
            self._share(row, tenant, count)
        self._members[rows] += counts

    def leave_all(self, rows: Ints, counts: Ints, terms: Terms) -> None:
        """Count so many members less on each of ``rows``, no row twice."""
        tenant = self._site.tenants.of(terms.tenant)
        if terms.isolation:
            domains = self.at(terms.isolation)[rows]
            holder, alone = self.holder[terms.isolation], self._alone[terms.isolation]
            np.subtract.at(alone, domains, counts)
            holder[domains[alone[domains] == 0]] = NOBODY
            self._locks -= int(counts.sum())
        self._members[rows] -= counts
        there = self._site.tenant[rows]
        self._site.tenant[rows[(there != SEVERAL) & (self._members[rows] == 0)]] = NOBODY
        for row, count in _pairs(rows, counts, there == SEVERAL):
            self._unshare(row, tenant, count)

    def apart(self, terms: Terms) -> Bools:
        """Return which rows such a member may go to: nobody else's alone, and its own where it must be."""
        site = self._site
        self._size()
        tenant = site.tenants.get(terms.tenant, STRANGER)
        found = np.ones(site.rows, bool)
        if self._locks:
            for level in ISOLATING:
                holder = self.holder[level]
                other = (holder != NOBODY) & (holder != tenant)
                if not other.any():
                    continue
                if level == "node":
                    found &= ~other[: site.rows]
                else:
                    # The last stands for NOWHERE: what is in no domain is nobody's alone.
                    found &= ~np.append(other, False)[site.at(level)]
        if terms.isolation:
            at = self.at(terms.isolation)
            there = site.tenant[: site.rows]
            shared = np.zeros(len(self.holder[terms.isolation]) + 1, bool)
            shared[at[(there != NOBODY) & (there != tenant)]] = True
            shared[NOWHERE] = True
            found &= ~shared[at]
        return found

    def barring(self, terms: Terms, level: str, rows: Ints) -> Ints:
        """Return the parts at a level that may bar such a member from ``rows``: another's alone, or to be its own."""
        self._size()
        parts = self.at(level)[rows]
        if level == terms.isolation:
            return parts
        # The last stands for NOWHERE: what is in no part is nobody's alone.
        holder = np.append(self.holder[level], NOBODY)[parts]
        bars: Ints = parts[
            (holder != NOBODY) & (holder != self._site.tenants.get(terms.tenant, STRANGER))
        ]
        return bars

    def at(self, level: str) -> Ints:
        """Return the domain of each row at one of the levels that tenants may be alone at."""
        return np.arange(self._site.rows) if level == "node" else self._site.at(level)

    def copy(self, site: Site) -> "Tenancy":
        """Return the same for a copy of the site."""
        found = Tenancy(site)
        found._members = self._members.copy()
        found._shared = {row: shared.copy() for row, shared in self._shared.items()}
        found.holder = {level: holder.copy() for level, holder in self.holder.items()}
        found._alone = {level: alone.copy() for level, alone in self._alone.items()}
        found._locks = self._locks
        return found

    def shadow(self, site: Site, rows: Ints, tenants: Ints, alone: Ints) -> "Tenancy":
        """Return who may go where if these were all members, to ask what if.

        int[member]: row, tenant, and the number of the level that it must be alone at (-1: none). Writes
        the ``tenant`` of ``site``.
        """
        shadow = Tenancy(site)
        shadow._size()
        site.tenant[:] = NOBODY
        site.tenant[rows] = tenants
        site.tenant[rows[site.tenant[rows] != tenants]] = SEVERAL
        for number, level in enumerate(ISOLATING):
            those = alone == number
            shadow.holder[level][self.at(level)[rows[those]]] = tenants[those]
        shadow._locks = int(np.count_nonzero(alone >= 0))
        return shadow

    def tied(self, row: int, place: Mapping[str, str]) -> bool:
        """Whether a node that is put elsewhere would take members into, or out of, one tenant's part."""
        if row >= len(self._members) or not self._members[row]:
            return False
        for level in ISOLATING[1:]:
            before = int(self.at(level)[row])
            after = self._site.domains[level].get(place.get(level, ""), NOWHERE)
            # A part that was only named, by a cap, is nobody's yet.
            held = (one for one in (before, after) if 0 <= one < len(self.holder[level]))
            if before != after and any(self.holder[level][one] != NOBODY for one in held):
                return True
        return False

    def _share(self, row: int, tenant: int, count: int) -> None:
        if row not in self._shared:
            self._shared[row] = {int(self._site.tenant[row]): int(self._members[row])}
            self._site.tenant[row] = SEVERAL
        self._shared[row][tenant] = self._shared[row].get(tenant, 0) + count

    def _unshare(self, row: int, tenant: int, count: int) -> None:
        shared = self._shared[row]
        shared[tenant] -= count
        if not shared[tenant]:
            del shared[tenant]
        if len(shared) == 1:
            self._site.tenant[row] = next(iter(shared))
            del self._shared[row]

    def _domain(self, level: str, row: int) -> int:
        found = row if level == "node" else int(self._site.at(level)[row])
        assert found != NOWHERE, UNKNOWN
        return found

    def _size(self) -> None:
        """Have room for nodes and domains that were added."""
        if self._sized == self._site.puts:
            return
        self._sized = self._site.puts
        rows = self._site.rows
        if len(self._members) < rows:
            self._members = _longer(self._members, rows, 0)
        for level in ISOLATING:
            domains = rows if level == "node" else len(self._site.domains[level])
            if len(self.holder[level]) < domains:
                self.holder[level] = _longer(self.holder[level], domains, NOBODY)
                self._alone[level] = _longer(self._alone[level], domains, 0)


def _longer(column: Ints, length: int, empty: int) -> Ints:
    found = np.full(length, empty, np.int64)
    found[: len(column)] = column
    return found


def _pairs(rows: Ints, counts: Ints, where: Bools) -> list[tuple[int, int]]:
    return list(zip(rows[where].tolist(), counts[where].tolist(), strict=True)) if where.any() else []
