"""Facts that a reader gave up on, and those whose type it does not know yet: kept, listed, redriven."""

from collections.abc import Sequence
from typing import Any, Final

from mesh_contracts.ask import DeadLetter, DeadLetters, Page, Problem
from mesh_contracts.fact import Fact, tag_of

from meshkit.consumer import header_in
from meshkit.ears import DELIVER_MAX, Heard
from meshkit.spans import parsed
from meshkit.transaction import Row, Transaction

PAGE_MAX: Final = 500
ID_MAX: Final = 2**63 - 1
ID_DIGITS: Final = 19
TEXT_CHARS_MAX: Final = 2_000

_KEEP = """
INSERT INTO dead_letter
    (reader, stream, subject, tag, key, version, fact_id, reason, tries, parked, payload, traceparent, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (reader, fact_id) DO NOTHING
"""


_BEGIN = """
INSERT INTO attempt AS held (reader, fact_id, tries) VALUES ($1, $2, 1)
ON CONFLICT (reader, fact_id) DO UPDATE SET tries = held.tries + 1 RETURNING tries
"""


_GO_TO = """
INSERT INTO heard_version AS held (reader, key, version) VALUES ($1, $2, $3)
ON CONFLICT (reader, key) DO UPDATE SET version = greatest(held.version, excluded.version)
RETURNING version
"""


async def keep(tx: Transaction, reader: str, heard: Heard, *, parked: bool, reason: str) -> None:
    """Keep what was heard, with the reason why it had no effect."""
    fact, message = heard.fact, heard.message
    trace = header_in(message.raw_headers, b"traceparent")
    if trace is None or parsed(trace) is None:
        trace = None if fact is None else fact.traceparent
    await tx.change(
        _KEEP,
        reader,
        reader.split("_")[1],
        _kept(message.subject),
        heard.tag if fact is None else tag_of(type(fact)),
        _kept(heard.key) or "?",
        heard.version,
        heard.fact_id,
        _kept(reason),
        heard.tries,
        parked,
        message.data,
        trace,
        tx.now,
    )


async def bury(tx: Transaction, reader: str, heard: Heard, reason: str) -> None:
    """Give a fact up: it is kept with the reason, and counts as heard unless it is good at any time."""
    if heard.fact is None or heard.fact.ordered:
        await hear(tx, reader, heard.fact_id)
    await finished(tx, reader, heard)
    await keep(tx, reader, heard, parked=False, reason=reason)


async def hear(tx: Transaction, reader: str, fact_id: str) -> bool:
    """Count a fact as heard; tell whether it had not been."""
    sql = "INSERT INTO inbox (reader, fact_id, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
    return await tx.change(sql, reader, fact_id, tx.now) > 0


async def begun(tx: Transaction, reader: str, heard: Heard) -> int:
    """Count that a fact is begun; return how often it was, over all processes."""
    tries: int = await tx.value(_BEGIN, reader, heard.fact_id)
    return tries


async def finished(tx: Transaction, reader: str, heard: Heard) -> None:
    """Count no more how often a fact was begun."""
    await tx.change("DELETE FROM attempt WHERE reader = $1 AND fact_id = $2", reader, heard.fact_id)


async def listed(tx: Transaction, page: Page) -> DeadLetters:
    """Return a page of dead letters and parked facts, oldest first; the cursor is an id."""
    cursor = page.cursor or ""
    known = cursor.isascii() and cursor.isdigit() and len(cursor) <= ID_DIGITS
    after = min(int(cursor), ID_MAX) if known else 0
    limit = max(1, min(page.limit, PAGE_MAX))
    rows = await tx.rows(
        "SELECT id AS dead_letter_id, reader, stream, subject, tag, key, fact_id, reason, tries, parked, at"
        " FROM dead_letter WHERE id > $1 ORDER BY id LIMIT $2",
        after,
        limit + 1,
    )
    items = [DeadLetter(**row) for row in rows[:limit]]
    return DeadLetters(items=items, next=str(items[-1].dead_letter_id) if len(rows) > limit else None)


async def load(tx: Transaction, dead_letter_id: int) -> Row | None:
    """Return one dead letter whole, locked, or nothing."""
    return await tx.row("SELECT * FROM dead_letter WHERE id = $1 FOR UPDATE", dead_letter_id)


async def parked(tx: Transaction, reader: str, tags: Sequence[str]) -> list[int]:
    """Return the ids of a reader's parked facts of these types, in the order they came."""
    rows = await tx.rows(
        "SELECT id FROM dead_letter WHERE reader = $1 AND parked AND tag = ANY ($2) ORDER BY id",
        reader,
        list(tags),
    )
    return [row["id"] for row in rows]


async def has_passed(tx: Transaction, reader: str, fact: Fact) -> bool:
    """Have the reader go to this version of the key (held there meanwhile); tell whether it was past it."""
    heard: int = await tx.value(_GO_TO, reader, fact.key, fact.version)
    return heard > fact.version


async def give_up(tx: Transaction, dead_letter_id: int, reason: str) -> None:
    """Turn a parked fact that failed into a dead letter."""
    await tx.change(
        "UPDATE dead_letter SET parked = false, tries = tries + 1, reason = $2 WHERE id = $1",
        *(dead_letter_id, _kept(reason)),
    )


async def forget(tx: Transaction, row: Row) -> None:
    """Let go of a dead letter that has had its effect."""
    await tx.change("DELETE FROM dead_letter WHERE id = $1", row["id"])


def _kept(text: str) -> str:
    """Return what was heard, or quotes it, as it can be kept: no database keeps a NUL."""
    return text[:TEXT_CHARS_MAX].replace("\0", "\\0")


def problem(status: int, code: str, detail: str, **extra: Any) -> Problem:
    """Return why a redrive was refused."""
    return Problem(title="The fact was not redriven", status=status, code=code, detail=detail, **extra)


GIVEN_UP = (
    f"it was begun {DELIVER_MAX} times and never finished: it may end the process that handles it"
)
