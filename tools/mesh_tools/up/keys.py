"""The secrets of one mesh, made at the first start and kept in files that only we may read."""

import json
import secrets
import string
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Literal

import msgspec
from mesh_contracts.rights import STATIC_USERS
from meshkit.usertoken import new_seed, public_key

from mesh_tools.up.layout import write_private

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
KEY_BODY = 30
CHECK = 6
TOKEN_LIFETIME_S = 24 * 3600


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What `mesh up` hands out. ``users`` are the public bus keys by user, ``callout`` the issuer's."""

    users: dict[str, str]
    callout: str
    admin_key: str
    project_key: str
    join_token: str


def base62(number: int, width: int) -> str:
    """Return ``number`` in base 62, padded with zeros to ``width``."""
    digits = []
    while number:
        number, digit = divmod(number, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits)).rjust(width, "0")


def draw_key(role: str) -> str:
    """Return a fresh ``mesh_<role>_<30 base62><6 base62 CRC32>``."""
    text = f"mesh_{role}_" + "".join(secrets.choice(BASE62) for _ in range(KEY_BODY))
    return text + base62(zlib.crc32(text.encode()), CHECK)


def hint_of(key: str) -> str:
    """Return what may be shown of a key: its prefix and last four characters."""
    return f"{key.rpartition('_')[0]}_…{key[-4:]}"


def _kept(path: Path, draw: str) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        write_private(path, draw + "\n")
        return draw


def _nkey(path: Path, kind: Literal["user", "account"]) -> str:
    return public_key(_kept(path, new_seed(kind)))


def prepare(folder: Path, *, nodes: int) -> Secrets:
    """Return the secrets of a mesh, the same at each start but for the join token.

    A fresh join token for ``nodes`` comes with each start: nodes that enrolled need none.
    """
    users = {user: _nkey(folder / f"{user}.nk", "user") for user in STATIC_USERS}
    callout = _nkey(folder / "callout.nk", "account")
    _kept(folder / "mesh.secret", secrets.token_urlsafe(32))
    join_token = draw_key("join")
    write_private(folder / "join.token", join_token + "\n")
    made = Secrets(
        users=users,
        callout=callout,
        admin_key=_kept(folder / "admin.key", draw_key("admin")),
        project_key=_kept(folder / "demo.key", draw_key("project")),
        join_token=join_token,
    )
    write_private(folder / "bootstrap.json", json.dumps(bootstrap(made, folder, nodes=nodes), indent=1))
    return made


def bootstrap(made: Secrets, folder: Path, *, nodes: int) -> dict[str, object]:
    """Return what identity is told at its start: digests only, never a key."""

    def digest(text: str) -> str:
        return sha256(text.encode()).hexdigest()

    admin, demo = made.admin_key, made.project_key
    return {
        "organization": "demo",
        "project": "demo",
        "keys": [
            {"name": "admin", "role": "admin", "digest": digest(admin), "hint": hint_of(admin)},
            {
                "name": "demo",
                "role": "project",
                "project": "demo",
                "digest": digest(demo),
                "hint": hint_of(demo),
            },
        ],
        "join_tokens": [
            {"digest": digest(made.join_token), "uses": max(nodes, 1), "lifetime_s": TOKEN_LIFETIME_S}
        ],
        "callout_seed_file": str(folder / "callout.nk"),
    }
