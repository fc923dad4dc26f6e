"""Receipts' signatures: Ed25519 over RFC 8785 canonical JSON."""

import os
from hashlib import sha256
from pathlib import Path

import msgspec
import rfc8785
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from mesh_contracts import wire
from mesh_contracts.carbon import Receipt, ReceiptBody, SigningKey
from meshkit.errors import ConfigError


class Signer:
    """Holds the private key, and signs with it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._public = SigningKey(
            algorithm="Ed25519", public_key=public.hex(), key_fingerprint=sha256(public).hexdigest()
        )

    @classmethod
    def open(cls, path: Path) -> "Signer":
        """Return a signer with the key in ``path``, which is made (0600) where there is none.

        Raises ``ConfigError`` for a file that cannot be used.
        """
        try:
            if not path.exists():
                _make(path)
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, UnsupportedAlgorithm) as fault:
            raise ConfigError(
                f"CARBON_SIGNING_KEY_FILE {path} holds no usable key ({fault}): restore it, or name another"
            ) from fault
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"CARBON_SIGNING_KEY_FILE {path} is not an Ed25519 key: name one that is")
        return cls(key)

    @property
    def public(self) -> SigningKey:
        """The key that verifies what this one signs."""
        return self._public

    def sign(self, body: ReceiptBody) -> Receipt:
        """Return the receipt: what is signed is the canonical JSON of the body alone."""
        fields = {name: getattr(body, name) for name in body.__struct_fields__}
        return Receipt(
            **fields,
            signature=self._key.sign(canonical(body)).hex(),
            key_fingerprint=self._public.key_fingerprint,
        )


def canonical(body: ReceiptBody) -> bytes:
    """Return RFC 8785 canonical JSON of a receipt's body; wide integers are decimal strings in it."""
    return rfc8785.dumps(msgspec.json.decode(wire.encode(body)))


def _make(path: Path) -> None:
    """Write a fresh key. Another process that does the same at once loses, and reads ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, pem)
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
