"""Sites, what their parts may draw, and what each tenant is promised of their GPUs."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.ask import Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.placement.breaker import Breaker
from mesh_contracts.placement.nouns import Reason
from mesh_contracts.placement.shapes import PowerDomain
from mesh_contracts.units import Count, Name, Sequence, Text, Time
from mesh_contracts.units import Site as SiteName

QuotaScope = Literal["organization", "project"]
NvlinkDomains = Annotated[dict[str, Count], Meta(max_length=64)]


class Site(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A hall: what it offers to everybody, and to operators what it holds and draws.

    ``nodes``, ``leases`` and ``jobs`` count by state; ``domains`` how many parts there are of each
    level; ``planned_w`` are the watts of all nodes by plan, ``cap_w`` what the site may draw, ``breaker``
    whether failed health checks take nodes out.
    """

    id: SiteName
    jurisdictions: list[str] = []
    assurances: list[Name] = []
    gpu_models: list[str] = []
    nodes: dict[str, Count] | None = None
    leases: dict[str, Count] | None = None
    jobs: dict[str, Count] | None = None
    domains: dict[str, Count] | None = None
    gpus: Count | None = None
    gpu_milli_free: Count | None = None
    planned_w: Count | None = None
    cap_w: Count | None = None
    breaker: Breaker | None = None


class Sites(msgspec.Struct, frozen=True, kw_only=True):
    """Sites by id."""

    items: list[Site]
    next: str | None = None


class ListSites(Ask, frozen=True, kw_only=True, tag="placement.site.list"):
    """Ask for the sites this placement speaks for."""

    permission: ClassVar[str] = "site.read"
    reply: ClassVar[Any] = Sites

    page: Page = Page()


class GetSite(Ask, frozen=True, kw_only=True, tag="placement.site.get"):
    """Ask for this site."""

    permission: ClassVar[str] = "site.read"
    reply: ClassVar[Any] = Site


class PowerCap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a part of a site may draw (null: the cap was lifted), and draws by plan.

    ``room_w`` is what is left below the cap; less than nothing where it was lowered below the plan.
    """

    id: str
    site: SiteName
    level: PowerDomain
    domain: Name
    watts: Count | None
    planned_w: Count
    generation: Sequence
    since: Time
    room_w: int | None = None
    reasons: list[Reason] = []


class PowerCaps(msgspec.Struct, frozen=True, kw_only=True):
    """Power caps by level and domain."""

    items: list[PowerCap]
    next: str | None = None


class SetCap(Ask, frozen=True, kw_only=True, tag="placement.cap.set"):
    """Wish that a part of the site draws at most so many watts (null: lift its cap).

    ``generation`` as in a change. The domain of level ``site`` is the site's own name.
    """

    permission: ClassVar[str] = "cap.write"
    reply: ClassVar[Any] = PowerCap
    changes: ClassVar[bool] = True

    level: PowerDomain
    domain: Name
    watts: Count | None
    generation: Sequence | None = None


class ListCaps(Ask, frozen=True, kw_only=True, tag="placement.cap.list"):
    """Ask for the site's power caps."""

    permission: ClassVar[str] = "cap.read"
    reply: ClassVar[Any] = PowerCaps

    page: Page = Page()


class CapChanged(Fact, frozen=True, kw_only=True, tag="placement.cap.changed/1"):
    """A part of the site may draw so many watts from now on (null: as many as it likes)."""

    cap_id: str
    level: PowerDomain
    domain: Name
    watts: Count | None
    planned_w: Count


class Quota(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a scope is promised at this site, and how much of it is in use.

    ``gpus``, and among them ``nvlink_domains`` (whole ones, by the GPU model in them), are its guaranteed
    share; what others leave is lent by ``weight`` (0: nothing is), up to ``gpus_max`` in all (null: no
    bound). A project's share is taken from its organization's.
    """

    id: str
    scope_kind: QuotaScope
    scope_id: str
    gpus: Count
    nvlink_domains: dict[str, Count] = {}
    weight: Count
    gpus_max: Count | None
    used_gpu_milli: Count
    generation: Sequence


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """Quotas by scope."""

    items: list[Quota]
    next: str | None = None


class SetQuota(Ask, frozen=True, kw_only=True, tag="placement.quota.set"):
    """Wish for another share of a scope, instead of the one it has; ``generation`` as in a change."""

    permission: ClassVar[str] = "quota.write"
    reply: ClassVar[Any] = Quota
    changes: ClassVar[bool] = True

    scope_kind: QuotaScope
    scope: Text
    gpus: Count = 0
    nvlink_domains: NvlinkDomains = msgspec.field(default_factory=dict)
    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 100
    gpus_max: Count | None = None
    generation: Sequence | None = None


class ListQuotas(Ask, frozen=True, kw_only=True, tag="placement.quota.list"):
    """Ask for the quotas of what the principal sees."""

    permission: ClassVar[str] = "quota.read"
    reply: ClassVar[Any] = Quotas

    page: Page = Page()


class QuotaChanged(Fact, frozen=True, kw_only=True, tag="placement.quota.changed/1"):
    """A scope's share is another from now on. The key is the quota's id."""

    per_tenant: ClassVar[bool] = True

    quota_id: str
    scope_kind: QuotaScope
    scope_id: str
    gpus: Count
    weight: Count
    nvlink_domains: dict[str, Count] = msgspec.field(default_factory=dict)
    gpus_max: Count | None = None
