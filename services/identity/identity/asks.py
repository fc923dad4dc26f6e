"""The door for questions and wishes: one function each."""

import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from mesh_contracts.ask import Page, Principal, Problem
from mesh_contracts.identity import (
    CreateJoinToken,
    CreateOrganization,
    CreateProject,
    Enrolment,
    EnrolNode,
    IssuedKey,
    IssueKey,
    JoinToken,
    JoinTokens,
    Key,
    Keys,
    ListJoinTokens,
    ListKeys,
    ListOrganizations,
    ListProjects,
    Organization,
    Organizations,
    Project,
    Projects,
    RevokeKey,
)
from mesh_contracts.keytext import BASE62, BODY_CHARS, digest_of, hint_of, key_text
from meshkit.clock import Clock
from meshkit.store import Transaction

from identity import store
from identity.domain import joining, keys, tenancy

T = TypeVar("T")


async def create_organization(
    ask: CreateOrganization, _principal: Principal, tx: Transaction, clock: Clock
) -> Organization | Problem:
    """Answer with a new organization."""
    organization = tenancy.found(ask, clock.now())
    if not await store.add_organization(tx, organization):
        return tenancy.name_taken("organization", ask.name)
    return organization


async def list_organizations(
    ask: ListOrganizations, _principal: Principal, tx: Transaction, _clock: Clock
) -> Organizations:
    """Answer with the organizations by name."""
    found = await store.organizations(tx, ask.page)
    items, following = paged(found, ask.page, lambda one: one.name)
    return Organizations(items=items, next=following)


async def create_project(
    ask: CreateProject, principal: Principal, tx: Transaction, clock: Clock
) -> Project | Problem:
    """Answer with a new project, and tell that it is admitted."""
    organization = await store.organization(tx, ask.organization)
    if organization is None:
        return tenancy.organization_not_found(ask.organization)
    admission = tenancy.admit(ask, organization, clock.now(), actor=principal.principal_id)
    if not await store.add_project(tx, admission.project):
        return tenancy.name_taken("project", ask.name)
    await tx.tell(admission.fact)
    return admission.project


async def list_projects(
    ask: ListProjects, principal: Principal, tx: Transaction, _clock: Clock
) -> Projects:
    """Answer with the projects the principal sees, by organization and name."""
    found = await store.projects(tx, ask.page, only_of(principal))
    items, following = paged(found, ask.page, lambda one: f"{one.organization}/{one.name}")
    return Projects(items=items, next=following)


async def issue_key(
    ask: IssueKey, principal: Principal, tx: Transaction, clock: Clock
) -> IssuedKey | Problem:
    """Answer with a new key and, this once, its text; tell that it was issued."""
    now = clock.now()
    refused = keys.refuse(ask, now)
    if refused is not None:
        return refused
    project = None
    if ask.project:
        chosen = tenancy.choose(ask.project, await store.projects_called(tx, ask.project), principal)
        if isinstance(chosen, Problem):
            return chosen
        project = chosen
    text = drawn(ask.role)
    actor = principal.principal_id
    issue = keys.issue(ask, project, now, digest=digest_of(text), hint=hint_of(text), actor=actor)
    added = await store.add_key(tx, issue)
    assert added, "two keys were drawn alike"
    await tx.tell(issue.fact)
    return IssuedKey(key=issue.key, secret=text)


async def list_keys(ask: ListKeys, principal: Principal, tx: Transaction, _clock: Clock) -> Keys:
    """Answer with the keys the principal sees, newest first."""
    found = await store.keys(tx, ask.page, only_of(principal))
    items, following = paged(found, ask.page, lambda one: one.id)
    return Keys(items=items, next=following)


async def revoke_key(
    ask: RevokeKey, principal: Principal, tx: Transaction, clock: Clock
) -> Key | Problem:
    """Answer with the key as it ended; tell it, and show every gateway that it opens nothing."""
    found = await store.key(tx, ask.key_id)
    if found is None or not keys.visible(found[0], principal):
        return keys.key_not_found(ask.key_id)
    key, organization_id, digest = found
    fault = keys.moved_on(key, ask.generation)
    if fault is not None:
        return fault
    actor = principal.principal_id
    revocation = keys.revoke(ask, key, organization_id, clock.now(), actor=actor)
    await store.end_key(tx, revocation, organization_id, digest)
    if revocation.fact is not None:
        await tx.tell(revocation.fact)
    return revocation.key


async def create_join_token(
    ask: CreateJoinToken, _principal: Principal, tx: Transaction, clock: Clock
) -> JoinToken | Problem:
    """Answer with a new join token and, this once, its text."""
    now = clock.now()
    offered = joining.offer(ask, now)
    if isinstance(offered, Problem):
        return offered
    text = drawn("join")
    added = await store.add_token(tx, offered, digest_of(text), now)
    assert added, "two tokens were drawn alike"
    return msgspec.structs.replace(offered, token=text)


async def list_join_tokens(
    ask: ListJoinTokens, _principal: Principal, tx: Transaction, _clock: Clock
) -> JoinTokens:
    """Answer with the join tokens that still open something."""
    found = await store.open_tokens(tx, ask.page)
    items, following = paged(found, ask.page, lambda one: one.id)
    return JoinTokens(items=items, next=following)


async def enrol_node(
    ask: EnrolNode, _principal: Principal, tx: Transaction, clock: Clock
) -> Enrolment | Problem:
    """Answer with the node's id: the one it has, or a new one for a use of its join token."""
    now = clock.now()
    known = await store.node(tx, ask.public_key)
    token = None if known else await store.token(tx, digest_of(ask.join_token))
    decision = joining.enrol(ask, known, token, now)
    if isinstance(decision, Problem):
        return decision
    if isinstance(decision, joining.Enrol):
        await store.add_node(tx, decision, now)
        await tx.tell(decision.fact)
        return Enrolment(node_id=decision.node.node_id)
    return Enrolment(node_id=decision.node_id)


def drawn(role: str) -> str:
    """Return a fresh key or token: 178 bits that nobody can guess, and their checksum."""
    return key_text(role, "".join(secrets.choice(BASE62) for _ in range(BODY_CHARS)))


def only_of(principal: Principal) -> str | None:
    """Return the one project a principal sees, or nothing where it sees all."""
    return None if principal.sees(None) else principal.project or ""


def paged(found: Sequence[T], page: Page, cursor_of: Callable[[T], str]) -> tuple[list[T], str | None]:
    """Return the page's items, and the cursor of the next page where there is one."""
    limit = store.bounded(page)
    items = list(found[:limit])
    return items, cursor_of(items[-1]) if len(found) > limit else None
