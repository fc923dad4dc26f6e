"""What was answered under an idempotency key is answered again, for a day, to whoever asks the same."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec
from mesh_contracts import wire
from mesh_contracts.ask import Ask, Principal
from mesh_contracts.fact import tag_of

from meshkit.errors import StaleSnapshot
from meshkit.transaction import Transaction

REPLY_KEPT: Final = timedelta(hours=24)

ENVELOPE: Final = ("ask_id", "asked_at", "deadline", "principal", "traceparent", "idempotency_key")
"""What may differ between an ask and its repetition."""

Name = tuple[str, str, str]
"""Under which a reply is kept: the principal, the ask, the idempotency key."""


def name_of(ask: Ask, principal: Principal) -> Name:
    """Return under which name the reply to an ask with an idempotency key is kept."""
    assert ask.idempotency_key is not None
    return principal.principal_id, tag_of(type(ask)), ask.idempotency_key


def body_hash(ask: Ask) -> bytes:
    """Return the SHA-256 of what an ask wishes, without its envelope."""
    body = msgspec.json.decode(wire.encode(ask))
    for name in ENVELOPE:
        body.pop(name, None)
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).digest()


def at_rest(reply: Any) -> bytes:
    """Return a reply as it is kept: of one that has a form to be kept in (``at_rest``), that."""
    form = getattr(reply, "at_rest", None)
    return wire.encode(reply if form is None else form())


async def given_before(tx: Transaction, names: Sequence[Name]) -> dict[Name, tuple[bytes, bytes]]:
    """Return what was answered under each of some names, and before it the hash of the body it was answered on."""
    if not names:
        return {}
    rows = await tx.rows(
        "SELECT principal, ask, idempotency_key, body_hash, reply FROM reply"
        " JOIN unnest($1::text[], $2::text[], $3::text[]) AS named (principal, ask, idempotency_key)"
        " USING (principal, ask, idempotency_key) WHERE at >= $4",
        *(list(column) for column in zip(*names, strict=True)),
        tx.now - REPLY_KEPT,
    )
    return {
        (row["principal"], row["ask"], row["idempotency_key"]): (row["body_hash"], row["reply"])
        for row in rows
    }


async def keep(tx: Transaction, answered: Sequence[tuple[Name, bytes, Any]]) -> None:
    """Keep replies, each under its name and with the hash of the body it is the answer to.

    Raises ``StaleSnapshot`` where another has answered under one of the names meanwhile.
    """
    if not answered:
        return
    # In one order everywhere, so that two transactions never wait for each other.
    kept = sorted((*name, digest, at_rest(reply)) for name, digest, reply in answered)
    count = await tx.change(
        "INSERT INTO reply (principal, ask, idempotency_key, body_hash, reply, at)"
        " SELECT principal, ask, idempotency_key, body_hash, reply, $6::timestamptz"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[]) WITH ORDINALITY"
        "  AS kept (principal, ask, idempotency_key, body_hash, reply, place) ORDER BY place"
        " ON CONFLICT (principal, ask, idempotency_key) DO UPDATE"
        " SET body_hash = excluded.body_hash, reply = excluded.reply, at = excluded.at WHERE reply.at < $7",
        *(list(column) for column in zip(*kept, strict=True)),
        *(tx.now, tx.now - REPLY_KEPT),
    )
    if count < len(kept):
        raise StaleSnapshot("an idempotency key was used by another meanwhile")
