"""Nodes: what a join token still opens, who may enrol, and who may connect to the bus."""

import base64
import binascii
from datetime import datetime, timedelta

import msgspec
from mesh_contracts.ask import Problem
from mesh_contracts.fact import born_of
from mesh_contracts.identity import CreateJoinToken, EnrolNode, JoinToken, NodeEnrolled
from mesh_contracts.units import derived_id

USES_MAX = 10_000
"""Nodes that one token may enrol: a hall at most."""
LIFETIME_S_MAX = 7 * 24 * 3600
PUBLIC_KEY_CHARS = 56
USER_PREFIX = 20 << 3
"""The first byte of a user's public nkey: what makes it begin with ``U``."""


class Node(msgspec.Struct, frozen=True):
    """A node that has enrolled."""

    node_id: str
    name: str
    public_key: str
    site: str


class Enrol(msgspec.Struct, frozen=True):
    """Keep ``node``, burn one use of the token, tell the fact."""

    node: Node
    token_id: str
    fact: NodeEnrolled


class LetIn(msgspec.Struct, frozen=True):
    """The caller is ``node`` and gets its rights."""

    node: Node


class LetJoin(msgspec.Struct, frozen=True):
    """The caller is unknown but holds a token: it may ask to be enrolled, and nothing else."""


class TurnAway(msgspec.Struct, frozen=True):
    """The caller gets nothing; ``reason`` is one of a few words, for the counters."""

    reason: str


def offer(ask: CreateJoinToken, now: datetime) -> JoinToken | Problem:
    """Return a token's record (without its text) for the uses and life that are wished for."""
    if not 1 <= ask.uses <= USES_MAX:
        return _unusable("uses", f"a token lets 1 to {USES_MAX} nodes enrol, not {ask.uses}")
    if not 1 <= ask.lifetime_s <= LIFETIME_S_MAX:
        return _unusable("lifetime_s", f"a token lives 1 to {LIFETIME_S_MAX} s, not {ask.lifetime_s}")
    return JoinToken(
        id=derived_id("token", ask.asked_at, ask.ask_id),
        expires_at=now + timedelta(seconds=ask.lifetime_s),
        uses_left=ask.uses,
    )


def enrol(
    ask: EnrolNode, known: Node | None, token: JoinToken | None, now: datetime
) -> Node | Enrol | Problem:
    """Return the node as it is known already, or how it comes to be, or why not.

    A node whose answer was lost asks again with the same key: it gets the same id and burns nothing,
    also when the token is over. ``token`` is the one that was shown, where there is such a one.
    """
    if known is not None:
        return known
    if not is_public_key(ask.public_key):
        return Problem(
            title="Not a node's key",
            status=422,
            code="invalid_public_key",
            detail="public_key is not a user's public nkey (U…): the agent makes one at its first start",
            param="public_key",
        )
    if token is None or not opens(token, now):
        return Problem(
            title="The join token opens nothing",
            status=403,
            code="join_token_invalid",
            detail="the join token is unknown, used up or expired: make a new one and start the agent with it",
            param="join_token",
        )
    node = Node(
        derived_id("node", ask.asked_at, ask.public_key), ask.name, ask.public_key, site=ask.site
    )
    envelope = born_of(ask, now, NodeEnrolled, key=node.node_id)
    fact = NodeEnrolled(**envelope, node_id=node.node_id, name=node.name, public_key=node.public_key)
    return Enrol(node, token.id, fact)


def let_in(
    node: Node | None, token: JoinToken | None, now: datetime, *, proven: bool
) -> LetIn | LetJoin | TurnAway:
    """Return what a caller at the bus' door gets.

    ``proven`` says that it signed the server's nonce with the key it claims; ``node`` and ``token`` are
    what is known under the key and the token it showed.
    """
    if not proven:
        return TurnAway("unproven")
    if node is not None:
        return LetIn(node)
    if token is None:
        return TurnAway("unknown")
    return LetJoin() if opens(token, now) else TurnAway("token-over")


def opens(token: JoinToken, now: datetime) -> bool:
    """Tell whether a token still lets a node enrol."""
    return token.uses_left > 0 and now < token.expires_at


def is_public_key(text: str) -> bool:
    """Tell whether ``text`` is a user's public nkey: base32 of a prefix, 32 bytes and their CRC-16."""
    if len(text) != PUBLIC_KEY_CHARS:
        return False
    try:
        raw = base64.b32decode(text)
    except (binascii.Error, ValueError):
        return False
    return raw[0] == USER_PREFIX and binascii.crc_hqx(raw[:-2], 0) == int.from_bytes(raw[-2:], "little")


def _unusable(param: str, detail: str) -> Problem:
    return Problem(
        title="The join token cannot be made",
        status=422,
        code="invalid_join_token",
        detail=detail,
        param=param,
    )
