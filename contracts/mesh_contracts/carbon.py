"""What carbon-accounting tells, answers and writes: footprints, factors, receipts."""

from datetime import date
from typing import Any, ClassVar, Literal

import msgspec

from mesh_contracts.ask import Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.node import Quality
from mesh_contracts.units import (
    CarbonUg,
    Count,
    EnergyUj,
    KeyId,
    MoneyMicroeur,
    NodeId,
    ProjectId,
    RequestId,
    Site,
    Time,
    WorkloadId,
)


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """Grid carbon intensity with its provenance; never implied."""

    factor_id: str
    zone: str
    carbon_mg_per_kwh: Count
    boundary: str
    method: str
    valid_from: date
    valid_until: date | None
    source: str


class Factors(msgspec.Struct, frozen=True, kw_only=True):
    """The factor table."""

    items: list[Factor]
    next: str | None = None


class FootprintSettled(Fact, frozen=True, kw_only=True, tag="carbon.footprint.settled/1"):
    """A project's share of one node's energy in an interval, and its carbon. Key: the project's id."""

    per_tenant: ClassVar[bool] = True

    node_id: NodeId
    interval_start: Time
    interval_end: Time
    requests: Count
    energy_uj: EnergyUj
    carbon_ug: CarbonUg
    factor_id: str
    quality: Quality


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """Bucket ``signals``, key ``intensity.<site>``: the factor in force at a site."""

    site: Site
    factor: Factor
    at: Time


class ReceiptBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed: RFC 8785 canonical JSON of this object, without ``signature``."""

    receipt: Literal["compute-mesh/receipt/1"]
    request_id: RequestId
    project_id: ProjectId
    key_id: KeyId
    model: str
    site: Site
    jurisdiction: str
    node_id: NodeId | None
    workload_id: WorkloadId | None
    started_at: Time
    ended_at: Time
    state: str
    prompt_tokens: Count | None
    completion_tokens: Count | None
    tokens_from: str
    cost_microeur: MoneyMicroeur
    price_id: str
    energy_uj: EnergyUj
    carbon_ug: CarbonUg
    factor: Factor
    quality: Quality
    energy_source: str
    trace_id: str | None
    settled_at: Time


class Receipt(ReceiptBody, frozen=True, kw_only=True):
    """A signed receipt: Ed25519 (hex) by the key ``key_fingerprint``; verified offline."""

    signature: str
    key_fingerprint: str


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """The public key (Ed25519, hex) that receipts are verified with."""

    algorithm: Literal["Ed25519"]
    public_key: str
    key_fingerprint: str


class GetReceipt(Ask, frozen=True, kw_only=True, tag="carbon.receipt.get"):
    """Ask for a request's receipt. ``receipt_pending`` (409) until its interval is settled."""

    permission: ClassVar[str] = "carbon.read"
    reply: ClassVar[Any] = Receipt

    request_id: RequestId


class GetSigningKey(Ask, frozen=True, kw_only=True, tag="carbon.signing-key.get"):
    """Ask for the key that receipts are verified with."""

    permission: ClassVar[str] = "carbon.read"
    reply: ClassVar[Any] = SigningKey


class ListFactors(Ask, frozen=True, kw_only=True, tag="carbon.intensity.list"):
    """Ask for the factor table."""

    permission: ClassVar[str] = "carbon.read"
    reply: ClassVar[Any] = Factors

    page: Page = Page()


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """The carbon ledger's sum for one project."""

    project: str
    project_id: ProjectId
    requests: Count
    energy_uj: EnergyUj
    carbon_ug: CarbonUg
    quality: Quality


class Footprints(msgspec.Struct, frozen=True, kw_only=True):
    """Footprints by project, and what stays with the operator.

    ``operator_non_serving_uj`` is the part of it that was drawn above idle and served no request.
    """

    items: list[Footprint]
    operator_energy_uj: EnergyUj
    operator_carbon_ug: CarbonUg
    next: str | None = None
    operator_non_serving_uj: EnergyUj | None = None


class ListFootprints(Ask, frozen=True, kw_only=True, tag="carbon.footprint.list"):
    """Ask for the footprints the principal sees (the operator's share: admins only, else zero)."""

    permission: ClassVar[str] = "carbon.read"
    reply: ClassVar[Any] = Footprints

    page: Page = Page()
