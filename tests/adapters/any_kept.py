"""What all callers share: the site they ask about, and what they were answered."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mesh_contracts.ask import Principal
from mesh_contracts.placement import PowerCap, Quota


class Kept:
    """What all callers were answered, and whatever they should not have been."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self.made: dict[str, Any] = {}
        """Jobs, leases and endpoints as they were first answered, by id."""
        self.undone: set[str] = set()
        """Those that somebody asked to end, answered or not."""
        self.ended: set[str] = set()
        """Those of them of which it was answered that they do."""
        self.quotas: dict[tuple[str, str], Quota] = {}
        self.caps: dict[tuple[str, str], PowerCap] = {}

    def quota(self, answer: Quota) -> None:
        name = (answer.scope_kind, answer.scope_id)
        if name not in self.quotas or self.quotas[name].generation < answer.generation:
            self.quotas[name] = answer

    def cap(self, answer: PowerCap) -> None:
        name = (answer.level, answer.domain)
        if name not in self.caps or self.caps[name].generation < answer.generation:
            self.caps[name] = answer


class World:
    """What there is to ask about: the site's parts, who asks, and with what weight."""

    def __init__(
        self,
        nodes: Sequence[str],
        parts: Sequence[tuple[str, str, int]],
        tenants: Sequence[tuple[Principal, str]],
        organizations: Sequence[str],
        admin: Principal,
        gpus: int,
    ) -> None:
        self.nodes, self.parts, self.tenants = nodes, parts, tenants
        self.organizations, self.admin, self.gpus = organizations, admin, gpus
