"""How a value stands in a bucket."""

import msgspec

BEAT_KEY = "_beat"
EPOCH_KEY = "_epoch"
"""Written once by each writer: whatever an older one sends later is refused by the bus itself."""
OWN_KEYS = (BEAT_KEY, EPOCH_KEY)
"""Keys of the bucket itself; they hold no value."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """How a value stands in a bucket: JSON ``{"epoch", "generation", "value"}``.

    ``epoch`` is the writer's start, ``generation`` its change; readers refuse older ones. A key
    that was dropped leaves an entry without a value for a while.
    """

    epoch: int
    generation: int
    value: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(Entry).decode


def read_entry(data: bytes) -> Entry | None:
    """Return the entry in these bytes, or nothing where there is none."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
