"""All that an engine's decisions depend on, in a form that can be written down: restart from it, then go on.

Everything else (free, scores, sums of watts, who is alone) follows from it and is computed anew, so that a
snapshot cannot contradict itself. Rows and codes keep their numbers: they settle ties.
"""

import msgspec

from placement.domain.engine.counted import Codes
from placement.domain.engine.power import PowerState
from placement.domain.engine.site import LEVELS, NodeSpec, Part, Site
from placement.domain.engine.size import Size
from placement.domain.engine.turnsstate import TurnsState
from placement.domain.engine.wish import Wish


class SiteState(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes by row, the rows that are closed or silent, and every text by its code."""

    specs: list[NodeSpec]
    closed: list[int]
    silent: list[int]
    models: list[str]
    jurisdictions: list[str]
    assurances: list[str]
    tenants: list[str]
    domains: dict[str, list[str]]

    @classmethod
    def of(cls, site: Site) -> "SiteState":
        """Return a site's."""
        return cls(
            specs=site.specs.copy(),
            closed=site.closed[: site.rows].nonzero()[0].tolist(),
            silent=site.silent[: site.rows].nonzero()[0].tolist(),
            models=list(site.models),
            jurisdictions=list(site.jurisdictions),
            assurances=list(site.assurances),
            tenants=list(site.tenants),
            domains={level: list(names) for level, names in site.domains.items()},
        )

    def into(self, site: Site) -> None:
        """Have an empty site be so, with nobody on it."""
        assert not site.rows
        site.models, site.jurisdictions = _codes(self.models), _codes(self.jurisdictions)
        site.assurances, site.tenants = _codes(self.assurances), _codes(self.tenants)
        site.domains = {level: _codes(self.domains.get(level, [])) for level in LEVELS}
        for spec in self.specs:
            site.put(spec)
        site.closed[self.closed] = 1
        site.silent[self.silent] = 1


class HeldState(msgspec.Struct, frozen=True, array_like=True):
    """One workload that has its seats."""

    wish: Wish
    parts: tuple[Part, ...]
    at: int
    until: int | None = None
    borrowed: bool = False
    number: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot/1"):
    """One engine. Workloads stand in the order in which they were placed."""

    site: SiteState
    power: PowerState
    watt_weight: int = 0
    expected: list[tuple[Size, int]]
    holdings: list[HeldState]
    turns: TurnsState = TurnsState()


def _codes(texts: list[str]) -> Codes:
    return Codes((text, number) for number, text in enumerate(texts))
