"""Usage, prices and requests: metering's. Intensity, footprints and receipts: carbon-accounting's."""

import msgspec
from litestar import Controller, get
from litestar.params import FromPath, FromQuery
from mesh_contracts import carbon, metering
from mesh_contracts.inference import UsageRow
from mesh_contracts.node import Quality
from mesh_contracts.units import CarbonUg, EnergyUj, MoneyMicroeur, Time

from inference_gateway.http.api.asking import AnyRequest, Asking, Cursor, Limit, page
from inference_gateway.http.problems import Refused


class FootprintShown(msgspec.Struct, frozen=True, kw_only=True):
    """A request's energy and carbon; ``pending`` until its node's interval is settled."""

    state: str
    energy_uj: EnergyUj | None = None
    carbon_ug: CarbonUg | None = None
    quality: Quality | None = None
    factor_id: str | None = None
    why: str | None = None


class RequestShown(msgspec.Struct, frozen=True, kw_only=True):
    """One request explained: its ledger line, its cost, its footprint, and the trace of its road."""

    request_id: str
    project: str
    usage: UsageRow
    cost_microeur: MoneyMicroeur
    price_id: str
    trace_id: str | None
    recorded_at: Time
    footprint: FootprintShown


class Requests(Controller):
    """What became of a request."""

    path = "/requests"
    tags = ["metering"]  # noqa: RUF012 - the framework's way

    @get("/{request_id:str}")
    async def one(self, request: AnyRequest, asker: Asking, request_id: FromPath[str]) -> RequestShown:
        """Explain one request, by the answer's ``x-request-id``."""
        record: metering.RequestRecord = await asker(
            request, metering.GetRequest, request_id=request_id
        )
        return RequestShown(
            request_id=record.request_id,
            project=record.project,
            usage=record.usage,
            cost_microeur=record.cost_microeur,
            price_id=record.price_id,
            trace_id=record.trace_id,
            recorded_at=record.recorded_at,
            footprint=await _footprint(request, asker, request_id),
        )


async def _footprint(request: AnyRequest, asker: Asking, request_id: FromPath[str]) -> FootprintShown:
    try:
        receipt: carbon.Receipt = await asker(request, carbon.GetReceipt, request_id=request_id)
    except Refused as refused:
        pending = refused.problem.code == "receipt_pending"
        return FootprintShown(state="pending" if pending else "unknown", why=refused.problem.detail)
    return FootprintShown(
        state="settled",
        energy_uj=receipt.energy_uj,
        carbon_ug=receipt.carbon_ug,
        quality=receipt.quality,
        factor_id=receipt.factor.factor_id,
    )


@get("/usage", tags=["metering"])
async def list_usage(
    request: AnyRequest,
    asker: Asking,
    *,
    since: FromQuery[Time | None] = None,
    until: FromQuery[Time | None] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> metering.Usages:
    """List what was used, by project and model, of the projects the caller sees."""
    found: metering.Usages = await asker(
        request, metering.ListUsage, since=since, until=until, page=page(limit, cursor)
    )
    return found


@get("/prices", tags=["metering"])
async def list_prices(
    request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
) -> metering.Prices:
    """List the price book."""
    found: metering.Prices = await asker(request, metering.ListPrices, page=page(limit, cursor))
    return found


class Carbon(Controller):
    """Energy and carbon, with where each figure comes from."""

    path = "/carbon"
    tags = ["carbon"]  # noqa: RUF012 - the framework's way

    @get("/intensity")
    async def intensity(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> carbon.Factors:
        """List the dated factors of grid carbon intensity."""
        found: carbon.Factors = await asker(request, carbon.ListFactors, page=page(limit, cursor))
        return found

    @get("/footprints")
    async def footprints(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> carbon.Footprints:
        """List the footprints of the projects the caller sees."""
        found: carbon.Footprints = await asker(request, carbon.ListFootprints, page=page(limit, cursor))
        return found

    @get("/receipts/{request_id:str}")
    async def receipt(
        self, request: AnyRequest, asker: Asking, request_id: FromPath[str]
    ) -> carbon.Receipt:
        """Show a request's signed receipt; 409 ``receipt_pending`` until it is settled."""
        told: carbon.Receipt = await asker(request, carbon.GetReceipt, request_id=request_id)
        return told

    @get("/signing-key")
    async def signing_key(self, request: AnyRequest, asker: Asking) -> carbon.SigningKey:
        """Show the public key that receipts are verified with."""
        key: carbon.SigningKey = await asker(request, carbon.GetSigningKey)
        return key
