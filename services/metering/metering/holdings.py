"""The SQL of leases: which gateways live, what money each holds, and each one's shares."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec
from mesh_contracts.metering import Holding
from mesh_contracts.units import MoneyMicroeur
from meshkit.store import Row, Transaction

from metering.domain import escrow
from metering.domain.escrow import Account
from metering.domain.scopes import Span

_ACCOUNT: Final = Account.__struct_fields__
_ACCOUNT_KINDS: Final = (
    *("text", "timestamptz", "text", "bigint"),
    *("timestamptz", "bigint", "bigint", "bigint", "bigint"),
)
_ACCOUNTS = f"SELECT {', '.join(f'a.{name}' for name in _ACCOUNT)} FROM account a"  # noqa: S608
_OF_SPANS = (
    " JOIN unnest($1::text[], $2::timestamptz[]) AS of (scope_id, period_start)"
    " USING (scope_id, period_start)"
)
# The names of columns are this module's own; every value is a parameter.
_KEEP_ACCOUNTS = (
    f"INSERT INTO account ({', '.join(_ACCOUNT)}) SELECT * FROM unnest("  # noqa: S608
    + ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(_ACCOUNT_KINDS, 1))
    + ") ON CONFLICT (scope_id, period_start, producer, epoch) DO UPDATE SET since = excluded.since,"
    " hardened = excluded.hardened, granted = excluded.granted, returned = excluded.returned,"
    " charged = excluded.charged"
)

_OUTSTANDING = "(a.granted - a.returned - a.charged)"
_HOLDERS = (
    "SELECT g.producer, g.epoch, g.lives_until, count(DISTINCT a.scope_id) AS scopes,"  # noqa: S608
    f" sum({_OUTSTANDING})::bigint AS held FROM gateway g JOIN account a ON a.producer = g.producer"
    f" WHERE g.producer > $1 AND {_OUTSTANDING} > 0 GROUP BY g.producer ORDER BY g.producer"
)
_HELD = (
    "SELECT a.scope_id, a.period_start, sum(a.granted - a.returned - a.charged)::bigint AS held"  # noqa: S608
    f" FROM account a{_OF_SPANS} GROUP BY 1, 2"
)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway's share of one scope's ceilings, and what it was asked for; absent is unlimited."""

    scope_id: str
    producer: str
    requests_wanted: int
    tokens_wanted: int
    parallel_wanted: int
    requests: int | None = None
    tokens: int | None = None
    parallel: int | None = None


_SHARE: Final = Share.__struct_fields__
_SHARES = f"SELECT {', '.join(_SHARE)} FROM share"  # noqa: S608


async def alive(
    tx: Transaction, producer: str, epoch: int, settled_below: int, until: datetime
) -> bool:
    """Note that a gateway lives; tell whether ``epoch`` is its newest (an ask from before is none)."""
    changed = await tx.change(
        "INSERT INTO gateway AS held (producer, epoch, settled_below, lives_until)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (producer) DO UPDATE SET epoch = excluded.epoch,"
        " settled_below = greatest(held.settled_below, excluded.settled_below),"
        " lives_until = greatest(held.lives_until, excluded.lives_until)"
        " WHERE held.epoch <= excluded.epoch",
        *(producer, epoch, settled_below, until),
    )
    return changed == 1


async def count_alive(tx: Transaction) -> int:
    """Return how many gateways hold leases now."""
    count: int = await tx.value("SELECT count(*) FROM gateway WHERE lives_until > $1", tx.now)
    return count


async def accounts(tx: Transaction, spans: Collection[Span]) -> list[Account]:
    """Return all that gateways hold in these spans; their scopes are held."""
    if not spans:
        return []
    rows = await tx.rows(_ACCOUNTS + _OF_SPANS, *_columns(spans))
    return [Account(**row) for row in rows]


async def accounts_of(tx: Transaction, producer: str, spans: Collection[Span]) -> list[Account]:
    """Return what one gateway holds in these spans, over all its epochs; their scopes are held."""
    rows = await tx.rows(f"{_ACCOUNTS}{_OF_SPANS} WHERE a.producer = $3", *_columns(spans), producer)
    return [Account(**row) for row in rows]


async def held(tx: Transaction, spans: Collection[Span]) -> dict[Span, int]:
    """Return what gateways hold in each span, together."""
    rows = await tx.rows(_HELD, *_columns(spans))
    return {(row["scope_id"], row["period_start"]): row["held"] for row in rows}


async def keep_accounts(tx: Transaction, kept: Sequence[Account]) -> None:
    """Keep accounts as they are now; their scopes are held."""
    if kept:
        await tx.change(_KEEP_ACCOUNTS, *_fields(kept, _ACCOUNT))


