"""Metering, assembled."""

from pathlib import Path

from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.inference import UsageMetered
from mesh_contracts.metering import (
    DeleteBudget,
    DeleteLimit,
    GetRequest,
    ListBudgets,
    ListHoldings,
    ListLimits,
    ListPrices,
    ListUsage,
    ReleaseHolding,
    RenewLeases,
    SetBudget,
    SetLimit,
)
from meshkit.clock import Clock
from meshkit.service import Service

from metering import asks, budget_asks, crossing, handlers, holding_asks, limit_asks
from metering.renewing import renew_leases
from metering.rolling import keep_rolling
from metering.settings import MeteringSettings

MIGRATIONS = Path(__file__).parent / "migrations"


def assemble(settings: MeteringSettings, clock: Clock | None = None) -> Service:
    """Return metering, wired."""
    service = Service("metering", settings, clock=clock, migrations=MIGRATIONS)
    service.reads(ProjectAdmitted, handlers.on_project_admitted)
    service.reads(UsageMetered, handlers.on_usage_metered)
    service.answers(ListUsage, asks.list_usage)
    service.answers(ListPrices, asks.list_prices)
    service.answers(GetRequest, asks.get_request)
    service.answers(SetBudget, budget_asks.set_budget, after_puts=True)
    service.answers(ListBudgets, budget_asks.list_budgets)
    service.answers(DeleteBudget, budget_asks.delete_budget, after_puts=True)
    service.answers(SetLimit, limit_asks.set_limit, after_puts=True)
    service.answers(ListLimits, limit_asks.list_limits)
    service.answers(DeleteLimit, limit_asks.delete_limit, after_puts=True)
    service.answers(RenewLeases, renew_leases)
    service.answers(ListHoldings, holding_asks.list_holdings)
    service.answers(ReleaseHolding, holding_asks.release_holding)
    service.writes("limits", crossing.all_shown)
    service.runs("periods", lambda: keep_rolling(lambda: service.store))
    return service
