"""Who asks, sealed by whoever vouches for it and opened by whoever is asked: one place for both."""

import base64
import binascii
import hmac
from datetime import datetime
from hashlib import sha256

import msgspec
from mesh_contracts import wire
from mesh_contracts.ask import Principal

from meshkit.config import Secret
from meshkit.errors import PrincipalInvalid

VERSION = "p1"
SEALED_CHARS_MAX = 2_048


def seal(principal: Principal, secret: Secret) -> str:
    """Return ``p1.<body>.<HMAC-SHA256>``, base64url; readable by all, made only with the secret."""
    body = _text(wire.encode(principal))
    return f"{VERSION}.{body}.{_text(_mac(body, secret))}"


def unseal(text: str, secret: Secret, now: datetime) -> Principal:
    """Return the principal. Raises ``PrincipalInvalid`` where it is forged, garbled or has expired."""
    if len(text) > SEALED_CHARS_MAX:
        raise PrincipalInvalid("the principal is too long")
    version, _, rest = text.partition(".")
    body, _, mac = rest.partition(".")
    if version != VERSION or not body or not mac:
        raise PrincipalInvalid("there is no principal of a kind that is known here")
    try:
        if not hmac.compare_digest(_bytes(mac), _mac(body, secret)):
            raise PrincipalInvalid("the principal is not sealed by this mesh")
        principal = wire.decode(_bytes(body), Principal)
    except (binascii.Error, ValueError, msgspec.DecodeError) as fault:
        raise PrincipalInvalid("the principal is garbled") from fault
    if principal.expires_at <= now:
        raise PrincipalInvalid("the principal has expired")
    return principal


def _mac(body: str, secret: Secret) -> bytes:
    key = secret.reveal().encode()
    return hmac.new(key, f"{VERSION}.{body}".encode("ascii", "replace"), sha256).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if _text(raw) != text:
        # Python reads "/" as "_" and heeds no spare bits: of one seal there would be several texts.
        raise ValueError("this is not how bytes are written here")
    return raw
