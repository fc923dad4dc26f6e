"""One transaction: all of a handler's effects, and what it tells, commit together or not at all."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar
from zlib import crc32

import asyncpg
import msgspec
from mesh_contracts import wire
from mesh_contracts.fact import Fact, partition_of, subject_of

from meshkit import telemetry

F = TypeVar("F", bound=Fact)
Row = dict[str, Any]

MESSAGE_BYTES_MAX: Final = 1_000_000
"""A fact or value on the bus, encoded: below what a stream takes (1 MiB), headers included."""

_NEXT_VERSIONS = """
INSERT INTO key_version AS held (key, version)
SELECT key, 1 FROM unnest($1::text[]) AS key ORDER BY key
ON CONFLICT (key) DO UPDATE SET version = held.version + 1
RETURNING key, version
"""

_KEEP_VERSIONS = """
UPDATE key_version SET version = raised.version
FROM unnest($1::text[], $2::bigint[]) AS raised (key, version)
WHERE key_version.key = raised.key
"""

# Ids are drawn here, under the locks of the keys' counters: in one key they follow commit order.
# The same fact told again while it still waits is told once.
_TO_OUTBOX = """
INSERT INTO outbox (kind, partition, subject, key, version, msg_id, payload, traceparent, created_at)
SELECT kind, partition, subject, key, version, msg_id, payload, traceparent, $9
FROM unnest($1::text[], $2::smallint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bytea[],
            $8::text[]) WITH ORDINALITY
     AS row (kind, partition, subject, key, version, msg_id, payload, traceparent, place)
ORDER BY place
ON CONFLICT (msg_id) DO NOTHING
RETURNING id
"""


def _bounded(payload: bytes) -> bytes:
    assert len(payload) <= MESSAGE_BYTES_MAX, "what is told fits into one message; split it"
    return payload


def bucket_lock(bucket: str) -> int:
    """Return the advisory lock that holds a bucket's puts and its rebuilding apart."""
    return 0x62756B74 << 32 | crc32(bucket.encode())


