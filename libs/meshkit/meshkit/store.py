"""Postgres: one transaction that hears once, changes, and tells once; forward migrations."""

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from meshkit.clock import Clock
from meshkit.config import Secret
from meshkit.errors import Deposed, StaleSnapshot, Unavailable
from meshkit.migrate import migrate
from meshkit.telemetry import METRICS
from meshkit.transaction import Row, Transaction

CONNECT_WAIT_S: Final = 30.0
ACQUIRE_WAIT_S: Final = 5.0
STATEMENT_WAIT_S: Final = 30.0
CLOSE_WAIT_S: Final = 1.0
OUTBOX_ROWS_MAX: Final = 200_000
"""Past this many untold rows, asks that change something are refused (``outbox_full``)."""
DEAD_LETTERS_COUNTED: Final = 1_000
"""Dead letters, parked facts among them, that the gauge counts up to."""

_LOOK: Final = (
    "SELECT (SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) AS few) AS waiting,"
    " (SELECT created_at FROM outbox ORDER BY id LIMIT 1) AS oldest,"
    " (SELECT count(*) FROM (SELECT FROM dead_letter LIMIT $2) AS few) AS letters"
)

__all__ = ["OUTBOX_ROWS_MAX", "Row", "Store", "Transaction", "is_away", "is_race"]


def is_away(fault: BaseException) -> bool:
    """Tell whether a fault means that the database cannot serve anybody now, rather than a mistake."""
    if isinstance(fault, asyncpg.InterfaceError):
        # asyncpg raises it for a closed connection, and also where it is held wrongly.
        return "clos" in str(fault) or "terminat" in str(fault)
    return isinstance(
        fault,
        ConnectionError
        | TimeoutError
        | socket.gaierror
        | asyncpg.PostgresConnectionError
        | asyncpg.OperatorInterventionError
        | asyncpg.CannotConnectNowError
        # No connection, memory or disk left; a server that has become a standby.
        | asyncpg.InsufficientResourcesError
        | asyncpg.ReadOnlySQLTransactionError
        # asyncpg's own surprise at a connection that dies while it is made.
        | asyncpg.InternalClientError,
    )


def is_race(fault: BaseException) -> bool:
    """Tell whether another transaction was in the way: doing it again is all it takes."""
    return isinstance(fault, asyncpg.SerializationError | asyncpg.DeadlockDetectedError)


class _Kept(asyncpg.Connection):  # type: ignore[misc]
    """A connection that is given back as it is: no transaction of ours leaves anything behind in its session."""

    def get_reset_query(self) -> str:
        """Return nothing to be said when it is given back: it would be a round trip for each transaction."""
        return ""


