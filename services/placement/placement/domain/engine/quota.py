"""What each organisation and project is promised, what it may have beyond, and what it holds.

A tree of two levels. A project's guarantee is its own; what an organisation is guaranteed beyond the sum of
its projects' is a pool that any of them draws from. Work is *firm* (within a guarantee: nobody outside the
project may take its seats) or *borrowed* (it sits where nobody who is guaranteed the seats wants them, and
gives way when somebody does). So borrowing takes work that can be preempted. As long as nobody has a
quota, everything is firm and nothing is counted out.
"""

from collections.abc import Iterator

import msgspec

from placement.domain.engine.branches import (
    Branch,
    Charge,
    Extra,
    Kept,
    Organization,
    Project,
    kept_of,
    largest,
)
from placement.domain.engine.fair import HALF_LIFE_MS, amount
from placement.domain.engine.notice import QuotaSet, Short
from placement.domain.engine.wish import Wish


class Granted(msgspec.Struct, frozen=True, array_like=True):
    """The quota allows it: firm, or ``borrowed``. ``turns``: some of its project's own must borrow instead."""

    borrowed: bool = False
    turns: bool = False


FIRM = Granted()


class Books(msgspec.Struct, frozen=True, array_like=True):
    """All quotas, and whether there are any."""

    active: bool = False
    branches: tuple[Kept, ...] = ()


NO_EXTRA = Extra()


