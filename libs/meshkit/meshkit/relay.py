"""What a transaction told leaves here: facts to their stream, puts and drops to their bucket, in order.

One relay a partition, under a lock that ends with its process. It is woken by a doorbell after each
commit (in this process at once, from others over the bus) and looks by itself once a second. A row is
deleted once the bus has acknowledged it; until then it is sent again, with the same id.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from mesh_contracts.streams import BUCKETS

from meshkit.bucket import BucketWriter
from meshkit.bus import Bus, Message
from meshkit.errors import MeshError, StaleSnapshot, Unavailable
from meshkit.lock import SessionLock
from meshkit.publishing import publish_fact
from meshkit.store import Store, is_away
from meshkit.telemetry import METRICS

OUTBOX_BATCH_MAX: Final = 500
POLL_S: Final = 1.0
AWAY_WAIT_S: Final = 0.1
FLUSHED_POLL_S: Final = 0.25
SAY_EVERY_S: Final = 5.0
"""How often it is said that rows wait, while they do: not once a row and try."""
PARTITION: Final = 0

# Facts and changes of buckets apart: where a stream takes none, a revoked key still leaves.
_WAITING = """
(SELECT id, kind, subject, key, version, msg_id, payload, traceparent FROM outbox
 WHERE partition = $1 AND kind = 'fact' ORDER BY id LIMIT $2)
UNION ALL
(SELECT id, kind, subject, key, version, msg_id, payload, traceparent FROM outbox
 WHERE partition = $1 AND kind <> 'fact' ORDER BY id LIMIT $2)
