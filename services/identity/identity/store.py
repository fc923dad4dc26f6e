"""All of identity's SQL."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from mesh_contracts.ask import Page
from mesh_contracts.identity import JoinToken, Key, Organization, Project
from mesh_contracts.keytext import access_key_of
from meshkit.errors import StaleSnapshot
from meshkit.store import Row, Transaction

from identity.domain.joining import Enrol, Node
from identity.domain.keys import Issue, Revocation, entry

PAGE_MAX = 1_000
"""Items of a list that are answered at one time, whatever is asked for."""
ENDED_SHOWN = timedelta(days=30)
"""How long a key that has ended stays in the bucket, so that a door can say why it opens nothing."""

_PROJECT = """
SELECT p.project_id, p.name, p.organization_id, o.name AS organization, p.created_at, p.generation
FROM project p JOIN organization o USING (organization_id)
"""
_KEY = """
SELECT k.key_id, k.name, k.role, k.hint, k.created_at, k.generation, k.expires_at, k.revoked_at, k.digest,
       k.project_id, p.name AS project, p.organization_id
FROM api_key k LEFT JOIN project p USING (project_id)
"""


def bounded(page: Page) -> int:
    """Return how many items of a list are answered."""
    return max(1, min(page.limit, PAGE_MAX))


async def add_organization(tx: Transaction, organization: Organization) -> bool:
    """Keep an organization; false where its name is taken."""
    added = await tx.change(
        "INSERT INTO organization (organization_id, name, created_at, generation)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING",
        *(organization.id, organization.name, organization.created_at, organization.generation),
    )
    return added == 1


async def organization(tx: Transaction, wanted: str) -> Organization | None:
    """Return the organization of this name or id."""
    row = await tx.row("SELECT * FROM organization WHERE name = $1 OR organization_id = $1", wanted)
    return None if row is None else _organization(row)


async def organizations(tx: Transaction, page: Page) -> list[Organization]:
    """Return organizations by name, one more than asked for where there are more."""
    rows = await tx.rows(
        "SELECT * FROM organization WHERE name > $1 ORDER BY name LIMIT $2",
        *(page.cursor or "", bounded(page) + 1),
    )
    return [_organization(row) for row in rows]


async def add_project(tx: Transaction, project: Project) -> bool:
    """Keep a project; false where its organization has one of that name."""
    added = await tx.change(
        "INSERT INTO project (project_id, organization_id, name, created_at, generation)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (organization_id, name) DO NOTHING",
        *(project.id, project.organization_id, project.name, project.created_at, project.generation),
    )
    return added == 1


async def projects_called(tx: Transaction, wanted: str) -> list[Project]:
    """Return every project with this id or name, or the one that is ``organization/name``."""
    owner, slash, name = wanted.partition("/")
    if slash:
        rows = await tx.rows(
            _PROJECT + "WHERE p.name = $2 AND (o.name = $1 OR o.organization_id = $1)", owner, name
        )
    else:
        rows = await tx.rows(_PROJECT + "WHERE p.name = $1 OR p.project_id = $1", wanted)
    return [_project(row) for row in rows]


async def projects(tx: Transaction, page: Page, only: str | None) -> list[Project]:
    """Return projects by organization and name (``only`` one id), one more than asked for."""
    owner, _, name = (page.cursor or "").partition("/")
    rows = await tx.rows(
        _PROJECT + "WHERE (o.name, p.name) > ($1, $2) AND ($4::text IS NULL OR p.project_id = $4)"
        " ORDER BY o.name, p.name LIMIT $3",
        *(owner, name, bounded(page) + 1, only),
    )
    return [_project(row) for row in rows]


async def add_key(tx: Transaction, issue: Issue) -> bool:
    """Keep a key by its digest, and show it to the gateways; false where the digest is known."""
    key = issue.key
    added = await tx.change(
        "INSERT INTO api_key"
        " (key_id, name, role, project_id, digest, hint, created_at, generation, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (digest) DO NOTHING",
        *(key.id, key.name, key.role, key.project_id, issue.digest, key.hint),
        *(key.created_at, key.generation, key.expires_at),
    )
    if added == 1:
        await tx.put("access", access_key_of(issue.digest), entry(key, issue.organization_id))
    return added == 1


async def key(tx: Transaction, key_id: str) -> tuple[Key, str | None, str] | None:
    """Return a key, its organization's id and its digest, held against others until the end."""
    row = await tx.row(_KEY + "WHERE k.key_id = $1 FOR UPDATE OF k", key_id)
    return None if row is None else (_key(row), row["organization_id"], row["digest"])


async def keys(tx: Transaction, page: Page, only_project: str | None) -> list[Key]:
    """Return keys, newest first (``only_project``'s, where given), one more than asked for."""
    rows = await tx.rows(
        _KEY + "WHERE ($1::text IS NULL OR k.key_id < $1) AND ($3::text IS NULL OR k.project_id = $3)"
        " ORDER BY k.key_id DESC LIMIT $2",
        *(page.cursor, bounded(page) + 1, only_project),
    )
    return [_key(row) for row in rows]