class Quota:
    """The tree of quotas of one site, and what is held against it."""

    def __init__(self, half_life_ms: int = HALF_LIFE_MS) -> None:
        self.half_life_ms = half_life_ms
        self.organizations: dict[str, Organization] = {}
        self.active = False

    def project(self, organization: str, project: str) -> Project:
        """Return a project, known from now on."""
        above = self.organizations.get(organization)
        if above is None:
            above = self.organizations[organization] = Organization(organization)
        found = above.projects.get(project)
        if found is None:
            found = above.projects[project] = Project(project, above)
        return found

    def projects(self) -> Iterator[Project]:
        """Return each project that is known."""
        for above in self.organizations.values():
            yield from above.projects.values()

    def set(self, given: QuotaSet) -> Branch:
        """Give a branch its quota; it must have been checked (``share.check``)."""
        project = self.project(given.organization, given.project) if given.project else None
        branch: Branch
        if project is not None:
            branch = project
        else:
            branch = self.organizations.setdefault(given.organization, Organization(given.organization))
        branch.guarantee, branch.domains = given.gpu_milli, dict(given.domains)
        branch.limit, branch.weight = given.limit_milli, given.weight
        self.active = True
        self._sum()
        return branch

    def book(self, project: Project, milli: int) -> None:
        """Keep so much more (or, negative, less) of a project's guarantee for reservations."""
        project.organization.over -= project.over
        project.booked += milli
        project.organization.over += project.over

    def take(self, other: "Quota") -> None:
        """Have it be as another is; what becomes of either does not touch the other."""
        self.active, self.half_life_ms = other.active, other.half_life_ms
        for name, above in other.organizations.items():
            copy = self.organizations[name] = Organization(name)
            copy.take(above)
            copy.over = above.over
            for one in above.projects.values():
                project = copy.projects[one.name] = Project(one.name, copy)
                project.take(one)
                project.held_by, project.booked = one.held_by.copy(), one.booked

    def books(self) -> Books:
        """Return all quotas, with what does not follow from what is held."""
        found = []
        for above in self.organizations.values():
            found.append(kept_of(above, above.name, ""))
            found += [kept_of(one, above.name, one.name) for one in above.projects.values()]
        return Books(self.active, tuple(found))

    def restore(self, books: Books) -> None:
        """Have quotas be so, with what is held counted already; branches stand in the order they had."""
        known, self.organizations = self.organizations, {}
        for kept in books.branches:
            before = known.get(kept.organization)
            if not kept.project:
                self.organizations[kept.organization] = Organization(kept.organization)
                self.organizations[kept.organization].restore(kept, before)
            else:
                held = before.projects.get(kept.project) if before else None
                self.project(kept.organization, kept.project).restore(kept, held)
        self.active = books.active
        if self.active:
            self._sum()

    def judge(
        self, wish: Wish, *, booked: int = 0, own: Extra = NO_EXTRA, above: Extra = NO_EXTRA
    ) -> Granted | Short:
        """Return on which terms a wish's project may hold it, or what its quota lacks.

        ``booked`` milli of its guarantee are kept for reservations; ``own`` and ``above`` are kept for
        others of the project and of its organisation.
        """
        if not self.active:
            return FIRM
        project = self.project(wish.organization, wish.project)
        want = amount(wish.size, wish.members).gpu
        short = self.limited(project, want, own, above)
        if short is not None:
            return short
        left = self._left(project, project.firm + own.firm, above.over - own.over, booked)
        if want <= left:
            return FIRM
        if wish.preemptible:
            if project.weight and project.organization.weight:
                return Granted(borrowed=True)
        else:
            # Its own work that can borrow gives way to work that cannot.
            left = self._left(project, project.stuck + own.stuck, above.over - own.over, booked)
            if want <= left:
                return Granted(turns=True)
        # Waiting helps only where the project itself holds, or will, what is missing.
        ever = want <= project.guarantee + project.organization.pool - booked
        return Short(
            code="weight" if wish.preemptible else "guarantee",
            name=project.name,
            have=max(0, left),
            want=want,
            ever=ever,
            holders=largest(project),
        )

    def charge(
        self, workload: str, wish: Wish, at: int, *, borrowed: bool, booked: bool = False
    ) -> None:
        """Count a workload as held; one in a reservation is counted with it."""
        project = self.project(wish.organization, wish.project)
        took = amount(wish.size, wish.members)
        charge = Charge(took, wish.priority, wish.preemptible or borrowed, borrowed, booked)
        project.held_by[workload] = charge
        self._count(project, charge, 1, at)

    def discharge(self, workload: str, wish: Wish, at: int) -> bool:
        """Count a workload as held no more; return whether that gave others of its project room."""
        project = self.project(wish.organization, wish.project)
        charge = project.held_by.pop(workload, None)
        if charge is None:
            return False
        self._count(project, charge, -1, at)
        return not charge.borrowed

    def turn(self, project: Project, workload: str, at: int, *, borrowed: bool) -> None:
        """Have what a workload holds be borrowed, or firm."""
        before = project.held_by[workload]
        self._count(project, before, -1, at)
        after = msgspec.structs.replace(before, borrowed=borrowed)
        project.held_by[workload] = after
        self._count(project, after, 1, at)

    def room(self, project: Project, booked: int) -> int:
        """Return how much more may be firm in a project; negative where too much is."""
        return self._left(project, project.firm, 0, booked)

    def bookable(self, project: Project, stuck: int, booked: int) -> int:
        """Return how much a project may book, beside what will be there still and other reservations."""
        return self._left(project, stuck, 0, booked)

    def _left(self, project: Project, firm: int, more_over: int, booked: int) -> int:
        above = project.organization
        own = project.guarantee - firm - booked
        pool = above.pool - (above.over - project.over + more_over)
        # What a project draws from the pool already is the negative part of its own.
        return own + pool if own < 0 else own + max(0, pool)

    def limited(
        self, project: Project, want: int, own: Extra = NO_EXTRA, above: Extra = NO_EXTRA
    ) -> Short | None:
        """Return which limit so much more would break: the project's, or its organisation's."""
        branch: Branch
        for branch, extra in ((project, own), (project.organization, above)):
            if branch.limit is None:
                continue
            held = branch.held + extra.held
            if held + want > branch.limit:
                return Short(
                    code="limit",
                    name=branch.name,
                    have=max(0, branch.limit - held),
                    want=want,
                    ever=want <= branch.limit,
                    holders=largest(branch),
                )
        return None

    def _sum(self) -> None:
        """Sum anew what is held: it is not summed up as long as there are no quotas."""
        for above in self.organizations.values():
            above.firm = above.stuck = above.lent = above.inside = 0
            for one in above.projects.values():
                one.firm = one.stuck = one.lent = one.inside = 0
                for charge in one.held_by.values():
                    for branch in (one, above):
                        branch.add(charge, 1)
            above.over = sum(one.over for one in above.projects.values())

    def _count(self, project: Project, charge: Charge, sign: int, at: int) -> None:
        above = project.organization
        if self.active:
            above.over -= project.over
            project.add(charge, sign)
            above.add(charge, sign)
            above.over += project.over
        for branch in (project, above):
            account = branch.beyond if charge.borrowed else branch.within
            account.charge(charge.amount, sign, at, self.half_life_ms)
