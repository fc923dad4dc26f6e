"""API keys: what a new one opens, and how it ends."""

from datetime import datetime
from typing import Any

import msgspec
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.fact import born_of
from mesh_contracts.identity import (
    AccessEntry,
    IssueKey,
    Key,
    KeyIssued,
    KeyRevoked,
    Project,
    RevokeKey,
)
from mesh_contracts.units import derived_id

ROLES = ("admin", "project")
"""Roles that a key can have."""


class Issue(msgspec.Struct, frozen=True):
    """A key to be kept by its digest, what it opens, and the fact that tells it."""

    key: Key
    organization_id: str | None
    digest: str
    fact: KeyIssued


class Revocation(msgspec.Struct, frozen=True):
    """The key as it ends, and the fact that tells it; no fact where it had ended before."""

    key: Key
    fact: KeyRevoked | None


def refuse(ask: IssueKey, now: datetime) -> Problem | None:
    """Return what is wrong with a wish for a key, or nothing."""
    if ask.role not in ROLES:
        return _unusable("role", f"a key's role is one of {', '.join(ROLES)}, not {ask.role!r}")
    if ask.role == "project" and not ask.project:
        return _unusable("project", "a key of role 'project' needs the project it opens")
    if ask.role == "admin" and ask.project:
        return _unusable("project", "an admin's key opens every project: leave the project out")
    if ask.expires_at is not None and ask.expires_at <= now:
        return _unusable("expires_at", "expires_at is over already: give a time to come")
    return None


def issue(
    ask: IssueKey,
    project: Project | None,
    now: datetime,
    *,
    digest: str,
    hint: str,
    actor: str | None = None,
) -> Issue:
    """Return the key that is wished for: of ``project``, or an admin's where there is none.

    ``digest`` and ``hint`` are all that is ever kept of its text.
    """
    assert (ask.role == "project") == (project is not None), "a project's key has a project"
    key = Key(
        id=derived_id("key", ask.asked_at, ask.ask_id),
        name=ask.name,
        role=ask.role,
        hint=hint,
        created_at=now,
        generation=1,
        project=None if project is None else project.name,
        project_id=None if project is None else project.id,
        expires_at=ask.expires_at,
    )
    organization_id = None if project is None else project.organization_id
    scope: dict[str, Any] = {"organization": organization_id, "project": key.project_id, "actor": actor}
    envelope = born_of(ask, now, KeyIssued, key=key.id, **scope)
    fact = KeyIssued(**envelope, key_id=key.id, role=key.role, expires_at=key.expires_at)
    return Issue(key, organization_id, digest, fact)


def revoke(
    ask: RevokeKey, key: Key, organization_id: str | None, now: datetime, *, actor: str | None = None
) -> Revocation:
    """Return the key as it is once it opens nothing; a key that has ended stays as it ended."""
    if key.revoked_at is not None:
        return Revocation(key, None)
    ended = msgspec.structs.replace(key, revoked_at=now, generation=key.generation + 1)
    scope: dict[str, Any] = {"organization": organization_id, "project": key.project_id, "actor": actor}
    envelope = born_of(ask, now, KeyRevoked, key=key.id, **scope)
    return Revocation(ended, KeyRevoked(**envelope, key_id=key.id))


def entry(key: Key, organization_id: str | None) -> AccessEntry:
    """Return what the gateways are told of a key."""
    return AccessEntry(
        key_id=key.id,
        role=key.role,
        organization=organization_id,
        project=key.project_id,
        project_name=key.project,
        expires_at=key.expires_at,
        revoked=key.revoked_at is not None,
    )


def visible(key: Key, principal: Principal) -> bool:
    """Tell whether ``principal`` may know of a key."""
    return principal.sees(key.project_id)


def moved_on(key: Key, generation: int | None) -> Problem | None:
    """Return the problem of a change to a key that is not at ``generation`` any more, or nothing.

    A key that has ended is none: ending it again changes nothing.
    """
    if generation is None or generation == key.generation or key.revoked_at is not None:
        return None
    return Problem(
        title="The key has changed since",
        status=412,
        code="generation_mismatch",
        detail=f"it is at generation {key.generation}, not {generation}: read it again, then repeat your change",
        param="generation",
    )


def key_not_found(key_id: str) -> Problem:
    """Return the problem of a key that does not exist, or is another's: the two look the same."""
    return Problem(
        title="No such key",
        status=404,
        code="key_not_found",
        detail=f"no key that you may see has the id {key_id!r}: list the keys",
        param="key_id",
    )


def _unusable(param: str, detail: str) -> Problem:
    return Problem(
        title="The key cannot be issued", status=422, code="invalid_key", detail=detail, param=param
    )
