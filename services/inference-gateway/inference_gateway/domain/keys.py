"""What an API key looks like, and what the key's entry opens."""

from collections.abc import Callable
from datetime import datetime

from mesh_contracts.identity import AccessEntry
from mesh_contracts.keytext import access_key_of, digest_of, role_in

from inference_gateway.domain.faults import Fault, invalid_key

HEADER_CHARS_MAX = 128


def bearer(header: str | None) -> str | None:
    """Return the key in an ``Authorization`` header, or nothing where there is none."""
    if header is None or len(header) > HEADER_CHARS_MAX:
        return None
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def ours(key: str) -> bool:
    """Tell whether a key that opens nothing is at least one of our making."""
    return role_in(key) is not None


def access_key(key: str) -> str:
    """Return where the bucket ``access`` holds what ``key`` opens."""
    return access_key_of(digest_of(key))


def opens(entry: AccessEntry | None, now: Callable[[], datetime]) -> AccessEntry | Fault:
    """Return the entry where it opens something ``now``, else why not."""
    if entry is None:
        return invalid_key("The API key is not known here.")
    if entry.revoked:
        return invalid_key("The API key has been revoked.")
    if entry.expires_at is not None and entry.expires_at <= now():
        return invalid_key("The API key has expired.")
    return entry
