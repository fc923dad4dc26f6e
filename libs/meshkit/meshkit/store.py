"""Postgres: one transaction that hears once, changes, and tells once; forward migrations."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mesh_contracts.fact import Fact
from meshkit.clock import Clock
from meshkit.config import Secret

F = TypeVar("F", bound=Fact)
Row = dict[str, Any]


class Transaction:
    """One transaction. All of a handler's effects, and what it tells, commit together."""

    now: datetime
    """The store's clock when the transaction began."""

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        """Return all rows of a query, as dicts."""
        raise NotImplementedError

    async def row(self, sql: str, *args: Any) -> Row | None:
        """Return the first row, or nothing."""
        raise NotImplementedError

    async def value(self, sql: str, *args: Any) -> Any:
        """Return the first column of the first row, or nothing."""
        raise NotImplementedError

    async def change(self, sql: str, *args: Any) -> int:
        """Run a command; return how many rows it touched."""
        raise NotImplementedError

    async def change_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a command once a row of arguments."""
        raise NotImplementedError

    async def tell(self, fact: F) -> F:
        """Write ``fact`` to the outbox; return it with its ``version`` and ``recorded_at``.

        The version is taken from the key's counter under its row lock, so facts of one key leave
        in commit order.
        """
        raise NotImplementedError

    async def put(self, bucket: str, key: str, value: msgspec.Struct) -> None:
        """Have ``bucket[key]`` hold ``value`` once this commits (through the outbox, in order)."""
        raise NotImplementedError

    async def drop(self, bucket: str, key: str) -> None:
        """Have ``bucket`` forget ``key`` once this commits."""
        raise NotImplementedError

    def after_commit(self, then: Callable[[], None]) -> None:
        """Call ``then`` once this has committed (never where it rolled back)."""
        raise NotImplementedError


class Store:
    """One service's database."""

    owner: str
    clock: Clock
    epoch: int
    """Rises by one with each start of the writer; stands in every bucket value."""

    @classmethod
    async def connect(
        cls, dsn: Secret, *, owner: str, clock: Clock, migrations: Path | None = None, pool_max: int = 6
    ) -> "Store":
        """Return a store, migrated. Waits for the database up to ``CONNECT_WAIT_S``, then raises
        ``Unavailable``. Raises ``MigrationMismatch`` for an edited migration.
        """
        raise NotImplementedError

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commit at the end of the block; roll back where it raises. Raises ``Unavailable``."""
        raise NotImplementedError
        yield

    async def close(self) -> None:
        """Give all connections back, within a second."""
        raise NotImplementedError
