"""Bytes to messages and back: JSON, with wide integers as decimal strings."""

from typing import Any, TypeVar

import msgspec

from mesh_contracts.units import dec_hook, enc_hook

T = TypeVar("T")

_encoder = msgspec.json.Encoder(enc_hook=enc_hook)
_tag_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    type("Tagged", (msgspec.Struct,), {"__annotations__": {"tag": str}})
)
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(message: Any) -> bytes:
    """Return ``message`` as JSON."""
    return _encoder.encode(message)


def decode(raw: bytes | bytearray | memoryview, kind: type[T]) -> T:
    """Return ``raw`` as a checked ``kind``. Raises ``msgspec.ValidationError`` where it is not one."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind, dec_hook=dec_hook)
    try:
        decoded: T = decoder.decode(raw)
    except RecursionError as fault:
        raise msgspec.ValidationError("it is nested too deeply") from fault
    return decoded


def tag_in(raw: bytes) -> str:
    """Return the tag of an encoded message, whatever its type. Raises ``msgspec.ValidationError``."""
    tag: str = _tag_decoder.decode(raw).tag
    return tag