async def end_key(
    tx: Transaction, revocation: Revocation, organization_id: str | None, digest: str
) -> None:
    """Keep that a key has ended, and show it. Raises ``StaleSnapshot`` where the key moved meanwhile.

    A key that had ended before is shown again: whoever asks now must wait for that put as well. One
    that the bucket has forgotten since stays forgotten: it opens nothing either way.
    """
    ended = revocation.key
    if revocation.fact is not None:
        changed = await tx.change(
            "UPDATE api_key SET revoked_at = $2, generation = $3 WHERE key_id = $1 AND generation = $3 - 1",
            *(ended.id, ended.revoked_at, ended.generation),
        )
        if changed == 0:
            raise StaleSnapshot(ended.id)
    if await tx.value("SELECT NOT hidden FROM api_key WHERE key_id = $1", ended.id):
        await tx.put("access", access_key_of(digest), entry(ended, organization_id))


async def access(tx: Transaction) -> Mapping[str, msgspec.Struct]:
    """Return all that the bucket ``access`` should hold."""
    rows = await tx.rows(_KEY + "WHERE NOT k.hidden")
    return {access_key_of(row["digest"]): entry(_key(row), row["organization_id"]) for row in rows}


async def hide_keys(tx: Transaction, before: datetime, batch: int) -> int:
    """Have the bucket forget at most ``batch`` keys that ended before; return how many."""
    rows = await tx.rows(
        "UPDATE api_key SET hidden = true WHERE key_id IN (SELECT key_id FROM api_key"
        " WHERE NOT hidden AND least(revoked_at, expires_at) < $1 LIMIT $2 FOR UPDATE) RETURNING digest",
        *(before, batch),
    )
    for row in rows:
        await tx.drop("access", access_key_of(row["digest"]))
    return len(rows)


async def add_token(
    tx: Transaction, token: JoinToken, digest: str, now: datetime, *, bootstrap: bool = False
) -> bool:
    """Keep a join token by its digest; false where the digest is known."""
    added = await tx.change(
        "INSERT INTO join_token (token_id, digest, uses_left, expires_at, created_at, bootstrap)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (digest) DO NOTHING",
        *(token.id, digest, token.uses_left, token.expires_at, now, bootstrap),
    )
    return added == 1


async def forget_tokens(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` tokens that ended before and let no node in; return how many."""
    return await tx.change(
        "DELETE FROM join_token WHERE token_id IN (SELECT token_id FROM join_token t"
        " WHERE expires_at < $1 AND NOT bootstrap"
        " AND NOT EXISTS (SELECT FROM node WHERE token_id = t.token_id) LIMIT $2)",
        *(before, batch),
    )


async def token(tx: Transaction, digest: str) -> JoinToken | None:
    """Return the join token with this digest, held against other enrolments until the end."""
    row = await tx.row(
        "SELECT token_id, uses_left, expires_at FROM join_token WHERE digest = $1 FOR UPDATE", digest
    )
    return None if row is None else _token(row)


async def open_tokens(tx: Transaction, page: Page) -> list[JoinToken]:
    """Return the join tokens that still open something, newest first, one more than asked for."""
    rows = await tx.rows(
        "SELECT token_id, uses_left, expires_at FROM join_token"
        " WHERE uses_left > 0 AND expires_at > $1 AND ($2::text IS NULL OR token_id < $2)"
        " ORDER BY token_id DESC LIMIT $3",
        *(tx.now, page.cursor, bounded(page) + 1),
    )
    return [_token(row) for row in rows]


async def node(tx: Transaction, public_key: str) -> Node | None:
    """Return the node that holds this public key."""
    row = await tx.row(
        "SELECT node_id, name, public_key, site FROM node WHERE public_key = $1", public_key
    )
    return None if row is None else Node(**row)


async def nodes(tx: Transaction, public_keys: list[str]) -> dict[str, Node]:
    """Return the nodes that hold these public keys, by public key."""
    rows = await tx.rows(
        "SELECT node_id, name, public_key, site FROM node WHERE public_key = ANY($1::text[])",
        public_keys,
    )
    return {row["public_key"]: Node(**row) for row in rows}


async def tokens(tx: Transaction, digests: list[str]) -> dict[str, JoinToken]:
    """Return the join tokens with these digests, by digest."""
    rows = await tx.rows(
        "SELECT digest, token_id, uses_left, expires_at FROM join_token WHERE digest = ANY($1::text[])",
        digests,
    )
    return {row["digest"]: _token(row) for row in rows}


async def add_node(tx: Transaction, enrol: Enrol, now: datetime) -> None:
    """Burn a use of the token and keep the node. Raises ``StaleSnapshot`` where another came first."""
    burnt = await tx.change(
        "UPDATE join_token SET uses_left = uses_left - 1 WHERE token_id = $1 AND uses_left > 0",
        enrol.token_id,
    )
    added = await tx.change(
        "INSERT INTO node (node_id, public_key, name, site, token_id, enrolled_at)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (public_key) DO NOTHING",
        *(enrol.node.node_id, enrol.node.public_key, enrol.node.name, enrol.node.site),
        *(enrol.token_id, now),
    )
    if burnt == 0 or added == 0:
        raise StaleSnapshot(enrol.node.public_key)


def _organization(row: Row) -> Organization:
    return Organization(id=row["organization_id"], **_without(row, "organization_id"))


def _project(row: Row) -> Project:
    return Project(id=row["project_id"], **_without(row, "project_id"))


def _key(row: Row) -> Key:
    return Key(id=row["key_id"], **_without(row, "key_id", "digest", "organization_id"))


def _token(row: Row) -> JoinToken:
    return JoinToken(id=row["token_id"], **_without(row, "token_id", "digest"))


def _without(row: Row, *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
