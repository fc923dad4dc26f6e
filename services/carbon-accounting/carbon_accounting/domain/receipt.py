"""What a receipt says, before it is signed."""

from datetime import datetime
from typing import Final

import msgspec
from mesh_contracts.carbon import Factor, ReceiptBody
from mesh_contracts.metering import RatedRow
from mesh_contracts.node import Quality
from mesh_contracts.units import CarbonUg, EnergyUj

FORMAT: Final = "compute-mesh/receipt/1"


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose energy and carbon are settled."""

    row: RatedRow
    site: str
    jurisdiction: str
    energy_uj: int
    carbon_ug: int
    factor: Factor
    quality: Quality
    energy_source: str
    settled_at: datetime


def body_of(settled: Settled) -> ReceiptBody:
    """Return the body of a request's receipt: where, tokens, cost, energy, carbon, trace."""
    usage = settled.row.usage
    return ReceiptBody(
        receipt=FORMAT,
        request_id=usage.request_id,
        project_id=usage.project,
        key_id=usage.key_id,
        model=usage.model,
        site=settled.site,
        jurisdiction=settled.jurisdiction,
        node_id=usage.node_id,
        workload_id=usage.workload_id,
        started_at=usage.started_at,
        ended_at=usage.ended_at,
        state=usage.state,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        tokens_from=usage.tokens_from,
        cost_microeur=settled.row.cost_microeur,
        price_id=settled.row.price_id,
        energy_uj=EnergyUj(settled.energy_uj),
        carbon_ug=CarbonUg(settled.carbon_ug),
        factor=settled.factor,
        quality=settled.quality,
        energy_source=settled.energy_source,
        trace_id=None if usage.traceparent is None else usage.traceparent.split("-")[1],
        settled_at=settled.settled_at,
    )
