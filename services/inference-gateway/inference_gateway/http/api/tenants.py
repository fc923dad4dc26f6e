"""Organizations, projects, keys and join tokens: identity's."""

from typing import Any

from litestar import Controller, delete, get, post
from litestar.params import FromPath, JSONBody
from mesh_contracts import identity

from inference_gateway.http.api.asking import (
    LIMIT_MAX,
    AnyRequest,
    Asking,
    Cursor,
    Limit,
    generation_of,
    page,
)
from inference_gateway.http.api.bodies import NewJoinToken, NewKey, NewOrganization, NewProject
from inference_gateway.http.problems import refused


class Organizations(Controller):
    """Customers."""

    path = "/organizations"
    tags = ["identity"]  # noqa: RUF012 - the framework's way

    @post()
    async def create(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewOrganization]
    ) -> identity.Organization:
        """Make an organization."""
        made: identity.Organization = await asker(request, identity.CreateOrganization, name=data.name)
        return made

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> identity.Organizations:
        """List the organizations."""
        found: identity.Organizations = await asker(
            request, identity.ListOrganizations, page=page(limit, cursor)
        )
        return found


class Projects(Controller):
    """What models, keys, usage and footprints belong to."""

    path = "/projects"
    tags = ["identity"]  # noqa: RUF012 - the framework's way

    @post()
    async def create(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewProject]
    ) -> identity.Project:
        """Make a project in an organization."""
        made: identity.Project = await asker(
            request, identity.CreateProject, organization=data.organization, name=data.name
        )
        return made

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> identity.Projects:
        """List the projects the caller sees."""
        found: identity.Projects = await asker(request, identity.ListProjects, page=page(limit, cursor))
        return found


class Keys(Controller):
    """API keys."""

    path = "/keys"
    tags = ["identity"]  # noqa: RUF012 - the framework's way

    @post()
    async def create(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewKey]
    ) -> identity.IssuedKey:
        """Issue a key; its secret is shown this once."""
        made: identity.IssuedKey = await asker(
            request,
            identity.IssueKey,
            name=data.name,
            role=data.role,
            project=data.project,
            expires_at=data.expires_at,
        )
        return made

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> identity.Keys:
        """List the keys the caller sees, without their secrets."""
        found: identity.Keys = await asker(request, identity.ListKeys, page=page(limit, cursor))
        return found

    @get("/{key_id:str}")
    async def one(self, request: AnyRequest, asker: Asking, key_id: FromPath[str]) -> identity.Key:
        """Show one key."""
        return await _key(request, asker, key_id)

    @delete("/{key_id:str}", status_code=200)
    async def revoke(self, request: AnyRequest, asker: Asking, key_id: FromPath[str]) -> identity.Key:
        """Revoke a key: answered once every gateway can know it."""
        gone: identity.Key = await asker(
            request, identity.RevokeKey, key_id=key_id, generation=generation_of(request)
        )
        return gone


class JoinTokens(Controller):
    """What nodes enrol with."""

    path = "/join-tokens"
    tags = ["identity"]  # noqa: RUF012 - the framework's way

    @post()
    async def create(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewJoinToken]
    ) -> identity.JoinToken:
        """Make a join token; its text is shown this once."""
        made: identity.JoinToken = await asker(
            request, identity.CreateJoinToken, uses=data.uses, lifetime_s=data.lifetime_s
        )
        return made

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> identity.JoinTokens:
        """List the join tokens that still open something."""
        found: identity.JoinTokens = await asker(
            request, identity.ListJoinTokens, page=page(limit, cursor)
        )
        return found


KEY_PAGES_MAX = 100


async def _key(request: AnyRequest, asker: Asking, key_id: str) -> identity.Key:
    cursor: str | None = None
    for _ in range(KEY_PAGES_MAX):
        found: Any = await asker(request, identity.ListKeys, page=page(LIMIT_MAX, cursor))
        for key in found.items:
            if key.id == key_id:
                known: identity.Key = key
                return known
        cursor = found.next
        if cursor is None:
            break
    raise refused(
        404,
        "key_not_found",
        "No such key",
        f"You see no key {key_id[:80]}; GET /api/v1/keys lists those you see.",
    )
