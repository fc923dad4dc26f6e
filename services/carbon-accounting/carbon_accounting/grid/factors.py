"""Dated grid factors with their provenance. A factor that was used once stays, for old receipts."""

from collections.abc import Sequence
from datetime import date

from mesh_contracts.carbon import Factor

_BOUNDARY = (
    "direct emissions (CO2e) of electricity generated in metropolitan France; without fuel supply and"
    " construction, imports, and losses of the grid"
)
_METHOD = "location-based, yearly average of production"

FACTORS: tuple[Factor, ...] = (
    Factor(
        factor_id="fr-production-direct-2023",
        zone="FR",
        carbon_mg_per_kwh=32_000,
        boundary=_BOUNDARY,
        method=_METHOD,
        valid_from=date(2023, 1, 1),
        valid_until=date(2024, 1, 1),
        source="RTE, Bilan électrique 2023, chapter Emissions: 32 gCO2eq per kWh produced",
    ),
    Factor(
        factor_id="fr-production-direct-2024",
        zone="FR",
        carbon_mg_per_kwh=21_700,
        boundary=_BOUNDARY,
        method=f"{_METHOD}; the newest year in this table stands until its successor is entered",
        valid_from=date(2024, 1, 1),
        valid_until=None,
        source="RTE, Bilan électrique 2024, chapter Emissions: 21.7 gCO2eq per kWh produced",
    ),
)


def factor_on(zone: str, day: date, table: Sequence[Factor] = FACTORS) -> Factor | None:
    """Return the factor of a zone that is valid on a day (``valid_until`` excluded), or nothing."""
    for factor in table:
        if (
            factor.zone == zone
            and factor.valid_from <= day
            and (factor.valid_until is None or day < factor.valid_until)
        ):
            return factor
    return None


def factor_named(factor_id: str, table: Sequence[Factor] = FACTORS) -> Factor:
    """Return a factor by its id. Raises ``KeyError`` for one that never stood in the table."""
    return {factor.factor_id: factor for factor in table}[factor_id]
