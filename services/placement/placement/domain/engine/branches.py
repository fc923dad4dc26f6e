"""The branches of the tree of quotas: what is known of one organisation and of one project."""

import msgspec

from placement.domain.engine.fair import Account, Amount

HOLDERS_MAX = 3
"""So many of those who hold what is missing are named."""


class Charge(msgspec.Struct, frozen=True, array_like=True):
    """What one workload holds of its project's quota."""

    amount: Amount
    priority: int
    preemptible: bool
    borrowed: bool
    booked: bool = False


class Branch:
    """One organisation or project: its quota, and what it holds in milli of GPU.

    ``stuck`` is the part of ``firm`` that cannot be preempted; ``inside`` is what sits in reservations: no guarantee
    counts it twice, and every limit counts it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.guarantee, self.weight = 0, 1
        self.limit: int | None = None
        self.domains: dict[str, int] = {}
        self.firm = self.stuck = self.lent = self.inside = 0
        self.within, self.beyond = Account(), Account()

    @property
    def held(self) -> int:
        """What it holds in all."""
        return self.firm + self.lent + self.inside

    def take(self, other: "Branch") -> None:
        """Have it be as another is; what becomes of either does not touch the other."""
        self.guarantee, self.weight, self.limit = other.guarantee, other.weight, other.limit
        self.domains = other.domains.copy()
        self.firm, self.stuck = other.firm, other.stuck
        self.lent, self.inside = other.lent, other.inside
        self.within, self.beyond = other.within.copy(), other.beyond.copy()

    def restore(self, kept: "Kept", counted: "Branch | None") -> None:
        """Have it be as was kept, with what it holds as it was counted."""
        if counted is not None:
            self.within, self.beyond = counted.within, counted.beyond
        self.guarantee, self.domains = kept.guarantee, dict(kept.domains)
        self.limit, self.weight = kept.limit, kept.weight
        (self.within.at, self.within.means), (self.beyond.at, self.beyond.means) = (
            kept.within,
            kept.beyond,
        )

    def add(self, charge: Charge, sign: int) -> None:
        """Count a charge more (``sign`` 1) or less (-1); what is in a reservation is guaranteed with that."""
        milli = sign * charge.amount.gpu
        if charge.booked:
            self.inside += milli
        elif charge.borrowed:
            self.lent += milli
        else:
            self.firm += milli
            self.stuck += 0 if charge.preemptible else milli


class Project(Branch):
    """One project: its branch, and what each of its workloads holds, in the order they got it."""

    def __init__(self, name: str, organization: "Organization") -> None:
        super().__init__(name)
        self.organization = organization
        self.held_by: dict[str, Charge] = {}
        self.booked = 0
        """What its reservations keep, those to come too."""

    def restore(self, kept: "Kept", counted: Branch | None) -> None:
        """Have it be as was kept, with what it holds as it was counted."""
        super().restore(kept, counted)
        if isinstance(counted, Project):
            self.held_by = counted.held_by

    @property
    def over(self) -> int:
        """What it draws from its organisation's pool."""
        return max(0, self.firm + self.booked - self.guarantee)


class Organization(Branch):
    """One organisation: its branch and its projects. ``over`` is what they draw from the pool together."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.projects: dict[str, Project] = {}
        self.over = 0

    @property
    def pool(self) -> int:
        """What it is guaranteed beyond its projects' guarantees."""
        return self.guarantee - sum(one.guarantee for one in self.projects.values())


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A branch's quota, and the means of what it held: firm and borrowed, each up to a moment."""

    organization: str
    project: str = ""
    guarantee: int = 0
    domains: dict[str, int] = {}
    limit: int | None = None
    weight: int = 1
    within: tuple[int, tuple[int, int, int]] = (0, (0, 0, 0))
    beyond: tuple[int, tuple[int, int, int]] = (0, (0, 0, 0))


class Extra:
    """What of a branch's quota is kept for those who have their turn before somebody, in milli of GPU."""

    __slots__ = ("firm", "held", "over", "stuck")

    def __init__(self) -> None:
        self.firm = self.stuck = self.over = self.held = 0


def kept_of(branch: Branch, organization: str, project: str) -> Kept:
    """Return what is to be kept of a branch that does not follow from what is held."""
    within, beyond = branch.within, branch.beyond
    return Kept(
        organization=organization,
        project=project,
        guarantee=branch.guarantee,
        domains=dict(branch.domains),
        limit=branch.limit,
        weight=branch.weight,
        within=(within.at, within.means),
        beyond=(beyond.at, beyond.means),
    )


def largest(branch: Branch) -> tuple[tuple[str, int], ...]:
    """Return who holds most in a branch, by name and milli: workloads of a project, an organisation's projects."""
    if isinstance(branch, Organization):
        held = [(one.name, one.held) for one in branch.projects.values()]
    elif isinstance(branch, Project):
        held = [(name, one.amount.gpu) for name, one in branch.held_by.items()]
    else:
        return ()
    some = [one for one in held if one[1]]
    return tuple(sorted(some, key=lambda one: (-one[1], one[0]))[:HOLDERS_MAX])
