"""The tokens of NATS' auth callout: JWTs signed with an nkey, as the server wants them.

The server asks on ``$SYS.REQ.USER.AUTH`` with a token of its own; the answer is a signed response
that holds either a signed user or a refusal.
"""

import base64
import hashlib
import os
from typing import Any, Literal

import msgspec
import nkeys
from mesh_contracts.rights import Rights
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

_nkeys: Any = nkeys
"""The package has no types."""

LIFE_S = 3_600
"""How long a node's right to be connected lasts where nothing else is said."""

NATS_ISSUER_PREFIX = "N"


class CalloutInvalid(ValueError):
    """A callout request, or a client's signature within it, that does not hold."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Who stands at the server's door, as the server tells it.

    ``public_key`` is what the client claims to be and ``signature`` what it signed ``nonce`` with
    (``proven`` checks it); ``token`` is its auth token. ``user_nkey`` names this very connection
    and is what a user must be signed for; ``server_id`` is whom the response is for.
    """

    user_nkey: str
    server_id: str
    public_key: str
    signature: str
    nonce: str
    token: str
    host: str

    def proven(self) -> bool:
        """Tell whether the client holds the seed of ``public_key``: it signed this nonce."""
        if not (self.public_key and self.signature and self.nonce):
            return False
        try:
            _verify(self.public_key, self.nonce.encode(), _unpadded(self.signature))
        except ValueError:
            return False
        return True


def new_seed(kind: Literal["user", "account"]) -> str:
    """Return a fresh nkey seed (``SU…`` or ``SA…``): a secret."""
    prefix = nkeys.PREFIX_BYTE_USER if kind == "user" else nkeys.PREFIX_BYTE_ACCOUNT
    seed: bytes = _nkeys.encode_seed(os.urandom(32), prefix)
    return seed.decode()


def key_pair(seed: str) -> nkeys.KeyPair:
    """Return the key pair of a seed. Raises ``ValueError`` where it is not one."""
    try:
        pair: nkeys.KeyPair = _nkeys.from_seed(bytearray(seed.strip().encode()))
    except (nkeys.NkeysError, ValueError) as fault:
        raise ValueError("not an nkey seed") from fault
    return pair


def public_key(seed: str) -> str:
    """Return the public nkey (``U…``, ``A…``) of a seed. Raises ``ValueError`` where it is not one."""
    return str(key_pair(seed).public_key.decode())


def read_request(raw: bytes) -> Request:
    """Return a callout request, its server's signature checked. Raises ``CalloutInvalid``."""
    try:
        text = raw.decode("ascii")
        head, body, signature = text.split(".")
        claims = msgspec.json.decode(_unpadded(body))
        issuer = str(claims["iss"])
        if not issuer.startswith(NATS_ISSUER_PREFIX):
            raise CalloutInvalid("the request is not a server's")
        _verify(issuer, f"{head}.{body}".encode(), _unpadded(signature))
        nats = claims["nats"]
        options = nats["connect_opts"]
        client = nats["client_info"]
        return Request(
            user_nkey=nats["user_nkey"],
            server_id=nats["server_id"]["id"],
            public_key=options.get("nkey", ""),
            signature=options.get("sig", ""),
            nonce=client.get("nonce", ""),
            token=options.get("auth_token", ""),
            host=client.get("host", ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise CalloutInvalid(f"not a callout request: {type(fault).__name__}") from fault


def user_token(
    signer: nkeys.KeyPair,
    *,
    user_nkey: str,
    account: str,
    name: str,
    rights: Rights,
    now_s: int,
    life_s: int = LIFE_S,
) -> str:
    """Return a signed user of ``account`` with ``rights``, who must leave ``life_s`` after ``now_s``."""
    return _signed(
        signer,
        {
            "aud": account,
            "sub": user_nkey,
            "name": name,
            "iat": now_s,
            "exp": now_s + life_s,
            "nats": {
                "type": "user",
                "version": 2,
                "pub": _listed(rights.publish),
                "sub": _listed(rights.subscribe),
                "subs": -1,
                "data": -1,
                "payload": -1,
            },
        },
    )


def response(
    signer: nkeys.KeyPair, request: Request, *, now_s: int, user: str = "", refusal: str = ""
) -> bytes:
    """Return the signed answer to a request: a ``user_token``, or a ``refusal`` in a few words."""
    assert bool(user) != bool(refusal), "a response admits or refuses"
    nats = {"type": "authorization_response", "version": 2}
    nats |= {"jwt": user} if user else {"error": refusal}
    claims = {"aud": request.server_id, "sub": request.user_nkey, "iat": now_s, "nats": nats}
    return _signed(signer, claims).encode()


def _signed(signer: nkeys.KeyPair, claims: dict[str, Any]) -> str:
    claims = {**claims, "iss": signer.public_key.decode()}
    digest = hashlib.sha512(msgspec.json.encode(claims)).digest()[:32]
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    head = _bare(msgspec.json.encode({"typ": "JWT", "alg": "ed25519-nkey"}))
    body = _bare(msgspec.json.encode(claims))
    signing: Any = signer
    return f"{head}.{body}.{_bare(signing.sign(f'{head}.{body}'.encode()))}"


def _verify(public_key: str, message: bytes, signature: bytes) -> None:
    try:
        VerifyKey(_raw_public(public_key)).verify(message, signature)
    except (BadSignatureError, ValueError) as fault:
        raise CalloutInvalid("the signature does not hold") from fault


def _raw_public(public_key: str) -> bytes:
    padded = public_key + "=" * (-len(public_key) % 8)
    raw = base64.b32decode(padded)
    checksum = int.from_bytes(raw[-2:], "little")
    if len(raw) != 35 or _nkeys.crc16(bytearray(raw[:-2])) != checksum:
        raise CalloutInvalid("not a public nkey")
    return raw[1:-2]


def _listed(subjects: tuple[str, ...]) -> dict[str, list[str]]:
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}


def _bare(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
