"""Where a reader of events is: opaque signed text, which proves what it had read last."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

import msgspec

MARK_BYTES = 6
SEAL_BYTES = 12
_BYTES = 8 + MARK_BYTES + SEAL_BYTES
CURSOR_CHARS_MAX = 64
START = b"\0" * MARK_BYTES
"""The mark of a place before which nothing was read."""


class Place(msgspec.Struct, frozen=True):
    """After the event ``sequence``, whose ``mark`` tells it from another stream's event of that number."""

    sequence: int
    mark: bytes = START


def mark_of(fact_id: str) -> bytes:
    """Return what of an event stands in a cursor."""
    return sha256(fact_id.encode()).digest()[:MARK_BYTES]


def sealed(place: Place, secret: bytes) -> str:
    """Return the cursor of a place."""
    body = place.sequence.to_bytes(8, "big") + place.mark
    return urlsafe_b64encode(body + _seal(body, secret)).decode().rstrip("=")


def opened(cursor: str, secret: bytes) -> Place | None:
    """Return the place of a cursor, or nothing where we did not write it."""
    if len(cursor) > CURSOR_CHARS_MAX or not cursor.isascii():
        return None
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        return None
    body, seal = raw[:-SEAL_BYTES], raw[-SEAL_BYTES:]
    if len(raw) != _BYTES or not hmac.compare_digest(seal, _seal(body, secret)):
        return None
    return Place(int.from_bytes(body[:8], "big"), body[8:])


def _seal(body: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, b"event cursor\0" + body, sha256).digest()[:SEAL_BYTES]
