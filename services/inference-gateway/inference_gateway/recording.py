"""One request's records in the journal: opened, progress, ended; each before what it stands for is seen."""

import asyncio
from datetime import datetime

import msgspec
from mesh_contracts.inference import UsageRow
from mesh_contracts.placement import Replica
from meshkit.clock import Clock
from meshkit.errors import JournalFull

from inference_gateway.domain import records
from inference_gateway.domain.records import Opening
from inference_gateway.domain.stream import Reading, Usage
from inference_gateway.meter import Meter

CLIENT_LEFT = "client_left"
STOPPING = "gateway_stopping"
"""Why a call is cut that no engine is to blame for; every other cut is the engine's fault."""


class Recording:
    """What the meter is told of one request. ``row`` is there once it has ended."""

    def __init__(self, meter: Meter, clock: Clock, opening: Opening, *, began: float) -> None:
        self._meter = meter
        self._clock = clock
        self._began = began
        self._loop = asyncio.get_running_loop()
        self._opened_at: int | None = None
        self._written = 0
        self._first_token_us: int | None = None
        self.opening = opening
        self.reading: Reading | None = None
        self.row: UsageRow | None = None

    @property
    def admitted(self) -> bool:
        """Whether the request stands in the journal: then it gets exactly one row."""
        return self._opened_at is not None

    def open(self, replica: Replica, attempt: int) -> bool:
        """Record that a replica is asked; false where the journal is full."""
        self.opening = msgspec.structs.replace(
            self.opening, workload_id=replica.workload_id, node_id=replica.node_id, attempts=attempt
        )
        try:
            if self._opened_at is None:
                self._opened_at = self._meter.open(self.opening)
            else:
                self._opened_at = self._meter.reopen(self._opened_at, self.opening)
        except JournalFull:
            return False
        return True

    def read(self, reading: Reading) -> bool:
        """Record how far a stream has come; false where the journal is full and nothing may be shown."""
        self.reading = reading
        if reading.tokens and self._first_token_us is None:
            self._first_token_us = int((self._loop.time() - self._began) * 1e6)
        if self.row is not None:
            return True
        if reading.final or reading.done:
            return self.complete(reading.usage)
        if reading.tokens > self._written:
            assert self._opened_at is not None
            self._written = reading.tokens
            try:
                self._meter.progress(self._opened_at, reading.tokens, reading.prompt_tokens)
            except JournalFull:
                self.fail(200, "journal_full")
                return False
        return True

    def complete(self, usage: Usage | None) -> bool:
        """Record a whole answer; false where the client may not see its count."""
        if usage is None:
            return self._end(self._cut("completed", 200, "engine_gave_no_usage"))
        row = UsageRow(
            **msgspec.structs.asdict(self.opening),
            ended_at=self._now(),
            state="completed",
            status=200,
            tokens_from="engine",
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            first_token_us=self._first_token_us,
        )
        return self._end(row)

    def fail(self, status: int, reason: str) -> None:
        """Record that the engine, or the request in its eyes, was at fault."""
        self._end(self._cut("failed", status, reason))

    def close(self, why: str, *, started: bool) -> None:
        """Record a cut, unless the request has ended or was never admitted."""
        if self.row is not None or self._opened_at is None:
            return
        if why == CLIENT_LEFT:
            self._end(self._cut("aborted", records.STATUS_CLIENT_LEFT, why))
        elif why == STOPPING:
            self._end(self._cut("aborted", 200 if started else 503, why))
        else:
            self.fail(200 if started else 503, why)

    def _cut(self, state: str, status: int, reason: str) -> UsageRow:
        reading = self.reading
        return records.cut(
            self.opening,
            self._now(),
            state=state,
            status=status,
            reason=reason,
            tokens=reading.tokens if reading else 0,
            prompt=reading.prompt_tokens if reading else None,
            first_token_us=self._first_token_us,
        )

    def _end(self, row: UsageRow) -> bool:
        assert self._opened_at is not None, "only an admitted request has a row"
        assert self.row is None, "a request has one row"
        self.row = row
        return self._meter.end(self._opened_at, row)

    def _now(self) -> datetime:
        return max(self._clock.now(), self.opening.started_at)
