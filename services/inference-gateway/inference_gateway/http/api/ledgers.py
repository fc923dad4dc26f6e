"""Usage, prices and requests: metering's. Intensity, footprints and receipts: carbon-accounting's."""

import asyncio
from typing import Literal

import msgspec
from litestar import Controller, get
from litestar.params import FromPath, FromQuery
from mesh_contracts import carbon, metering
from mesh_contracts.ask import Problem
from mesh_contracts.inference import UsageRow
from mesh_contracts.node import Quality
from mesh_contracts.units import CarbonUg, EnergyUj, MoneyMicroeur, Time

from inference_gateway.http.api.asking import AnyRequest, Asker, Asking, Cursor, Limit, page
from inference_gateway.http.problems import Refused

FOOTPRINT_WAIT_S = 2.0
"""How long an explanation waits for energy and carbon: without them it says most of what is asked."""

NOT_YET = frozenset({"receipt_pending", "receipt_not_found"})
"""What carbon-accounting says of a ledger line that it will settle, or has not heard of yet."""


class FootprintShown(msgspec.Struct, frozen=True, kw_only=True):
    """A request's energy and carbon; ``pending`` until its node's interval is settled.

    ``reason`` is the code of what they are null for: ``receipt_pending`` and ``receipt_not_found`` (the
    ledger line has not come that far) ``since`` the request ended, ``energy_unknown`` (no metered node
    served it), ``unavailable`` or ``deadline_exceeded`` (carbon-accounting does not answer now).
    """

    state: Literal["settled", "pending", "unknown"]
    energy_uj: EnergyUj | None = None
    carbon_ug: CarbonUg | None = None
    quality: Quality | None = None
    factor_id: str | None = None
    settled_at: Time | None = None
    reason: str | None = None
    since: Time | None = None
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
        """Explain one request, by the answer's ``x-request-id``; without its footprint where that is not known."""
        asking = asyncio.create_task(_receipt(request, asker, request_id))
        try:
            record: metering.RequestRecord = await asker(
                request, metering.GetRequest, request_id=request_id
            )
            receipt = await asking
        finally:
            asking.cancel()
        return RequestShown(
            request_id=record.request_id,
            project=record.project,
            usage=record.usage,
            cost_microeur=record.cost_microeur,
            price_id=record.price_id,
            trace_id=record.trace_id,
            recorded_at=record.recorded_at,
            footprint=_footprint(receipt, record.usage),
        )


async def _receipt(request: AnyRequest, asker: Asker, request_id: str) -> carbon.Receipt | Problem:
    try:
        receipt: carbon.Receipt = await asker(
            request, carbon.GetReceipt, within_s=FOOTPRINT_WAIT_S, request_id=request_id
        )
    except Refused as refused:
        return refused.problem
    return receipt


def _footprint(receipt: carbon.Receipt | Problem, usage: UsageRow) -> FootprintShown:
    if isinstance(receipt, Problem):
        pending = receipt.code in NOT_YET
        return FootprintShown(
            state="pending" if pending else "unknown",
            reason=receipt.code,
            since=usage.ended_at if pending else None,
            why=receipt.detail,
        )
    return FootprintShown(
        state="settled",
        energy_uj=receipt.energy_uj,
        carbon_ug=receipt.carbon_ug,
        quality=receipt.quality,
        factor_id=receipt.factor.factor_id,
        settled_at=receipt.settled_at,
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