async def holders(tx: Transaction, after: str, most: int) -> list[Holding]:
    """Return the gateways that hold anything, by id from ``after`` on."""
    return [_holding(row) for row in await tx.rows(f"{_HOLDERS} LIMIT $2", after, most)]


async def hold_holder(tx: Transaction, producer: str) -> Holding | None:
    """Return what one gateway holds, held against its renewals until the end; nothing where that is nothing."""
    await tx.rows("SELECT 1 FROM gateway WHERE producer = $1 FOR UPDATE", producer)
    rows = await tx.rows(_HOLDERS.replace("g.producer > $1", "g.producer = $1"), producer)
    return _holding(rows[0]) if rows else None


async def outstanding_of(tx: Transaction, producer: str, most: int) -> list[Account]:
    """Return accounts of one gateway that hold anything; their scopes are held."""
    rows = await tx.rows(
        f"{_ACCOUNTS} WHERE a.producer = $1 AND {_OUTSTANDING} > 0"
        " ORDER BY a.scope_id, a.period_start, a.epoch LIMIT $2",
        *(producer, most),
    )
    return [Account(**row) for row in rows]


async def release(tx: Transaction, freed: Sequence[Account], actor: str) -> None:
    """Free all that these accounts hold, and write down who did; their scopes are held."""
    await keep_accounts(tx, [escrow.release(account) for account in freed])
    await tx.change_many(
        "INSERT INTO released VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            (one.producer, one.epoch, one.scope_id, one.period_start, one.outstanding, tx.now, actor)
            for one in freed
        ],
    )


async def end_epochs(tx: Transaction, producer: str, below: int) -> None:
    """Have a gateway's epochs before ``below`` hold nothing ever again; it is held."""
    await tx.change("UPDATE gateway SET epoch = $2 WHERE producer = $1", producer, below)


async def settle(tx: Transaction, producer: str, below: int) -> int:
    """Free what a gateway held in epochs before ``below``: all their lines have come; their scopes are held."""
    return await tx.change("DELETE FROM account WHERE producer = $1 AND epoch < $2", producer, below)


async def forget_before(tx: Transaction, spans: Collection[Span]) -> None:
    """Forget what gateways held of each scope before its span; the scopes are held."""
    await tx.change(
        "DELETE FROM account a USING unnest($1::text[], $2::timestamptz[]) AS of (scope_id, period_start)"
        " WHERE a.scope_id = of.scope_id AND a.period_start < of.period_start",
        *_columns(spans),
    )


async def shares(tx: Transaction, scope_ids: Collection[str], but: str) -> list[Share]:
    """Return the shares of gateways that live, except ``but``'s; their scopes are held."""
    rows = await tx.rows(
        f"{_SHARES} WHERE scope_id = ANY($1::text[]) AND producer <> $2 AND lives_until > $3",
        *(list(scope_ids), but, tx.now),
    )
    return [Share(**row) for row in rows]


async def keep_shares(tx: Transaction, kept: Sequence[Share], until: datetime) -> None:
    """Keep shares, good until then; their scopes are held."""
    await tx.change(
        "INSERT INTO share (lives_until, scope_id, producer, requests_wanted, tokens_wanted,"
        " parallel_wanted, requests, tokens, parallel)"
        " SELECT $1::timestamptz, of.* FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[],"
        " $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[]) AS of"
        " ON CONFLICT (scope_id, producer) DO UPDATE SET lives_until = excluded.lives_until,"
        " requests_wanted = excluded.requests_wanted, tokens_wanted = excluded.tokens_wanted,"
        " parallel_wanted = excluded.parallel_wanted, requests = excluded.requests,"
        " tokens = excluded.tokens, parallel = excluded.parallel",
        until,
        *_fields(kept, _SHARE),
    )


async def forget_shares(tx: Transaction) -> int:
    """Forget shares that are over; return how many."""
    return await tx.change("DELETE FROM share WHERE lives_until <= $1", tx.now)


def _holding(row: Row) -> Holding:
    return Holding(
        id=row["producer"],
        epoch=row["epoch"],
        lives_until=row["lives_until"],
        scopes=row["scopes"],
        held_microeur=MoneyMicroeur(row["held"]),
    )


def _fields(kept: Iterable[msgspec.Struct], names: tuple[str, ...]) -> list[list[object]]:
    return [[getattr(one, name) for one in kept] for name in names]


def _columns(spans: Collection[Span]) -> tuple[list[str], list[datetime]]:
    return [scope_id for scope_id, _ in spans], [start for _, start in spans]