class Store:
    """One service's database."""

    owner: str
    clock: Clock
    epoch: int
    """Rises by one with each start of the writer; stands in every bucket value."""
    outbox_full: bool
    """Whether the outbox is at ``OUTBOX_ROWS_MAX``, as ``look`` last saw it."""

    deposed: bool
    """Whether it is known that another process has taken over: no transaction is begun any more."""
    name: str
    """This process's sessions, as the database lists them."""

    def __init__(self, pool: asyncpg.Pool, dsn: Secret, *, name: str, owner: str, clock: Clock) -> None:
        self.name = name
        self._fence = 0
        self.deposed = False
        self._pool = pool
        self._dsn = dsn
        self._bells: list[Callable[[], None]] = []
        self.owner = owner
        self.clock = clock
        self.beside: dict[Any, Any] = {}
        self._turn: asyncio.Lock | None = None
        self.epoch = 0
        self.outbox_full = False

    @classmethod
    async def connect(
        cls, dsn: Secret, *, owner: str, clock: Clock, migrations: Path | None = None, pool_max: int = 6
    ) -> "Store":
        """Return a store, migrated.

        Waits for the database up to ``CONNECT_WAIT_S``, then raises ``Unavailable``. Raises
        ``MigrationMismatch`` for an edited migration.
        """
        until = time.monotonic() + CONNECT_WAIT_S
        name = f"{owner}/{secrets.token_hex(4)}"
        while True:
            try:
                await _migrated(dsn, owner, migrations)
                pool = await asyncpg.create_pool(
                    dsn.reveal(),
                    # None is kept up behind our back: asyncpg would complain aloud while the server is away.
                    min_size=0,
                    max_size=pool_max,
                    max_inactive_connection_lifetime=60,
                    connection_class=_Kept,
                    command_timeout=STATEMENT_WAIT_S,
                    timeout=ACQUIRE_WAIT_S,
                    init=_with_codecs,
                    server_settings=_settings(name),
                )
            except Exception as fault:
                if not is_away(fault):
                    raise
                if time.monotonic() > until:
                    raise Unavailable(f"the database of {owner} does not answer: {fault}") from fault
                await asyncio.sleep(0.1)
            else:
                store = cls(pool, dsn, name=name, owner=owner, clock=clock)
                async with store.transaction() as tx:
                    store.epoch = await tx.value("SELECT epoch FROM writer")
                return store

    def take_turns(self) -> None:
        """Have transactions that change wait for each other before they take a connection, not while they hold one.

        For a service that decides one thing at a time: those who wait would hold all connections.
        """
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self, *, changes: bool = False) -> AsyncIterator[Transaction]:
        """Commit at the end of the block; roll back where it raises. Raises ``Unavailable``.

        One that ``changes`` waits for its turn, where they are taken (``take_turns``). Raises
        ``StaleSnapshot`` where another transaction was in the way: load and decide again; ``Deposed`` where
        another process has taken over.
        """
        async with contextlib.AsyncExitStack() as turn:
            if changes and self._turn is not None:
                await turn.enter_async_context(self._turn)
            async with self._transaction() as tx:
                yield tx

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        self._refuse()
        try:
            async with self._pool.acquire(timeout=ACQUIRE_WAIT_S) as connection:
                tx = Transaction(connection, self.clock.now(), self.beside, self.epoch)
                try:
                    async with connection.transaction():
                        yield tx
                        await tx.flush()
                        await self._check(tx)
                except BaseException:
                    tx.ended(committed=False)
                    raise
                tx.ended(committed=True)
        except Exception as fault:
            if is_away(fault):
                raise Unavailable(
                    f"the database of {self.owner} is away: {type(fault).__name__}"
                ) from fault
            if is_race(fault):
                raise StaleSnapshot(str(fault)) from fault
            raise
        tx.committed()
        if tx.outbox_ids:
            for ring in self._bells:
                ring()

    def fence(self, epoch: int) -> None:
        """Have every transaction from now on commit only as long as this is the epoch."""
        self.epoch = self._fence = epoch

    @property
    def fenced(self) -> bool:
        """Whether commits are only of one epoch."""
        return bool(self._fence)

    async def _check(self, tx: Transaction) -> None:
        if self._fence and not await tx.value("SELECT still_leads($1)", self._fence):
            self.deposed = True
            self._refuse()

    def _refuse(self) -> None:
        if self.deposed:
            raise Deposed(f"{self.owner} has a later leader than epoch {self._fence}")

    async def look(self) -> int:
        """Return how many rows wait in the outbox (``OUTBOX_ROWS_MAX`` stands for more, too).

        Sets ``outbox_full``. Raises ``Unavailable``.
        """
        async with self.transaction() as tx:
            row = await tx.row(_LOOK, OUTBOX_ROWS_MAX, DEAD_LETTERS_COUNTED)
            assert row is not None, "counts are always there"
            oldest_s = 0.0 if row["oldest"] is None else (tx.now - row["oldest"]).total_seconds()
        waiting: int = row["waiting"]
        self.outbox_full = waiting >= OUTBOX_ROWS_MAX
        METRICS.set("mesh_outbox_rows", waiting, owner=self.owner)
        METRICS.set("mesh_outbox_oldest_seconds", max(0.0, oldest_s), owner=self.owner)
        METRICS.set("mesh_dead_letters_kept", row["letters"], owner=self.owner)
        return waiting

    def on_told(self, ring: Callable[[], None]) -> None:
        """Call ``ring`` after each commit that left something to be told."""
        self._bells.append(ring)

    async def connection(self) -> asyncpg.Connection:
        """Return a connection of its own, outside of the pool: for locks that last a session.

        Raises ``Unavailable``.
        """
        try:
            connection = await asyncpg.connect(
                self._dsn.reveal(),
                timeout=ACQUIRE_WAIT_S,
                command_timeout=STATEMENT_WAIT_S,
                server_settings=_settings(self.name),
            )
        except Exception as fault:
            if is_away(fault):
                raise Unavailable(
                    f"the database of {self.owner} is away: {type(fault).__name__}"
                ) from fault
            raise
        return connection

    async def close(self) -> None:
        """Give all connections back, within a second."""
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self._pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._pool.terminate()


def _settings(name: str) -> dict[str, str]:
    return {
        "application_name": name,
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": "60000",
        "jit": "off",
    }


async def _migrated(dsn: Secret, owner: str, migrations: Path | None) -> None:
    connection = await asyncpg.connect(
        dsn.reveal(),
        timeout=ACQUIRE_WAIT_S,
        command_timeout=120,
        server_settings=_settings(owner),
    )
    try:
        await migrate(connection, migrations)
    finally:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.InterfaceError):
            await connection.close(timeout=CLOSE_WAIT_S)


async def _with_codecs(connection: asyncpg.Connection) -> None:
    """Give JSON columns as what they hold."""
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, encoder=_json_text, decoder=msgspec.json.decode, schema="pg_catalog", format="text"
        )


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
