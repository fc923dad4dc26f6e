"""Bodies of requests under ``/api/v1``: what may be said, and nothing else."""

import msgspec
from mesh_contracts.metering import Period, ScopeKind
from mesh_contracts.placement import Engine, Model, Replicas, Residency, Resources, Routing
from mesh_contracts.units import MoneyMicroeur, Name, Text, Time


class NewOrganization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A customer to be."""

    name: Name


class NewProject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project of an organization (its name or id)."""

    organization: str
    name: Name


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key: of a project (its id, its name, or ``organization/name``), or an admin's."""

    name: Name
    project: Text | None = None
    role: str = "project"
    expires_at: Time | None = None


class NewJoinToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many nodes may join with a token, and for how long."""

    uses: int = 1
    lifetime_s: int = 900


class NewEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model to be served under ``name``; without a ``project``, in that of the caller's key."""

    name: Name
    model: Model
    project: Text | None = None
    engine: Engine = msgspec.field(default_factory=Engine)
    replicas: Replicas = msgspec.field(default_factory=Replicas)
    resources: Resources = msgspec.field(default_factory=Resources)
    residency: Residency = msgspec.field(default_factory=Residency)
    routing: Routing = msgspec.field(default_factory=Routing)


class EndpointChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other bounds or another routing; what is named is replaced whole, what is not stays."""

    replicas: Replicas | None = None
    routing: Routing | None = None


class Bounded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a budget or a limit is for; a project or an organization also by its name."""

    kind: ScopeKind
    id: Text


class NewBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a scope may spend in a UTC day or month, or in all; a hard one refuses beyond it."""

    scope: Bounded
    amount_microeur: MoneyMicroeur
    period: Period = "month"
    hard: bool = True
    warn_percent: int = 80


class NewLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a scope may ask for in a minute, and at once; what is left out is unlimited."""

    scope: Bounded
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None


class Cordon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a node is to take no more work."""

    reason: Text = "an operator's wish"


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object."""