ORDER BY id
"""

logger = logging.getLogger(__name__)

Row = Any
Rebuild = Callable[["Relay"], Awaitable[None]]


class _Waiting:
    """Somebody who waits until rows are acknowledged."""

    def __init__(self, ids: Collection[int]) -> None:
        self.left = set(ids)
        self.done = asyncio.Event()

    def sent(self, ids: Collection[int]) -> None:
        """Wait for these no more."""
        self.left.difference_update(ids)
        if not self.left:
            self.done.set()


class Relay:
    """One owner's relay. ``run`` it beside the doors."""

    def __init__(self, store: Store, bus: Bus, *, rebuild: Rebuild | None = None) -> None:
        self._store = store
        self._bus = bus
        self._rebuild = rebuild
        self._bell = asyncio.Event()
        self._waiting: set[_Waiting] = set()
        self._writers: dict[str, BucketWriter] = {}
        self._told = asyncio.Event()
        self._live = False
        self._said_at = -math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        store.on_told(self._ring)

    @property
    def live(self) -> bool:
        """Whether this process is the one that relays (and so writes the buckets)."""
        return self._live

    async def run(self) -> None:
        """Relay until ``stop``, whenever the lock is ours."""
        heard = await self._bus.subscribe(f"doorbell.{self._store.owner}", self._rung)
        try:
            while not self._told.is_set():
                lock = await SessionLock.take_unless(self._told, self._store, f"relay/{PARTITION}")
                if lock is None:
                    return
                try:
                    await self._hold(lock)
                except StaleSnapshot as fault:
                    logger.warning("the relay of %s was deposed: %s", self._store.owner, fault)
                except Exception as fault:
                    if not (is_away(fault) or isinstance(fault, Unavailable)):
                        raise
                    logger.warning("the relay of %s waits: %s", self._store.owner, type(fault).__name__)
                finally:
                    self._live = False
                    await self._close_writers()
                    await lock.let_go()
                if not self._told.is_set():
                    await asyncio.sleep(AWAY_WAIT_S)
        finally:
            await heard.stop()

    def stop(self) -> None:
        """Send what waits once more, then return from ``run``."""
        self._told.set()
        self._bell.set()

    async def flushed(self, ids: Collection[int]) -> None:
        """Return once these outbox rows are acknowledged by the bus, whichever process sends them."""
        waiting = _Waiting(ids)
        self._waiting.add(waiting)
        try:
            while waiting.left:
                try:
                    async with asyncio.timeout(FLUSHED_POLL_S):
                        await waiting.done.wait()
                except TimeoutError:
                    # Another process may be the one that sends.
                    async with self._store.transaction() as tx:
                        rows = await tx.rows(
                            "SELECT id FROM outbox WHERE id = ANY ($1)", sorted(waiting.left)
                        )
                    waiting.left &= {row["id"] for row in rows}
        finally:
            self._waiting.discard(waiting)

    def writer(self, bucket: str) -> BucketWriter:
        """Return this epoch's writer of a bucket."""
        return self._writers[bucket]

    def _ring(self) -> None:
        self._bell.set()
        if not self._live:
            task = asyncio.create_task(self._bus.publish(f"doorbell.{self._store.owner}", b""))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _rung(self, _message: Message) -> None:
        self._bell.set()

    async def _hold(self, lock: SessionLock) -> None:
        """Relay while the lock is ours."""
        epoch = await self._epoch(lock)
        # From here on this session only deletes what the bus has acknowledged. A crash may bring
        # some of it back: it is sent again, with the same ids. So no delete waits for the disk.
        await lock.connection.execute("SET synchronous_commit = off")
        # A table that is nearly empty and always changing: what the planner knows of it is wrong. Its index, in
        # order, passes rows that are gone at once; a bitmap or a sort would fetch each of them, every time.
        await lock.connection.execute("SET enable_bitmapscan = off; SET enable_sort = off")
        self._store.epoch = epoch
        owned = [spec.name for spec in BUCKETS if spec.writer == self._store.owner]
        self._writers = {name: BucketWriter(self._bus, name, epoch) for name in owned}
        for writer in self._writers.values():
            await writer.start()
        if self._rebuild is not None:
            await self._rebuild(self)
        self._live = True
        while True:
            if any(writer.behind for writer in self._writers.values()):
                raise Unavailable("a bucket is rebuilt")
            self._bell.clear()
            stopping = self._told.is_set()
            rows = await lock.connection.fetch(_WAITING, PARTITION, OUTBOX_BATCH_MAX)
            sent = await self._send(rows) if rows else []
            if sent:
                await lock.connection.execute("DELETE FROM outbox WHERE id = ANY ($1)", sent)
                for waiting in self._waiting:
                    waiting.sent(sent)
            if stopping:
                return
            if len(sent) < len(rows):
                await asyncio.sleep(AWAY_WAIT_S)
            elif len(rows) < OUTBOX_BATCH_MAX:
                await self._rest(lock)

    async def _epoch(self, lock: SessionLock) -> int:
        """Return the epoch to write in: the next, or where only one process serves the one it commits in."""
        if not self._store.fenced:
            raised: int = await lock.connection.fetchval(
                "UPDATE writer SET epoch = epoch + 1 RETURNING epoch"
            )
            return raised
        epoch: int = await lock.connection.fetchval("SELECT epoch FROM writer")
        if epoch != self._store.epoch:
            raise StaleSnapshot(f"epoch {epoch} has taken over")
        return epoch

    async def _rest(self, lock: SessionLock) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._bell.wait()
        except TimeoutError:
            pass
        if lock.lost.is_set():
            raise Unavailable("the relay's lock is lost")

    async def _send(self, rows: list[Row]) -> list[int]:
        """Send rows side by side, but those of one key (or one bucket) one after the other.

        Returns the ids of those that are kept; a chain ends at its first that is not.
        """
        chains: dict[str, list[Row]] = {}
        for row in rows:
            name = row["key"] if row["kind"] == "fact" else f"bucket {row['subject']}"
            chains.setdefault(name, []).append(row)
        sent: list[int] = []
        ends = await asyncio.gather(*(self._send_chain(chain, sent) for chain in chains.values()))
        faults = [fault for fault in ends if fault is not None]
        deposed = next((fault for fault in faults if isinstance(fault, StaleSnapshot)), None)
        if deposed is not None and not sent:
            raise deposed
        if faults:
            self._failed(faults)
        return sent

    async def _send_chain(self, chain: list[Row], sent: list[int]) -> MeshError | None:
        for row in chain:
            try:
                await self._send_one(row)
            except MeshError as fault:
                return fault
            sent.append(row["id"])
        return None

    def _failed(self, faults: list[MeshError]) -> None:
        owner = self._store.owner
        METRICS.count("mesh_relay_failed_total", len(faults), owner=owner)
        now = time.monotonic()
        if now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            text = "the outbox of %s waits with the rows of %d keys or buckets: %s"
            logger.warning(text, owner, len(faults), faults[0])

    async def _send_one(self, row: Row) -> None:
        if row["kind"] == "put":
            await self._writers[row["subject"]].put(
                row["key"], row["payload"], generation=row["version"]
            )
        elif row["kind"] == "drop":
            await self._writers[row["subject"]].drop(row["key"], generation=row["version"])
        else:
            await publish_fact(
                self._bus,
                row["subject"],
                row["payload"],
                msg_id=row["msg_id"],
                parent=row["traceparent"],
            )

    async def _close_writers(self) -> None:
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            await writer.close()
