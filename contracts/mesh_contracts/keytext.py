"""How an API key or join token is written: ``mesh_<role>_<30 base62><6 base62 of a CRC32>``.

The checksum lets a door refuse a mistyped or invented key without looking it up. Nobody stores the
text: what is kept is ``digest_of`` it, and ``hint_of`` it for people.
"""

import re
from hashlib import sha256
from zlib import crc32

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY_CHARS = 30
CHECK_CHARS = 6
ROLES = ("admin", "project", "join")
"""What a text may open: everything, one project, or a node's enrolment."""

_TEXT = re.compile(r"mesh_([a-z]{1,16})_([0-9A-Za-z]{36})")


def key_text(role: str, body: str) -> str:
    """Return the whole text for ``body``: ``BODY_CHARS`` base62 characters, drawn by the caller."""
    assert role in ROLES, role
    assert len(body) == BODY_CHARS and set(body) <= set(BASE62), "a body is drawn from BASE62"  # noqa: PT018
    text = f"mesh_{role}_{body}"
    return text + _check(text)


def role_in(text: str) -> str | None:
    """Return the role a well-formed text names, or nothing where its form or checksum is wrong.

    A role here proves nothing: whoever knows the format can make such a text.
    """
    match = _TEXT.fullmatch(text)
    if match is None or match[1] not in ROLES:
        return None
    if _check(text[:-CHECK_CHARS]) != text[-CHECK_CHARS:]:
        return None
    return match[1]


def digest_of(text: str) -> str:
    """Return the SHA-256 of the whole text, as 64 hex digits: the only form that is stored."""
    return sha256(text.encode()).hexdigest()


def hint_of(text: str) -> str:
    """Return what may be shown of a text: its prefix and its last four characters."""
    return f"{text.rpartition('_')[0]}_…{text[-4:]}"


def access_key_of(digest: str) -> str:
    """Return the key in bucket ``access`` that says what the API key with this digest opens."""
    return f"key.{digest}"


def _check(text: str) -> str:
    number, digits = crc32(text.encode()), ""
    for _ in range(CHECK_CHARS):
        number, digit = divmod(number, len(BASE62))
        digits = BASE62[digit] + digits
    return digits
