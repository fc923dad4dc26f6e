"""Names and bounds of what travels: ids, counts, and integers whose unit ends the name.

``Meta`` bounds hold when a message is decoded, not when it is constructed: decode once at the
door, then trust the type. An integer that can pass 2^53 is declared ``Wide`` and travels as a
decimal string in JSON; it is an ``int`` on both sides.
"""

import os
import re
import secrets
import time
import uuid
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any

from msgspec import Meta

ID_PATTERN = r"^[a-z]+_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
SITE_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
"""A site is one dotless token: it stands in every subject."""

DEFAULT_SITE = "fr-idf-1"

DRAWN_BYTES = 2_000
VARIANTS = {digit: "89ab"[place % 4] for place, digit in enumerate("0123456789abcdef")}
"""The digit that says which layout a UUID has; two of its bits are random."""

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
FactId = Id
OrganizationId = Id
ProjectId = Id
KeyId = Id
NodeId = Id
EndpointId = Id
WorkloadId = Id
LeaseId = Id
JobId = Id
RequestId = Id
DeviceId = Annotated[str, Meta(min_length=1, max_length=128)]
"""A device's own UUID as its driver gives it (``GPU-…``), or ``rehearsal-…``."""

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
"""What people call a thing: lower case, digits, dots and dashes, at most 63 characters."""

Site = Annotated[str, Meta(pattern=SITE_PATTERN)]
Text = Annotated[str, Meta(max_length=2_000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Sequence = Annotated[int, Meta(ge=0, le=2**53)]
Time = Annotated[datetime, Meta(tz=True)]
"""A moment, with its zone: RFC 3339 in JSON. Its schema says so, and so tells it from a text."""

TraceParent = Annotated[str, Meta(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]


class Wide(int):
    """A non-negative integer that may pass 2^53: a decimal string in JSON, an int in Python.

    :mod:`mesh_contracts.wire` encodes and decodes it; give it ``Wide(n)``, not a plain ``int``.
    """


EnergyUj = Wide
CarbonUg = Wide
MoneyMicroeur = Wide


def new_id(kind: str, *, now_ms: int | None = None) -> str:
    """Return a fresh ``<kind>_<UUIDv7>``; doors draw ids, decisions never do."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    # Laid out by hand, as ``_uuid7`` does with numbers: every request draws one.
    at, drawn = f"{milliseconds & (2**48 - 1):012x}", _DRAWN.take(20)
    variant = VARIANTS[drawn[3]]
    return f"{kind}_{at[:8]}-{at[8:]}-7{drawn[:3]}-{variant}{drawn[4:7]}-{drawn[7:19]}"


def drawn_hex(count: int) -> str:
    """Return ``count`` hexadecimal digits of the system's own chance, which nobody else has got."""
    return _DRAWN.take(count)


class _Drawn:
    """Hexadecimal digits from the system's own chance, drawn for many ids at once."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Draw anew: a forked process must not say what its parent says."""
        self._digits, self._at = "", 0

    def take(self, count: int) -> str:
        """Return ``count`` digits that nobody else has got."""
        if self._at + count > len(self._digits):
            self._digits, self._at = secrets.token_hex(DRAWN_BYTES), 0
        begin = self._at
        self._at = begin + count
        return self._digits[begin : begin + count]


_DRAWN = _Drawn()
os.register_at_fork(after_in_child=_DRAWN.forget)


def derived_id(kind: str, at: datetime, *parts: str) -> str:
    """Return the id that follows from ``parts``: the same parts and time give the same id.

    ``at`` is the time of the cause, so that ids still sort by time.
    """
    digest = sha256("\x1f".join((kind, *parts)).encode()).digest()
    return f"{kind}_{_uuid7(int(at.timestamp() * 1_000), digest[:10])}"


def is_id(text: str, kind: str | None = None) -> bool:
    """Tell whether ``text`` is an id (of ``kind``, where one is given)."""
    return bool(re.match(ID_PATTERN, text)) and (kind is None or text.startswith(f"{kind}_"))


_IMAGE = re.compile(
    r"[A-Za-z0-9][\w.-]*(:\d+(?=/))?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", re.ASCII
)
_IMAGE_SOURCES = {
    *("containers-storage", "dir", "docker", "docker-archive", "docker-daemon", "oci", "oci-archive"),
    *("ostree", "sif", "tarball"),
}
"""Words before a colon that mean files of the server where an image is run (containers-transports(5)), no registry."""


def is_image(text: str) -> bool:
    """Tell whether ``text`` names a container image of a registry: with its port, tag and digest, if it has them."""
    source, named, _ = text.partition(":")
    return bool(_IMAGE.fullmatch(text)) and not (named and source in _IMAGE_SOURCES)


def _uuid7(milliseconds: int, randomness: bytes) -> uuid.UUID:
    """Lay out RFC 9562 section 5.7: 48 bits of time, version, variant, 74 bits of ``randomness``."""
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(randomness, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def enc_hook(value: Any) -> Any:
    """Encode what msgspec does not know: ``Wide`` as a decimal string."""
    if isinstance(value, Wide):
        return str(int(value))
    message = f"no encoding for {type(value).__name__}"
    raise TypeError(message)


def dec_hook(kind: type, value: Any) -> Any:
    """Decode what msgspec does not know: ``Wide`` from a decimal string or a plain integer."""
    if kind is Wide:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            return Wide(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return Wide(value)
        message = "expected a non-negative decimal string"
        raise ValueError(message)
    message = f"no decoding for {kind.__name__}"
    raise TypeError(message)
