"""One request's records in the journal: opened, progress, ended; each before what it stands for is seen."""

import asyncio
from contextlib import suppress
from copy import copy
from datetime import datetime

from mesh_contracts.inference import Considered, Counted, Explained, Tried, UsageRow
from mesh_contracts.placement import Replica, Route
from meshkit.clock import Clock
from meshkit.errors import JournalFull

from inference_gateway.domain import records
from inference_gateway.domain.records import Opening
from inference_gateway.domain.stream import Reading, Usage
from inference_gateway.meter import Meter

FINISHES = frozenset(
    {"stop", "length", "tool_calls", "function_call", "content_filter", "abort", "error"}
)
"""How engines say why an answer ended."""

OTHER = "other"
CLIENT_LEFT = "client_left"
STOPPING = "gateway_stopping"
"""Why a call is cut that no engine is to blame for; every other cut is the engine's fault."""


class Why:
    """Why a request went the way it went, as it comes about."""

    __slots__ = (
        "asked_as",
        "chosen_by",
        "considered",
        "counted",
        "position",
        "queue_us",
        "reserved",
        "tried",
    )

    def __init__(self) -> None:
        self.asked_as: str | None = None
        self.chosen_by: str | None = None
        self.considered: list[Considered] = []
        self.counted: list[Counted] = []
        self.tried: list[Tried] = []
        self.position: int | None = None
        self.queue_us = 0
        self.reserved: int | None = None

    def explained(self) -> Explained:
        """Return it as it stands on the row."""
        return Explained(
            chosen_by=self.chosen_by,
            considered=self.considered,
            tried=self.tried,
            counted=self.counted,
            asked_as=self.asked_as,
            queue_position=self.position,
            reserved_tokens=self.reserved,
        )


class Recording:
    """What the meter is told of one request. ``row`` is there once it has ended."""

    def __init__(self, meter: Meter, clock: Clock, opening: Opening, *, began: float) -> None:
        self._meter = meter
        self._clock = clock
        self._began = began
        self._loop = asyncio.get_running_loop()
        self._opened_at: int | None = None
        self._written = 0
        self._first_token_at: float | None = None
        self._last_token_at = 0.0
        self.opening = opening
        self.why = Why()
        self.finish_reason: str | None = None
        self.reading: Reading | None = None
        self.row: UsageRow | None = None

    @property
    def admitted(self) -> bool:
        """Whether the request stands in the journal: then it gets exactly one row."""
        return self._opened_at is not None

    def open(self, route: Route, replica: Replica, attempt: int) -> bool:
        """Record that a replica is asked; false where the journal is full."""
        opening, opened_at = self.opening, self._opened_at
        if opened_at is not None:
            # The meter still holds what was written first.
            opening = self.opening = copy(opening)
        opening.endpoint_id = route.endpoint_id
        opening.model = route.name
        opening.workload_id = replica.workload_id
        opening.node_id = replica.node_id
        opening.attempts = attempt
        try:
            if opened_at is None:
                self._opened_at = self._meter.open(opening)
            else:
                self._opened_at = self._meter.reopen(opened_at, opening)
        except JournalFull:
            return False
        self._written = 0
        return True

    def read(self, reading: Reading) -> bool:
        """Record how far a stream has come; false where the journal is full and nothing may be shown."""
        self.reading = reading
        tokens = reading.tokens
        further = tokens > self._written
        if further:
            self._last_token_at = self._loop.time()
            if self._first_token_at is None:
                self._first_token_at = self._last_token_at
        if self.row is not None:
            return True
        if reading.final or reading.done:
            return self.complete(reading.usage)
        if further:
            assert self._opened_at is not None
            self._written = tokens
            try:
                self._meter.progress(self._opened_at, tokens, reading.prompt_tokens)
            except JournalFull:
                self.fail(200, "journal_full")
                return False
        return True

    def complete(self, usage: Usage | None) -> bool:
        """Record a whole answer; false where the client may not see its count."""
        if usage is None:
            return self._end(self._cut("completed", 200, "engine_gave_no_usage"))
        row = records.whole(
            self.opening,
            self._now(),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            more=self._more(usage.completion_tokens),
        )
        return self._end(row)

    def fail(self, status: int, reason: str) -> None:
        """Record that the engine, or the request in its eyes, was at fault."""
        if self._stands():
            self._end(self._cut("failed", status, reason))

    def close(self, why: str, *, started: bool) -> None:
        """Record a cut, unless the request has ended, or was refused before a replica was asked."""
        if self.row is not None or not (self.admitted or (why == CLIENT_LEFT and self._stands())):
            return
        if why == CLIENT_LEFT:
            self._end(self._cut("aborted", records.STATUS_CLIENT_LEFT, why))
        elif why == STOPPING:
            self._end(self._cut("aborted", 200 if started else 503, why))
        else:
            self.fail(200 if started else 503, why)

    def _stands(self) -> bool:
        """Have the request stand in the journal, also where no replica was asked; false where that is full."""
        if self._opened_at is None:
            self.opening.attempts = 0
            with suppress(JournalFull):
                self._opened_at = self._meter.open(self.opening)
        return self.admitted

    def _cut(self, state: str, status: int, reason: str) -> UsageRow:
        reading = self.reading
        tokens = reading.tokens if reading else 0
        return records.cut(
            self.opening,
            self._now(),
            state=state,
            status=status,
            reason=reason,
            tokens=tokens,
            prompt=reading.prompt_tokens if reading else None,
            more=self._more(tokens),
        )

    def _more(self, tokens: int) -> records.More:
        first, reading = self._first_token_at, self.reading
        each = None
        if first is not None and tokens > 1:
            each = int((self._last_token_at - first) * 1e6 / (tokens - 1))
        return records.More(
            first_token_us=None if first is None else int((first - self._began) * 1e6),
            output_token_us=each,
            queue_us=self.why.queue_us,
            finish_reason=_known(self.finish_reason or (reading.finish_reason if reading else None)),
            explained=self.why.explained(),
        )

    def _end(self, row: UsageRow) -> bool:
        assert self._opened_at is not None, "only an admitted request has a row"
        assert self.row is None, "a request has one row"
        self.row = row
        return self._meter.end(self._opened_at, row)

    def _now(self) -> datetime:
        return max(self._clock.now(), self.opening.started_at)


def _known(said: str | None) -> str | None:
    """Return an engine's word where it can stand in a ledger: it may put anything there."""
    return said if said is None or said in FINISHES else OTHER
