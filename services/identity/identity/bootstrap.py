"""What a mesh begins with: applied once at each start, by name and digest, so that twice is once."""

from pathlib import Path
from typing import Any

import msgspec
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.identity import CreateJoinToken, CreateOrganization, CreateProject, IssueKey
from mesh_contracts.units import Name, Site, derived_id
from meshkit.clock import Clock
from meshkit.errors import ConfigError
from meshkit.store import Store, Transaction

from identity import store
from identity.domain import joining, keys, tenancy

ACTOR = "bootstrap"


class BootstrapKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that exists already; identity learns its digest, never its text."""

    name: Name
    role: str
    digest: str
    hint: str
    project: str | None = None


class BootstrapToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A join token that exists already, by its digest."""

    digest: str
    uses: int = 1
    lifetime_s: int = 900


class Bootstrap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file ``IDENTITY_BOOTSTRAP_FILE``."""

    organization: Name
    project: Name
    keys: list[BootstrapKey] = []
    join_tokens: list[BootstrapToken] = []
    callout_seed_file: Path | None = None


def read(path: Path) -> Bootstrap:
    """Return a bootstrap file. Raises ``ConfigError``, which says what is wrong with it."""
    try:
        raw = path.read_bytes()
        return msgspec.json.decode(raw, type=Bootstrap, dec_hook=lambda kind, value: kind(value))
    except OSError as fault:
        raise ConfigError(f"{path}: {fault.strerror}; IDENTITY_BOOTSTRAP_FILE names it") from fault
    except msgspec.MsgspecError as fault:
        raise ConfigError(f"{path} is not a bootstrap file: {fault}") from fault


async def apply(wanted: Bootstrap, owner: Store, clock: Clock, site: Site) -> None:
    """Make true what the file says, and tell the same facts as the asks would.

    What exists by name or digest is left as it is: a revoked key stays revoked, a used token used.
    Raises ``ConfigError`` for what no ask would be granted.
    """
    async with owner.transaction() as tx:
        await _tenants(wanted, tx, clock, site)
        for key in wanted.keys:
            await _key(key, wanted, tx, clock, site)
        for token in wanted.join_tokens:
            await _token(token, tx, clock, site)


async def _tenants(wanted: Bootstrap, tx: Transaction, clock: Clock, site: Site) -> None:
    now = clock.now()
    found = CreateOrganization(
        **_wish(clock, site, "organization", wanted.organization), name=wanted.organization
    )
    await store.add_organization(tx, tenancy.found(found, now))
    organization = await store.organization(tx, wanted.organization)
    assert organization is not None, "it was just made"
    wish = _wish(clock, site, "project", organization.id, wanted.project)
    ask = CreateProject(**wish, organization=organization.id, name=wanted.project)
    admission = tenancy.admit(ask, organization, now, actor=ACTOR)
    if await store.add_project(tx, admission.project):
        await tx.tell(admission.fact)


async def _key(
    wanted: BootstrapKey, file: Bootstrap, tx: Transaction, clock: Clock, site: Site
) -> None:
    now = clock.now()
    wish = _wish(clock, site, "key", wanted.digest)
    ask = IssueKey(**wish, name=wanted.name, role=wanted.role, project=wanted.project)
    refused = keys.refuse(ask, now)
    project = None
    if refused is None and wanted.project is not None:
        principal = Principal(principal_id=ACTOR, role="admin", expires_at=now)
        text = wanted.project if "/" in wanted.project else f"{file.organization}/{wanted.project}"
        chosen = tenancy.choose(text, await store.projects_called(tx, text), principal)
        if isinstance(chosen, Problem):
            refused = chosen
        else:
            project = chosen
    if refused is not None:
        raise ConfigError(
            f"the bootstrap file's key {wanted.name!r} cannot be issued: {refused.detail}"
        )
    issue = keys.issue(ask, project, now, digest=wanted.digest, hint=wanted.hint, actor=ACTOR)
    if await store.add_key(tx, issue):
        await tx.tell(issue.fact)


async def _token(wanted: BootstrapToken, tx: Transaction, clock: Clock, site: Site) -> None:
    wish = _wish(clock, site, "token", wanted.digest)
    ask = CreateJoinToken(**wish, uses=wanted.uses, lifetime_s=wanted.lifetime_s)
    offered = joining.offer(ask, clock.now())
    if isinstance(offered, Problem):
        raise ConfigError(f"the bootstrap file's join token cannot be made: {offered.detail}")
    await store.add_token(tx, offered, wanted.digest, clock.now(), bootstrap=True)


def _wish(clock: Clock, site: Site, *parts: str) -> dict[str, Any]:
    now = clock.now()
    return {
        "ask_id": derived_id("ask", now, ACTOR, *parts),
        "asked_at": now,
        "deadline": now,
        "site": site,
    }
