"""The secrets of one mesh, made at the first start and kept in files that only we may read."""

import json
import secrets
from pathlib import Path
from typing import Literal

import msgspec
from mesh_contracts.keytext import BASE62, BODY_CHARS, digest_of, hint_of, key_text
from mesh_contracts.rights import STATIC_USERS
from meshkit.usertoken import new_seed, public_key

from mesh_tools.up.layout import write_private

TOKEN_LIFETIME_S = 24 * 3600


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What `mesh up` hands out. ``users`` are the public bus keys by user, ``callout`` the issuer's."""

    users: dict[str, str]
    callout: str
    admin_key: str
    project_key: str
    join_token: str


def draw_key(role: str) -> str:
    """Return a fresh key text of a role."""
    return key_text(role, "".join(secrets.choice(BASE62) for _ in range(BODY_CHARS)))


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
    admin, demo = made.admin_key, made.project_key
    return {
        "organization": "demo",
        "project": "demo",
        "keys": [
            {"name": "admin", "role": "admin", "digest": digest_of(admin), "hint": hint_of(admin)},
            {
                "name": "demo",
                "role": "project",
                "project": "demo",
                "digest": digest_of(demo),
                "hint": hint_of(demo),
            },
        ],
        "join_tokens": [
            {
                "digest": digest_of(made.join_token),
                "uses": max(nodes, 1),
                "lifetime_s": TOKEN_LIFETIME_S,
            }
        ],
        "callout_seed_file": str(folder / "callout.nk"),
    }
