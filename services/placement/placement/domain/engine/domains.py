"""Guarantees of whole NVLink domains: how many are promised, how many can still be given, who may sit where.

Quota in GPUs does not promise a domain: 72 GPUs that lie in 72 domains are not one. After the cells of
HiveD (Zhao et al., OSDI 2020): a domain is *open* while nobody holds anything firm in it (what is borrowed
gives way), and *owed* are the domains that projects are promised and do not have. There must be at least
as many open ones as are owed; the rest are to *spare*, and only those may be filled with firm work of
whoever is owed none. A project has each domain where all that is firm is its own.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from placement.domain.engine.branches import Organization, Project
from placement.domain.engine.quota import Quota
from placement.domain.engine.site import NOWHERE, Bools, Ints, Part, Site
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.wish import Wish

OPEN, MIXED = -1, -2
"""Nothing firm in it; the firm work of several."""


class Domains:
    """The NVLink domains of a site by whose firm work is in them, and what is owed of each kind.

    A domain's kind is the GPU model of its first node. ``state`` int[domain]: ``OPEN``, ``MIXED`` or the
    code of the project that alone is there.
    """

    def __init__(self, site: Site, quota: Quota) -> None:
        self._site, self._quota = site, quota
        self._begin([])

    def clear(self) -> None:
        """Forget who is where, and look at the site anew."""
        self._begin(self._kinds())

    def _begin(self, kinds: list[str]) -> None:
        self.kinds, count = kinds, len(kinds)
        self._there: list[Counter[int]] = [Counter() for _ in range(count)]
        self._codes: dict[tuple[str, str], int] = {}
        self._owners: list[Project] = []
        self._alone: list[Counter[str]] = []
        self.state: Ints = np.full(count, OPEN, np.int64)
        promised = {
            kind: None for above in self._quota.organizations.values() for kind in above.domains
        }
        self._promised: dict[str, Bools] = {
            kind: np.array([one == kind for one in self.kinds], bool) for kind in promised
        }
        self.active = bool(promised)

    def take(self, other: "Domains") -> None:
        """Have it be as another is, for a copy of its site and its quotas."""
        self.kinds, self.active = other.kinds, other.active
        self.state, self._promised = other.state.copy(), other._promised  # noqa: SLF001
        self._there = [there.copy() for there in other._there]  # noqa: SLF001
        self._codes = other._codes.copy()  # noqa: SLF001
        self._alone = [alone.copy() for alone in other._alone]  # noqa: SLF001
        self._owners = [
            self._quota.project(one.organization.name, one.name)
            for one in other._owners  # noqa: SLF001
        ]

    def built(self) -> dict[str, tuple[int, int]]:
        """Return how many domains of each kind there are, and how many milli of GPU the largest has."""
        site, kinds = self._site, self._kinds()
        milli = np.zeros(len(kinds) + 1, np.int64)
        np.add.at(milli, site.at("nvlink"), site.cards[: site.rows] * MILLI_PER_GPU)
        found: dict[str, tuple[int, int]] = {}
        for domain, kind in enumerate(kinds):
            count, largest = found.get(kind, (0, 0))
            found[kind] = (count + 1, max(largest, int(milli[domain])))
        return found

    def enter(self, project: Project, parts: Iterable[Part]) -> None:
        """Count firm members."""
        for domain in self._of(parts):
            self._change(project, domain, 1)

    def leave(self, project: Project, parts: Iterable[Part]) -> None:
        """Count them no more."""
        for domain in self._of(parts):
            self._change(project, domain, -1)

    def spare(self, kind: str) -> int:
        """Return how many sound open domains there are beyond those that are owed; negative: too few."""
        return self._sound(kind) - self.owed(kind)

    def owed(self, kind: str) -> int:
        """Return how many domains of a kind are promised to somebody who does not have them."""
        return sum(self._owed(above, kind) for above in self._quota.organizations.values())

    def due(self, project: Project, kind: str) -> int:
        """Return how many more domains a project can come to have before it takes what is to spare."""
        above = project.organization
        count, before = 0, self._owed(above, kind)
        most = above.domains.get(kind, 0)
        while count < most:
            after = self._owed(above, kind, project, count + 1)
            if after == before:
                break
            count, before = count + 1, after
        return count

    def barred(self, project: Project) -> Bools | None:
        """Return the rows where one firm member more would cost a domain that is owed; ``None`` for none."""
        found: Bools | None = None
        for kind, of_kind in self._promised.items():
            if self.spare(kind) > 0:
                continue
            costs = np.zeros(len(self._owners) + 2, bool)
            costs[OPEN] = self.due(project, kind) == 0
            for code, owner in enumerate(self._owners):
                if owner is not project:
                    costs[code] = self._owed(owner.organization, kind, owner, -1) > self._owed(
                        owner.organization, kind
                    )
            rows = self._rows(costs[self.state] & of_kind)
            found = rows if found is None else found | rows
        return found

    def strict(self, project: Project) -> Bools:
        """Return the rows that firm members may not take so that any number of them costs nothing owed."""
        shut = np.zeros(len(self.state), bool)
        for kind, of_kind in self._promised.items():
            for code, owner in enumerate(self._owners):
                if owner is not project and owner.organization.domains.get(kind):
                    shut |= of_kind & (self.state == code)
            free = np.flatnonzero(of_kind & (self.state == OPEN))
            may = max(0, self.spare(kind)) + self.due(project, kind)
            # The emptiest stay open: whoever asks for many members asks for room.
            room = np.zeros(len(self.state) + 1, np.int64)
            site = self._site
            np.add.at(room, site.at("nvlink"), site.free[: site.rows].sum(1))
            order = free[np.argsort(-room[free], kind="stable")]
            shut[order[may:]] = True
        return self._rows(shut)

    def unspent(self, project: Project) -> Bools | None:
        """Return the rows of open domains of kinds that a project is owed: better not spent on less than one."""
        kinds = [of_kind for kind, of_kind in self._promised.items() if self.due(project, kind)]
        if not kinds:
            return None
        shut = np.zeros(len(self.state), bool)
        for of_kind in kinds:
            shut |= of_kind & (self.state == OPEN)
        return self._rows(shut)

    def breaks(self, project: Project, parts: Iterable[Part]) -> bool:
        """Return whether firm members there would leave fewer open domains than are owed, or fewer still."""
        parts = tuple(parts)
        kinds = {self.kinds[domain]: None for domain in self._of(parts)}
        kinds = {kind: None for kind in kinds if kind in self._promised}
        before = {kind: self.spare(kind) for kind in kinds}
        self.enter(project, parts)
        broken = any(self.spare(kind) < min(0, was) for kind, was in before.items())
        self.leave(project, parts)
        return broken

    def _kinds(self) -> list[str]:
        site = self._site
        at = site.at("nvlink")
        first = np.full(len(site.domains["nvlink"]), NOWHERE, np.int64)
        known = np.flatnonzero(at != NOWHERE)
        first[at[known][::-1]] = known[::-1]
        return [site.specs[row].model if row >= 0 else "" for row in first]

    def _owed(
        self, above: Organization, kind: str, project: Project | None = None, more: int = 0
    ) -> int:
        """Return what an organisation is owed, with ``more`` domains that ``project`` alone is in."""
        promised = above.domains.get(kind, 0)
        if not promised:
            return 0
        owed = over = own = 0
        for one in above.projects.values():
            has = self._has(one, kind) + (more if one is project else 0)
            guarantee = one.domains.get(kind, 0)
            own += guarantee
            owed += max(0, guarantee - has)
            over += max(0, has - guarantee)
        return owed + max(0, promised - own - over)

    def _has(self, project: Project, kind: str) -> int:
        code = self._codes.get((project.organization.name, project.name))
        return 0 if code is None else self._alone[code][kind]

    def _sound(self, kind: str) -> int:
        """Return how many open domains of a kind have all their nodes in service."""
        site = self._site
        broken = np.zeros(len(self.state) + 1, bool)
        out = (site.closed[: site.rows] != 0) | (site.silent[: site.rows] != 0)
        broken[site.at("nvlink")[out]] = True
        return int((self._promised[kind] & (self.state == OPEN) & ~broken[:-1]).sum())

    def _rows(self, domains: Bools) -> Bools:
        """Return which rows are in such domains; what is in none is not."""
        found: Bools = np.append(domains, False)[self._site.at("nvlink")]
        return found

    def _of(self, parts: Iterable[Part]) -> list[int]:
        at = self._site.at("nvlink")
        return [int(at[part.row]) for part in parts if at[part.row] != NOWHERE]

    def _change(self, project: Project, domain: int, sign: int) -> None:
        code = self._codes.setdefault((project.organization.name, project.name), len(self._owners))
        if code == len(self._owners):
            self._owners.append(project)
            self._alone.append(Counter())
        there, kind = self._there[domain], self.kinds[domain]
        before = int(self.state[domain])
        there[code] += sign
        assert there[code] >= 0
        if not there[code]:
            del there[code]
        after = OPEN if not there else next(iter(there)) if len(there) == 1 else MIXED
        if after != before:
            if before >= 0:
                self._alone[before][kind] -= 1
            if after >= 0:
                self._alone[after][kind] += 1
            self.state[domain] = after


def takes_domains(wish: Wish) -> bool:
    """Return whether a wish is for whole NVLink domains, or for members that share one."""
    near, terms = wish.near, wish.terms
    return near.segment > 1 or near.level == "nvlink" or terms.isolation in {"nvlink", "rack"}
