"""The SQL of what was decided: rows in commit order, and snapshots that a start goes on from."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from meshkit.store import Transaction

SNAPSHOTS_KEPT = 2

_HEAD = "SELECT coalesce(max(seq), 0) FROM decision WHERE site = $1"
_WRITE = """
INSERT INTO decision (site, seq, epoch, at, input, outcome)
SELECT $1, seq, $2, $3, input, outcome
FROM unnest($4::bigint[], $5::text[], $6::text[]) AS row (seq, input, outcome)
"""
_PRUNE = """
DELETE FROM decision WHERE site = $1 AND seq = ANY (ARRAY(
    SELECT seq FROM decision WHERE site = $1
    AND seq < (SELECT max(seq) FROM snapshot WHERE site = $1)
    AND (at < $2 OR seq <= (SELECT max(seq) FROM decision WHERE site = $1) - $3)
    ORDER BY seq LIMIT $4))
"""
_PRUNE_SNAPSHOTS = """
DELETE FROM snapshot WHERE site = $1 AND seq NOT IN (
    SELECT seq FROM snapshot WHERE site = $1 ORDER BY seq DESC LIMIT $2)
"""


class Row(NamedTuple):
    """One input and what was decided on it, both encoded."""

    seq: int
    input: str
    outcome: str


async def hold(tx: Transaction, site: str) -> int:
    """Return the number of the last decision, once no other is under way; none is until this ends."""
    return int(await tx.value("SELECT hold_decisions($1)", site))


async def head(tx: Transaction, site: str) -> int:
    """Return the number of the last decision, 0 before the first."""
    return int(await tx.value(_HEAD, site))


async def write(tx: Transaction, site: str, rows: Sequence[Row]) -> None:
    """Write decisions down. A number that stands there already is a fault."""
    seqs, inputs, outcomes = zip(*rows, strict=True)
    await tx.change(_WRITE, site, tx.epoch, tx.now, list(seqs), list(inputs), list(outcomes))


async def read(tx: Transaction, site: str, after: int, limit: int) -> list[Row]:
    """Return at most ``limit`` decisions that follow the one with number ``after``."""
    rows = await tx.rows(
        "SELECT seq, input, outcome FROM decision WHERE site = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        *(site, after, limit),
    )
    return [Row(**row) for row in rows]


async def last_snapshot(tx: Transaction, site: str) -> tuple[int, list[bytes]] | None:
    """Return the newest snapshot, and after which decision it was taken."""
    row = await tx.row(
        "SELECT seq, state FROM snapshot WHERE site = $1 ORDER BY seq DESC LIMIT 1", site
    )
    return None if row is None else (row["seq"], row["state"])


async def keep_snapshot(tx: Transaction, site: str, seq: int, state: list[bytes]) -> None:
    """Keep a snapshot, and of the older ones the newest."""
    await tx.change(
        "INSERT INTO snapshot (site, seq, epoch, at, state)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        *(site, seq, tx.epoch, tx.now, state),
    )
    await tx.change(_PRUNE_SNAPSHOTS, site, SNAPSHOTS_KEPT)


async def prune(tx: Transaction, site: str, before: datetime, most: int, batch: int) -> int:
    """Forget at most ``batch`` decisions that a snapshot covers; return how many.

    Those from ``before``, and those that are more than ``most`` ago.
    """
    return await tx.change(_PRUNE, site, before, most, batch)
