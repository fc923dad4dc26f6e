"""Budgets and limits: what metering keeps of them, what gateways hold of them, and how they ask."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.ask import Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.metering.ledger import Price
from mesh_contracts.units import Count, MoneyMicroeur, Sequence, Time

ScopeKind = Literal["organization", "project", "key", "endpoint"]
"""What a limit may be set on; an endpoint is a model as a project calls it."""

Period = Literal["total", "day", "month"]
"""What a budget is for: all time, or a UTC day or month, by the time a request started."""

LEASES_MAX = 200
"""Scopes whose leases are renewed by one ask."""


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What a scope may spend in a period, and what it has spent.

    ``leased_microeur`` is what gateways hold and have not settled: a hard budget refuses where
    spent and leased together reach the amount. ``crossed`` is ``soft`` past ``warn_percent``,
    ``hard`` once nothing is left.
    """

    id: str
    scope_kind: ScopeKind
    scope_id: str
    amount_microeur: MoneyMicroeur
    period: Period
    hard: bool
    warn_percent: Annotated[int, Meta(ge=1, le=100)]
    spent_microeur: MoneyMicroeur
    leased_microeur: MoneyMicroeur
    crossed: Literal["none", "soft", "hard"]
    period_start: Time
    generation: Sequence


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """Budgets by scope."""

    items: list[Budget]
    next: str | None = None


class Limit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What a scope may ask for in a minute, and at once; absent is unlimited."""

    id: str
    scope_kind: ScopeKind
    scope_id: str
    requests_per_minute: Count | None
    tokens_per_minute: Count | None
    parallel_requests: Count | None
    generation: Sequence


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits by scope."""

    items: list[Limit]
    next: str | None = None


class Ceiling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bucket ``limits``, key ``ceiling.<scope id>``: what bounds a scope. Leases say what is left.

    ``hard`` tells whether there is a hard budget, ``crossed`` how far its spend has come.
    ``generation`` rises with each change of the limit or the budget.
    """

    scope_id: str
    scope_kind: ScopeKind
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    parallel_requests: Count | None = None
    budget_microeur: MoneyMicroeur | None = None
    period: Period = "total"
    hard: bool = False
    crossed: Literal["none", "soft", "hard"] = "none"
    generation: Sequence = 0


class LeaseWish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a gateway wishes of one scope, and how much it was asked for lately (0 where idle).

    Money is counted from the beginning of the epoch and the period that ``period_start`` names (the
    last reply's; absent at first): ``returned_microeur`` is what was given back unused, in all.
    ``wanted_microeur`` is what it wishes to hold beyond what it holds. ``parallel_active`` are requests
    in progress as it asks: their places are lent to nobody else.
    """

    scope_id: str
    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    parallel: Count = 0
    parallel_active: Count = 0
    wanted_microeur: Count = 0
    returned_microeur: Count = 0
    period_start: Time | None = None


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One gateway's share of one scope's ceiling, until ``lease_ms`` after it was asked for.

    Shares of all gateways add up to the ceiling at most. ``granted_microeur`` is what this epoch
    was granted in this period in all: of it the gateway may still spend what it neither returned,
    nor settled, nor reserved. Metering counts a grant as spent until it is returned or its requests'
    lines stand in the ledger, also when the gateway dies; ``left_microeur`` is what nobody holds.
    """

    scope_id: str
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    parallel_requests: Count | None = None
    granted_microeur: Count | None = None
    left_microeur: Count | None = None
    period_start: Time | None = None
    period_end: Time | None = None


class Leases(msgspec.Struct, frozen=True, kw_only=True):
    """The leases asked for (a scope without a ceiling is left out), and the price book as it is now."""

    items: list[Lease]
    lease_ms: Count
    gateways: Count
    """Gateways that hold leases now, this one included."""
    prices: list[Price]


class RenewLeases(Ask, frozen=True, kw_only=True, tag="metering.lease.renew"):
    """A gateway's wish for its shares, ahead of need. Asking again changes nothing but time.

    ``producer`` and ``epoch`` are those of its journal. ``settled_below`` says that all requests
    of epochs below it stand in the ledger: what those epochs still held is free again.
    """

    permission: ClassVar[str] = "lease.renew"
    reply: ClassVar[Any] = Leases

    producer: str
    epoch: Sequence
    settled_below: Sequence = 0
    wishes: Annotated[list[LeaseWish], Meta(max_length=LEASES_MAX)]


class SetBudget(Ask, frozen=True, kw_only=True, tag="metering.budget.set"):
    """Wish for a budget on a scope, instead of the one it has; ``generation`` as in a change."""

    permission: ClassVar[str] = "budget.write"
    reply: ClassVar[Any] = Budget
    changes: ClassVar[bool] = True

    scope_kind: ScopeKind
    scope: str
    amount_microeur: MoneyMicroeur
    period: Period = "month"
    hard: bool = True
    warn_percent: Annotated[int, Meta(ge=1, le=100)] = 80
    generation: Sequence | None = None


class ListBudgets(Ask, frozen=True, kw_only=True, tag="metering.budget.list"):
    """Ask for the budgets of what the principal sees."""

    permission: ClassVar[str] = "usage.read"
    reply: ClassVar[Any] = Budgets

    page: Page = Page()


class DeleteBudget(Ask, frozen=True, kw_only=True, tag="metering.budget.delete"):
    """Wish that a scope has no budget."""

    permission: ClassVar[str] = "budget.write"
    reply: ClassVar[Any] = Budget
    changes: ClassVar[bool] = True

    budget: str
    generation: Sequence | None = None


class SetLimit(Ask, frozen=True, kw_only=True, tag="metering.limit.set"):
    """Wish for limits on a scope, instead of those it has; ``generation`` as in a change."""

    permission: ClassVar[str] = "budget.write"
    reply: ClassVar[Any] = Limit
    changes: ClassVar[bool] = True

    scope_kind: ScopeKind
    scope: str
    requests_per_minute: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    tokens_per_minute: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    parallel_requests: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    generation: Sequence | None = None


class ListLimits(Ask, frozen=True, kw_only=True, tag="metering.limit.list"):
    """Ask for the limits of what the principal sees."""

    permission: ClassVar[str] = "usage.read"
    reply: ClassVar[Any] = Limits

    page: Page = Page()


class DeleteLimit(Ask, frozen=True, kw_only=True, tag="metering.limit.delete"):
    """Wish that a scope has no limits."""

    permission: ClassVar[str] = "budget.write"
    reply: ClassVar[Any] = Limit
    changes: ClassVar[bool] = True

    limit: str
    generation: Sequence | None = None


class BudgetCrossed(Fact, frozen=True, kw_only=True, tag="metering.budget.crossed/1"):
    """A scope's spend has passed its warning (``soft``) or left nothing (``hard``).

    The key is the budget's id. Told once for each period and crossing.
    """

    per_tenant: ClassVar[bool] = True

    budget_id: str
    scope_kind: ScopeKind
    scope_id: str
    crossed: Literal["soft", "hard"]
    amount_microeur: MoneyMicroeur
    spent_microeur: MoneyMicroeur
    period_start: Time
