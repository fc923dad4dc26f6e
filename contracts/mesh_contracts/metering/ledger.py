"""What metering tells, answers and writes: the usage ledger, prices, what a request cost."""

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from mesh_contracts.ask import Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.inference import ROWS_MAX, UsageRow
from mesh_contracts.units import (
    Count,
    MoneyMicroeur,
    Name,
    ProjectId,
    RequestId,
    Sequence,
    Time,
)

MISSING_SHOWN_MAX = 500
"""Missing numbers listed in a mark at one time."""

EARLIER_SHOWN_MAX = 64
"""Earlier epochs listed in a mark: the newest of those that told anything."""


class RatedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger line: the usage and what it costs by price ``price_id``."""

    usage: UsageRow
    cost_microeur: MoneyMicroeur
    price_id: str


class UsageRated(Fact, frozen=True, kw_only=True, tag="metering.usage.rated/1"):
    """Lines that now stand in the ledger, each once. The key is the producer's id."""

    ordered: ClassVar[bool] = False

    producer: str
    epoch: Sequence
    sequence: Sequence
    rows: Annotated[list[RatedRow], Meta(min_length=1, max_length=ROWS_MAX)]


class UsageRecorded(Fact, frozen=True, kw_only=True, tag="metering.usage.recorded/1"):
    """What a project used of a model in an interval: the rows of one batch, summed.

    The key is the project's id; sums over all facts of a project are its ledger's sums.
    """

    per_tenant: ClassVar[bool] = True

    model: Name
    interval_start: Time
    interval_end: Time
    requests: Count
    prompt_tokens: Count
    completion_tokens: Count
    cost_microeur: MoneyMicroeur


class ProducerMark(msgspec.Struct, frozen=True, kw_only=True):
    """Bucket ``limits``, key ``producer.<producer>``: what the ledger holds of a producer.

    All batches of ``epoch`` (the newest) from 1 up to ``sequence`` stand in the ledger, and so do
    those of each ``[epoch, sequence]`` in ``earlier``, newest epoch first. A producer may forget
    exactly these: a number that no mark covers may be missing unseen, at the end of an epoch most
    of all, and only the producer can know. ``missing`` lists numbers (``[epoch, sequence]``)
    that were jumped over and are wished for again, the oldest first and at most
    ``MISSING_SHOWN_MAX``; when they have come, the next ones are listed.
    """

    producer: str
    epoch: Sequence
    sequence: Sequence
    missing: list[tuple[int, int]] = []
    earlier: list[tuple[int, int]] = []

    def covers(self, epoch: int, sequence: int) -> bool:
        """Tell whether the ledger is known to hold this batch, so that its producer may forget it."""
        if epoch == self.epoch:
            return sequence <= self.sequence
        return any(epoch == known and sequence <= up_to for known, up_to in self.earlier)


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """The ledger's sum for one project and model."""

    project: str
    project_id: ProjectId
    model: Name
    requests: Count
    prompt_tokens: Count
    completion_tokens: Count
    cost_microeur: MoneyMicroeur
    aborted: Count
    failed: Count


class Usages(msgspec.Struct, frozen=True, kw_only=True):
    """Usage by project and model."""

    items: list[Usage]
    next: str | None = None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Micro-euros a million tokens, from ``valid_from`` on. ``model`` ``*`` is the default."""

    price_id: str
    model: str
    price_microeur_per_mtoken_in: Count
    price_microeur_per_mtoken_out: Count
    valid_from: Time


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """The price book."""

    items: list[Price]
    next: str | None = None


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request explained: its ledger line, and the trace that shows its road."""

    request_id: RequestId
    project: str
    usage: UsageRow
    cost_microeur: MoneyMicroeur
    price_id: str
    trace_id: str | None
    recorded_at: Time


class ListUsage(Ask, frozen=True, kw_only=True, tag="metering.usage.list"):
    """Ask what was used, of the projects the principal sees."""

    permission: ClassVar[str] = "usage.read"
    reply: ClassVar[Any] = Usages

    since: Time | None = None
    until: Time | None = None
    page: Page = Page()


class ListPrices(Ask, frozen=True, kw_only=True, tag="metering.price.list"):
    """Ask for the price book."""

    permission: ClassVar[str] = "price.read"
    reply: ClassVar[Any] = Prices

    page: Page = Page()


class GetRequest(Ask, frozen=True, kw_only=True, tag="metering.request.get"):
    """Ask for one request's ledger line."""

    permission: ClassVar[str] = "request.read"
    reply: ClassVar[Any] = RequestRecord

    request_id: RequestId
