"""Forward migrations: each file once, in its own transaction, and none that has shipped is edited."""

import hashlib
import re
from pathlib import Path

import asyncpg

from meshkit.errors import MigrationMismatch

OWN = Path(__file__).parent / "migrations"
OWN_PREFIX = "meshkit/"
FILE = re.compile(r"^\d{4}_[a-z0-9_]+\.sql$")
LOCK = 0x6D696772
"""The advisory lock under which one process at a time migrates a database."""

TABLE = """
CREATE TABLE IF NOT EXISTS migration (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
)
"""


def migrations_in(folder: Path, prefix: str = "") -> list[tuple[str, str]]:
    """Return (name, SQL) of a folder's migrations in order. Raises ``MigrationMismatch`` for other files."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix != ".sql":
            continue
        if not FILE.match(path.name):
            raise MigrationMismatch(f"{path.name}: a migration is named NNNN_what_it_does.sql")
        found.append((prefix + path.stem, path.read_text()))
    return found


def checksum(sql: str) -> str:
    """Return what tells an edited migration from the one that shipped."""
    return hashlib.sha256(sql.encode()).hexdigest()


async def migrate(connection: asyncpg.Connection, folder: Path | None = None) -> list[str]:
    """Bring a database up to date; return the names of what was applied.

    meshkit's own tables come first. Raises ``MigrationMismatch`` where a migration was edited after
    it was applied, or where the database holds one that this program does not know.
    """
    wanted = migrations_in(OWN, OWN_PREFIX) + (migrations_in(folder) if folder is not None else [])
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    try:
        await connection.execute(TABLE)
        rows = await connection.fetch("SELECT name, checksum FROM migration")
        applied = {row["name"]: row["checksum"] for row in rows}
        _compare(wanted, applied)
        fresh = [(name, sql) for name, sql in wanted if name not in applied]
        for name, sql in fresh:
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute(
                    "INSERT INTO migration (name, checksum) VALUES ($1, $2)", name, checksum(sql)
                )
        return [name for name, _ in fresh]
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


def _compare(wanted: list[tuple[str, str]], applied: dict[str, str]) -> None:
    known = dict(wanted)
    for name, was in applied.items():
        if name not in known:
            raise MigrationMismatch(
                f"the database holds migration {name}, which this program does not know: run the newer program"
            )
        if checksum(known[name]) != was:
            raise MigrationMismatch(
                f"migration {name} was edited after it was applied: write a new one instead"
            )
