"""Assembled here, and nowhere else."""

from functools import partial
from pathlib import Path

from mesh_contracts.carbon import GetReceipt, GetSigningKey, ListFactors, ListFootprints
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.metering import UsageRated
from mesh_contracts.node import EnergyMeasured, NodeJoined
from meshkit.clock import Clock, SystemClock
from meshkit.config import StoreSettings
from meshkit.service import Service

from carbon_accounting import asks, handlers
from carbon_accounting.settle import Settler, signals
from carbon_accounting.signing import Signer

MIGRATIONS = Path(__file__).parent / "migrations"


class CarbonSettings(StoreSettings, frozen=True, kw_only=True):
    """``carbon_signing_key_file`` is made at the first start; ``carbon_zone`` names the site's grid."""

    carbon_signing_key_file: Path
    carbon_zone: str = "FR"


def assemble(settings: CarbonSettings, clock: Clock | None = None) -> Service:
    """Wire the doors; tests call this with their own settings and clock."""
    clock = clock or SystemClock()
    service = Service("carbon", settings, clock=clock, migrations=MIGRATIONS)
    service.reads(ProjectAdmitted, handlers.on_project_admitted)
    service.reads(NodeJoined, handlers.on_node_joined)
    service.reads(EnergyMeasured, handlers.on_energy_measured)
    service.reads(UsageRated, handlers.on_usage_rated)

    answers = asks.Asks(Signer.open(settings.carbon_signing_key_file))
    service.answers(GetReceipt, answers.get_receipt)
    service.answers(GetSigningKey, answers.get_signing_key)
    service.answers(ListFactors, asks.list_factors)
    service.answers(ListFootprints, asks.list_footprints)

    site, zone = settings.mesh_site, settings.carbon_zone
    service.writes("signals", partial(signals, site=site, zone=zone))
    service.runs("settle", Settler(site, zone, clock, lambda: service.store).run)
    return service
