"""One engine a site, in memory; what it decides stands in the database before anybody hears of it.

``apply`` gives the engine one input within a transaction. Input and outcome are written to the table
``decision`` as that commits, in the order of their numbers; where it rolls back the engine goes back to
what is committed. A start goes on from the newest snapshot and decides all that follows it again: the
same must come out, and what does not is said, and not ready. Whoever finds the table ahead of the
engine (a standby, or a commit that nobody knew the end of) catches up in the same way.

What an input leads to beside its own answer (who waited and begins, who gives way) is in ``followed`` until
somebody sees to it: ``work`` does. A transaction that leaves some of it undone does not commit.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from typing import Final, NamedTuple

import msgspec
from meshkit.store import Transaction
from meshkit.telemetry import METRICS

from placement import beginning, logbook, reading
from placement.domain.engine.engine import Engine
from placement.domain.engine.redo import Decided, have, undo
from placement.domain.engine.size import Size
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.wish import (
    Advanced,
    Asked,
    Followed,
    Input,
    Outcome,
    Placed,
    Preempted,
    Refused,
    Ticked,
    Wish,
)
from placement.domain.kept import snapshot_of
from placement.domain.standing import is_due, positions
from placement.logbook import Row
from placement.rollback import Base

SNAPSHOT_EVERY: Final = 10_000
"""Decisions from one snapshot to the next: a start decides so many again, a few more at most."""
SNAPSHOT_WORTH_S: Final = 2.0
"""And so much deciding: a start takes no longer than that to decide it again."""
READ_AT_ONCE: Final = 256
TURN_S: Final = 0.05
"""How long decisions are decided again until others have their turn: a leader that beats is one of them."""
SIZES_MAX: Final = 4_096
"""Sizes that are counted as they are asked for; of more, no further ones."""

_input = msgspec.json.Decoder(Input)
_outcome = msgspec.json.Decoder(Outcome)
_encode = msgspec.json.Encoder().encode

logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What was decided about one who asked, in its place among what followed from before, and what follows from it."""

    outcome: Outcome
    wish: Wish


