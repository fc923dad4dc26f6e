"""Metering, assembled."""

from pathlib import Path

from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.inference import UsageMetered
from mesh_contracts.metering import GetRequest, ListPrices, ListUsage
from meshkit.clock import Clock
from meshkit.service import Service

from metering import asks, handlers, store
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
    service.writes("limits", store.marks)
    return service
