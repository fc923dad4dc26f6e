"""What each gateway holds of budgets, and how an operator frees what one holds that will not come back."""

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from mesh_contracts.ask import Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.units import Count, MoneyMicroeur, Sequence, Time

RELEASED_MAX = 500
"""Parts that are freed at one time; what one gateway holds beyond that takes another ask."""


class Holding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What one gateway holds of all budgets together: it was lent that, and no line of the ledger accounts for it.

    ``id`` is its producer's, ``epoch`` the newest start of it that asked for leases. Past ``lives_until``
    it spends nothing any more.
    """

    id: str
    epoch: Sequence
    lives_until: Time
    scopes: Count
    held_microeur: MoneyMicroeur


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """Gateways that hold anything, by id."""

    items: list[Holding]
    next: str | None = None


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """One part of what was freed."""

    scope_id: str
    period_start: Time
    epoch: Sequence
    amount_microeur: MoneyMicroeur


class ListHoldings(Ask, frozen=True, kw_only=True, tag="metering.holding.list"):
    """Ask which gateways hold what, the dead ones among them."""

    permission: ClassVar[str] = "holding.read"
    reply: ClassVar[Any] = Holdings

    page: Page = Page()


class ReleaseHolding(Ask, frozen=True, kw_only=True, tag="metering.holding.release"):
    """Wish that what a gateway holds is free again, since its journal is lost. Answered with what it held.

    Should that journal come back after all, its lines are charged as ever, and may pass a hard budget by
    what was freed.
    """

    permission: ClassVar[str] = "holding.write"
    reply: ClassVar[Any] = Holding
    changes: ClassVar[bool] = True

    producer: str


class HoldingReleased(Fact, frozen=True, kw_only=True, tag="metering.holding.released/1"):
    """An operator (the actor) has freed what a gateway held. The key is its producer's id.

    Epochs of it below ``epoch`` hold nothing any more.
    """

    producer: str
    epoch: Sequence
    released: Annotated[list[Released], Meta(max_length=RELEASED_MAX)]