class Memory:
    """One site's engine, and up to which decision it is committed."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.seq = 0
        """The last decision in the engine, of the transaction at work where there is one."""
        self.generations: dict[str, int] = {}
        """Nodes' generations as far as they are known here."""
        self.names: dict[str, str] = {}
        """Nodes' names by their ids."""
        self.late: set[str] = set()
        """Nodes that are known as they were, as somebody still has what they lack."""
        self.asked: Counter[Size] = Counter()
        """Members that were asked for since somebody emptied this, by what each takes."""
        self.followed: deque[Followed | Answer] = deque()
        self.refused: set[str] = set()
        """Endpoints for which there was no room, and nothing was decided since that could have made some."""
        self.differs: str | None = None
        """What came out otherwise than it was decided, if anything did."""
        self._engine: Engine | None = None
        self._base = Base()
        self._pending: list[Row] = []
        self._stand: tuple[int, dict[str, int]] = (-1, {})
        self._tx: Transaction | None = None
        self._spoilt = False
        self._kept_at = self._ticked = 0
        self._due: tuple[int, Snapshot] | None = None

    @property
    def engine(self) -> Engine:
        """The engine. Only to look at: inputs go through ``apply``."""
        assert self._engine is not None, "it is held by nobody yet"
        return self._engine

    def apply(self, given: Input) -> Outcome:
        """Return what is decided, and have it be so once the transaction commits.

        Raises ``ValueError`` for what cannot be; then nothing has changed.
        """
        assert self._tx is not None, "an input comes within a transaction"
        try:
            outcome = self._base.decide(self.engine, given)
        except BaseException:
            self._restore()
            raise
        if isinstance(given, Ticked):
            self._ticked = given.at
        elif isinstance(given, Asked) and (
            given.wish.size in self.asked or len(self.asked) < SIZES_MAX
        ):
            self.asked[given.wish.size] += given.wish.members
        self.seq += 1
        self._pending.append(Row(self.seq, _encode(given).decode(), _encode(outcome).decode()))
        if not isinstance(outcome, Refused):
            self.refused.clear()
        if isinstance(outcome, Advanced):
            self.followed.extend(outcome.outcomes)
        elif isinstance(outcome, Placed):
            # Those who gave way have left before the other comes.
            waits = self.engine.turns.queue.entries
            self.followed.extend(
                Preempted(workload=one, by=outcome.workload, queued=one in waits)
                for one in outcome.preempted
            )
        return outcome

    def is_due(self, at: int) -> bool:
        """Tell whether the moment ``at`` alone may have something follow."""
        return self._engine is not None and is_due(self._engine, self._ticked, at)

    @property
    def engine_if_any(self) -> Engine | None:
        """The engine; nothing before anybody has held it. Only to look at."""
        return self._engine

    def positions(self) -> dict[str, int]:
        """Return the place in line of those who wait, as it is now, by workload."""
        if self._engine is None or not self._engine.turns.queue:
            return {}
        if self._stand[0] != self.seq:
            self._stand = (self.seq, positions(self._engine))
        return self._stand[1]

    def called(self, node_id: str) -> str:
        """Return a node's name, its id where it has none yet."""
        return self.names.get(node_id, node_id)

    async def begin(self, tx: Transaction) -> None:
        """Be where the database is, and follow ``tx`` to its end."""
        if self._tx is tx:
            return
        self._tx = tx
        tx.at_end(self._ended)
        tx.before_commit(self._write)
        await self._catch_up(tx, await logbook.hold(tx, self.site))
        if self.seq == 0:
            # The log of a site that has none begins with what its tables say is there.
            for given in await beginning.inputs(tx, self.site):
                self.apply(given)
        if len(self.names) < self.engine.site.rows:
            self.names = await reading.names(tx, self.site)

    async def catch_up(self, tx: Transaction) -> None:
        """Decide again what was decided elsewhere. Raises ``ValueError`` where that cannot be."""
        await self._catch_up(tx, await logbook.head(tx, self.site))

    async def _catch_up(self, tx: Transaction, head: int) -> None:
        if self._engine is None or head < self.seq:
            await self._load(tx)
        elif self._spoilt:
            self._restore()
        while self.seq < head:
            rows = await logbook.read(tx, self.site, self.seq, READ_AT_ONCE)
            if rows[0].seq != self.seq + 1:
                # What comes next is pruned: a snapshot covers it.
                await self._load(tx)
                rows = await logbook.read(tx, self.site, self.seq, READ_AT_ONCE)
            began = time.monotonic()
            for row in rows:
                self._again(row)
                if time.monotonic() - began > TURN_S:
                    await asyncio.sleep(0)
                    began = time.monotonic()
            self._advance()
            await asyncio.sleep(0)

    def moved(self, node_id: str) -> None:
        """Note that a node's row has changed once more."""
        if node_id in self.generations:
            self.generations[node_id] += 1

    def take_due(self) -> tuple[int, Snapshot] | None:
        """Return the state that should be kept, and after which decision it was so, once."""
        due, self._due = self._due, None
        return due

    async def _load(self, tx: Transaction) -> None:
        kept = await logbook.last_snapshot(tx, self.site)
        self.generations.clear()
        self._base.begin(Engine().snapshot() if kept is None else snapshot_of(kept[1]))
        self._restore()
        self.seq = self._kept_at = 0 if kept is None else kept[0]
        self._base.decided_s = 0.0

    def _again(self, row: Row) -> None:
        """Decide again what was decided; where it comes out otherwise have it as it was decided, and say so."""
        assert row.seq == self.seq + 1, "no decision is missing behind the newest snapshot"
        given = _input.decode(row.input)
        try:
            outcome = self._base.decide(self.engine, given)
        except BaseException:
            self._engine = None
            self.differs = f"decision {row.seq} of {self.site} cannot be decided again"
            raise
        self.seq = row.seq
        if _encode(outcome).decode() == row.outcome or _outcome.decode(row.outcome) == outcome:
            return
        # The next start goes on from what was decided, and finds nothing to say any more.
        self._kept_at = self.seq - SNAPSHOT_EVERY
        self.differs = self.differs or f"decision {row.seq} of {self.site} comes out otherwise"
        METRICS.count("mesh_placement_replay_differs_total")
        logger.error("decision %d of %s comes out otherwise than it was", row.seq, self.site)
        decided = Decided(given, _outcome.decode(row.outcome))
        self._base.decided(decided)
        if undo(self.engine, given, outcome):
            have(self.engine, decided)
        else:
            self._restore()

    async def _write(self) -> None:
        assert not self.followed, "what follows from a decision is seen to in the same transaction"
        if self._pending:
            assert self._tx is not None
            await logbook.write(self._tx, self.site, self._pending)

    def _ended(self, committed: bool) -> None:
        count = len(self._pending)
        if committed:
            METRICS.count("mesh_placement_decisions_total", count)
            self._advance()
        else:
            self.generations.clear()
            self.refused.clear()
        if count and not committed:
            self.seq -= count
            self._base.drop(count)
            self._spoilt = True
        self._pending = []
        self.followed.clear()
        self._tx = None

    def _advance(self) -> None:
        """Take the state anew that a rollback goes back to, and the one to be kept, where it is time."""
        worth = self._base.decided_s >= SNAPSHOT_WORTH_S and self.seq > self._kept_at
        keeps = worth or self.seq - self._kept_at >= SNAPSHOT_EVERY
        if not keeps and not self._base.due:
            return
        state = self._base.take(self.engine)
        if keeps:
            self._kept_at, self._base.decided_s = self.seq, 0.0
            self._due = (self.seq, state)

    def _restore(self) -> None:
        """Make the engine anew from what is committed, and what this transaction has given so far."""
        self._engine = self._base.engine()
        self._spoilt = False
