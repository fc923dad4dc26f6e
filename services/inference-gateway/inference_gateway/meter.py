"""The meter: what happens to each request goes to the journal first, then in batches to the ledger."""

import asyncio
import logging

import msgspec
from mesh_contracts import wire
from mesh_contracts.inference import ROWS_MAX, UsageRow
from mesh_contracts.metering import ProducerMark
from mesh_contracts.units import Site
from meshkit import semconv
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.errors import JournalFull, Unavailable
from meshkit.journal import JOURNAL_BYTES_MAX, Journal
from meshkit.telemetry import METRICS, SpanKind, span

from inference_gateway.domain import records
from inference_gateway.domain.marks import AGAIN_MAX, kept, missed
from inference_gateway.domain.records import Batched, Opening
from inference_gateway.kept import Open, Waiting, batched, heard
from inference_gateway.progress import ProgressPage
from inference_gateway.settings import BATCH_WAIT_S, MARK_WAIT_S

log = logging.getLogger(__name__)

RESERVE_BYTES = 32 * 1024**2
"""Room in the journal for what admitted requests have still to say."""

AGAIN_WAIT_MAX_S = 300.0
"""The longest pause between two tellings of batches that the ledger does not take."""


class Meter:
    """Exactly one row for each admitted request, whatever dies; see ``domain.records``."""

    def __init__(
        self, journal: Journal, clock: Clock, site: Site, *, journal_bytes_max: int = JOURNAL_BYTES_MAX
    ) -> None:
        self._journal = journal
        self._page = ProgressPage(journal.folder / "progress")
        self._rows: dict[str, int] = {}
        self._admit_bytes_max = journal_bytes_max - min(RESERVE_BYTES, journal_bytes_max // 4)
        self._clock = clock
        self._site = site
        self._open: dict[int, Open] = {}
        self._pending: list[Waiting] = []
        self._owed: list[UsageRow] = []
        self._batches: list[Batched] = []
        self._sequence = 0
        self._last = 0
        self._wake = asyncio.Event()
        self._mark: ProducerMark | None = None
        self._restoring, self._restored_up_to = True, -1
        self.closed = 0
        """How many requests a kill had cut, which were closed at this opening."""
        self._restore()
        METRICS.gather(self._count)

    @property
    def producer(self) -> str:
        """The name under which the ledger knows this journal."""
        return self._journal.producer

    @property
    def epoch(self) -> int:
        """The journal's epoch: requests are admitted in it."""
        return self._journal.epoch

    def settled_below(self) -> int:
        """Return the epoch below which every admitted request stands in the ledger, as far as is known here."""
        return 0 if self._restoring or self._restored_up_to >= 0 else self._journal.epoch

    @property
    def open_requests(self) -> int:
        """How many requests are admitted and not ended."""
        return len(self._open)

    @property
    def untold(self) -> int:
        """How many rows are not in a batch yet."""
        return len(self._pending) + len(self._owed)

    @property
    def unheld(self) -> int:
        """How many batches the ledger does not hold, as far as is known here."""
        return len(self._batches)

    def open(self, opening: Opening) -> int:
        """Write that a request is admitted; return its number. Raises ``JournalFull``.

        What is admitted must be able to end: the last ``RESERVE_BYTES`` are not for new requests.
        """
        if self._journal.size_bytes > self._admit_bytes_max:
            raise JournalFull("the ledger is far behind")
        return self._opened(opening)

    def reopen(self, opened_at: int, opening: Opening) -> int:
        """Write that another replica is asked for the same request. Raises ``JournalFull``."""
        position = self._opened(opening)
        self._leave(self._open.pop(opened_at))
        return position

    def _opened(self, opening: Opening) -> int:
        position = self._last = self._journal.append(records.OPENED, wire.encode(opening))
        self._open[position] = Open(opening, position)
        return position

    def progress(self, opened_at: int, tokens: int, prompt: int | None) -> None:
        """Write how many tokens were read, before the client gets them. Raises ``JournalFull``."""
        known = self._open[opened_at]
        known.tokens, known.prompt = tokens, prompt
        if known.slot is None:
            known.slot = self._page.take(known.position)
            if known.slot is None:
                self._progress(known.position, tokens, prompt)
                return
        self._page.write(known.slot, known.position, tokens, prompt)

    def _progress(self, position: int, tokens: int, prompt: int | None) -> None:
        self._journal.append(records.PROGRESS, records.progress_bytes(position, tokens, prompt))

    def _leave(self, known: Open) -> None:
        if known.slot is not None:
            self._page.give(known.slot)
            known.slot = None

    def end(self, opened_at: int, row: UsageRow) -> bool:
        """Write a request's row; false where it only stands in memory, because the journal is full.

        The client may see the count only where this is true.
        """
        known = self._open.pop(opened_at, None)
        self._rows[row.state] = self._rows.get(row.state, 0) + 1
        self._wake.set()
        try:
            self._keep(row)
        except JournalFull:
            self._owed.append(row)
            return False
        finally:
            if known is not None and known.slot is not None:
                self._leave(known)
        return True

    async def batch(self) -> None:
        """Form batches for ever: ``ROWS_MAX`` rows, or what there is after ``BATCH_WAIT_S``."""
        while True:
            await self._wake.wait()
            if len(self._pending) < ROWS_MAX:
                await asyncio.sleep(BATCH_WAIT_S)
            self._wake.clear()
            if not self.form():
                await asyncio.sleep(1.0)
                self._wake.set()

    def form(self) -> bool:
        """Batch every row that waits; false where the journal is full and some still wait."""
        try:
            while self._owed:
                self._keep(self._owed[0])
                del self._owed[0]
            while self._pending:
                self._tell(self._pending[:ROWS_MAX])
                del self._pending[:ROWS_MAX]
        except JournalFull:
            log.warning("the journal is full; usage waits until the ledger takes what is kept")
            return False
        if self._restoring:
            # When these batches stand in the ledger, so does all that came before this start.
            self._restoring = False
            self._restored_up_to = self._batches[-1].position if self._batches else -1
        return True

    def told_besides(self, position: int) -> None:
        """Learn that a fact which is not usage stands in the journal at ``position``: nothing needs it here."""
        self._last = max(self._last, position)
        self._release()

    async def drain(self, bus: Bus) -> None:
        """Publish the batches in order, for ever."""
        await self._journal.drain(bus)

    def heed(self, mark: ProducerMark | None) -> None:
        """Forget what the ledger holds."""
        if mark is None:
            return
        self._mark = mark
        self._batches = kept(self._batches, mark)
        if not any(batch.position <= self._restored_up_to for batch in self._batches):
            self._restored_up_to = -1
        self._release()

    async def tell_missing(self, bus: Bus) -> None:
        """Tell again, for ever, what the ledger jumped over or did not take while the bus was whole."""
        pause = MARK_WAIT_S
        while True:
            oldest = self._batches[0] if self._batches else None
            await asyncio.sleep(pause if oldest else 1.0)
            if oldest is None or self._journal.backlog or not self._whole_for(bus, MARK_WAIT_S):
                continue
            wished = missed(self._batches, self._mark) if self._mark else []
            if not wished and self._batches and self._batches[0] is oldest:
                wished = self._batches[:AGAIN_MAX]
            pause = min(pause * 2, AGAIN_WAIT_MAX_S) if wished else MARK_WAIT_S
            await self._tell_again(bus, wished)

    async def _tell_again(self, bus: Bus, wished: list[Batched]) -> None:
        for batch in wished:
            METRICS.count("mesh_gateway_batches_told_again_total")
            try:
                if not await self._journal.tell_again(bus, batch.position):
                    log.error("batch %d of epoch %d is no longer kept", batch.sequence, batch.epoch)
            except Unavailable:
                return

    def _whole_for(self, bus: Bus, seconds: float) -> bool:
        since = bus.whole_since
        return since is not None and self._clock.monotonic() - since >= seconds

    def _keep(self, row: UsageRow) -> None:
        written = wire.encode(row)
        position = self._journal.append(records.ENDED, written)
        self._pending.append(Waiting(position, msgspec.Raw(written)))

    def _count(self) -> None:
        for state, count in self._rows.items():
            METRICS.count("mesh_gateway_rows_total", count, state=state)
        self._rows.clear()

    def _tell(self, rows: list[Waiting]) -> None:
        sequence = self._sequence + 1
        with span(
            "batch gateway.usage.metered",
            kind=SpanKind.INTERNAL,
            attributes={semconv.MESSAGING_BATCH_MESSAGE_COUNT: len(rows)},
        ):
            fact = batched(rows, self._journal, sequence, self._site, self._clock.now())
            position = self._last = self._journal.tell(fact)
        self._sequence = sequence
        self._batches.append(Batched(position, fact.epoch, sequence, ()))

    def _release(self) -> None:
        needed = [self._pending[0].position if self._pending else None]
        needed.append(self._batches[0].position if self._batches else None)
        held = [position for position in needed if position is not None]
        below = min(held, default=self._last)
        if self._journal.size_bytes > self._admit_bytes_max // 2:
            self._carry(below)
        first = next(iter(self._open.values()), None)
        self._journal.release(below if first is None else min(below, first.position))

    def _carry(self, below: int) -> None:
        """Write long requests once more, so that what came after their beginning can be let go of."""
        for opened_at, known in list(self._open.items()):
            if known.position >= below:
                return
            try:
                position = self._journal.append(records.OPENED, wire.encode(known.opening))
                self._progress(position, known.tokens, known.prompt)
            except JournalFull:
                return
            known.position = self._last = position
            if known.slot is not None:
                self._page.write(known.slot, position, known.tokens, known.prompt)
            # In the order in which they stand.
            self._open[opened_at] = self._open.pop(opened_at)

    def _restore(self) -> None:
        restored = records.restore([*heard(self._journal), *self._page.before])
        self._batches = restored.batches
        self._pending = [
            Waiting(ended.position, msgspec.Raw(wire.encode(ended.row))) for ended in restored.unbatched
        ]
        now = self._clock.now()
        for unclosed in restored.unclosed:
            self.end(-1, records.closed_by_restart(unclosed, now))
        self.closed = len(restored.unclosed)
        self._page.clear()
        if not self.form():
            self._wake.set()