class Transaction:
    """One transaction. All of a handler's effects, and what it tells, commit together."""

    now: datetime
    """The store's clock when the transaction began."""
    outbox_ids: list[int]
    """What this left in the outbox, once it has committed."""
    beside: dict[Any, Any]
    """What the service holds in memory beside this database: the store's own, the same in each transaction."""

    own: dict[Any, Any]
    """What a service holds in memory of this transaction alone."""
    epoch: int
    """The epoch this is of: its commit is refused where another process leads in a later one."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        now: datetime,
        beside: dict[Any, Any] | None = None,
        epoch: int = 0,
    ) -> None:
        self._connection = connection
        self.beside = {} if beside is None else beside
        self.own = {}
        self.epoch = epoch
        self._versions: dict[str, int] = {}
        self._counted: set[str] = set()
        self._raised: set[str] = set()
        self._facts: list[tuple[Any, ...]] = []
        self._changes: dict[tuple[str, str], tuple[bytes | None, str | None]] = {}
        self._then: list[Callable[[], None]] = []
        self._first: list[Callable[[], Awaitable[None]]] = []
        self._ends: list[Callable[[bool], None]] = []
        self.now = now
        self.outbox_ids = []

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        """Return all rows of a query, as dicts."""
        return [dict(row) for row in await self._connection.fetch(sql, *args)]

    async def row(self, sql: str, *args: Any) -> Row | None:
        """Return the first row, or nothing."""
        row = await self._connection.fetchrow(sql, *args)
        return None if row is None else dict(row)

    async def value(self, sql: str, *args: Any) -> Any:
        """Return the first column of the first row, or nothing."""
        return await self._connection.fetchval(sql, *args)

    async def change(self, sql: str, *args: Any) -> int:
        """Run a command; return how many rows it touched."""
        status: str = await self._connection.execute(sql, *args)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def change_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a command once a row of arguments."""
        if rows:
            await self._connection.executemany(sql, rows)

    async def tell(self, fact: F) -> F:
        """Write ``fact`` to the outbox; return it with its ``version`` and ``recorded_at``.

        The version is taken from the key's counter under its row lock, so facts of one key leave
        in commit order.
        """
        [told] = await self.tell_all([fact])
        return told

    async def tell_all(self, facts: Sequence[F]) -> list[F]:
        """Write facts to the outbox, in their order; return them as ``tell`` does."""
        await self._count([fact.key for fact in facts])
        return [self._told(fact) for fact in facts]

    def _told(self, fact: F) -> F:
        version = self._next_version(fact.key)
        trace = telemetry.traceparent() or fact.traceparent
        told = msgspec.structs.replace(fact, version=version, recorded_at=self.now, traceparent=trace)
        subject, partition = subject_of(told), int(partition_of(told.key))
        payload = _bounded(wire.encode(told))
        self._facts.append(
            ("fact", partition, subject, told.key, version, told.fact_id, payload, trace)
        )
        return told

    async def put(
        self, bucket: str, key: str, value: msgspec.Struct, *, traceparent: str | None = None
    ) -> None:
        """Have ``bucket[key]`` hold ``value`` once this commits (through the outbox, in order).

        It is of the trace that is under way, or else of ``traceparent``.
        """
        trace = telemetry.traceparent() or traceparent
        self._changes[bucket, key] = (_bounded(wire.encode(value)), trace)

    async def drop(self, bucket: str, key: str) -> None:
        """Have ``bucket`` forget ``key`` once this commits."""
        self._changes[bucket, key] = (None, telemetry.traceparent())

    def after_commit(self, then: Callable[[], None]) -> None:
        """Call ``then`` once this has committed (never where it rolled back)."""
        self._then.append(then)

    def before_commit(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` within this, once its handlers are done: what was asked for last comes first."""
        self._first.append(work)

    def at_end(self, then: Callable[[bool], None]) -> None:
        """Call ``then(committed)`` as soon as this has ended; false also where nobody knows how it ended."""
        self._ends.append(then)

    async def flush(self) -> None:
        """Do what was to be done before the commit, and write what was told and put: the last thing."""
        while self._first:
            await self._first.pop()()
        if self._raised:
            keys = sorted(self._raised)
            await self._connection.execute(_KEEP_VERSIONS, keys, [self._versions[key] for key in keys])
        rows = self._facts + await self._puts()
        if not rows:
            return
        columns = [list(column) for column in zip(*rows, strict=True)]
        kept = await self._connection.fetch(_TO_OUTBOX, *columns, self.now)
        self.outbox_ids = [row["id"] for row in kept]

    def ended(self, *, committed: bool) -> None:
        """Tell those who wait for the end, the last to come first."""
        for then in reversed(self._ends):
            then(committed)

    def committed(self) -> None:
        """Do what waited for the commit."""
        for then in self._then:
            then()

    async def _count(self, keys: Sequence[str]) -> None:
        """Have the counters of keys here, each one below its next version."""
        fresh = sorted({key for key in keys if key not in self._versions})
        if fresh:
            rows = await self._connection.fetch(_NEXT_VERSIONS, fresh)
            self._versions |= {row["key"]: row["version"] - 1 for row in rows}
            self._counted |= set(fresh)

    def _next_version(self, key: str) -> int:
        # Once counted, the key's row is locked until the commit: the rest is counted here.
        self._versions[key] += 1
        if key in self._counted:
            self._counted.discard(key)
        else:
            self._raised.add(key)
        return self._versions[key]

    async def _puts(self) -> list[tuple[Any, ...]]:
        if not self._changes:
            return []
        for bucket in sorted({bucket for bucket, _ in self._changes}):
            await self._connection.execute(
                "SELECT pg_advisory_xact_lock_shared($1)", bucket_lock(bucket)
            )
        # In one order everywhere, so that two transactions never wait for each other.
        names = {f"{bucket}/{key}": (bucket, key) for bucket, key in sorted(self._changes)}
        counted = await self._connection.fetch(_NEXT_VERSIONS, list(names))
        versions = {row["key"]: row["version"] for row in counted}
        rows: list[tuple[Any, ...]] = []
        for name, (bucket, key) in names.items():
            payload, trace = self._changes[bucket, key]
            kind = "drop" if payload is None else "put"
            msg_id = f"{name}/{versions[name]}"
            rows.append((kind, 0, bucket, key, versions[name], msg_id, payload or b"", trace))
        return rows
