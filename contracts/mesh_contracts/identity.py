"""What identity tells and answers: organizations, projects, keys, nodes' enrolment."""

from typing import Any, ClassVar

import msgspec

from mesh_contracts.ask import EVERYBODY, Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.units import (
    KeyId,
    Name,
    NodeId,
    OrganizationId,
    ProjectId,
    Sequence,
    Text,
    Time,
)


class ProjectAdmitted(Fact, frozen=True, kw_only=True, tag="identity.project.admitted/1"):
    """A project may use the cloud. Its key is the project's id."""

    per_tenant: ClassVar[bool] = True

    name: Name
    organization_name: Name


class KeyIssued(Fact, frozen=True, kw_only=True, tag="identity.key.issued/1"):
    """A key opens the doors its role opens. Its key is the key's id; the secret is never told."""

    per_tenant: ClassVar[bool] = True

    key_id: KeyId
    role: str
    expires_at: Time | None = None


class KeyRevoked(Fact, frozen=True, kw_only=True, tag="identity.key.revoked/1"):
    """A key opens nothing any more."""

    per_tenant: ClassVar[bool] = True

    key_id: KeyId


class NodeEnrolled(Fact, frozen=True, kw_only=True, tag="identity.node.enrolled/1"):
    """A node proved a join token and holds the bus key ``public_key`` (an nkey, ``U…``)."""

    node_id: NodeId
    name: Name
    public_key: str


class AccessEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bucket ``access``, key ``key.<SHA-256 of the API key, hex>``: what that key opens."""

    key_id: KeyId
    role: str
    organization: OrganizationId | None = None
    project: ProjectId | None = None
    project_name: Name | None = None
    expires_at: Time | None = None
    revoked: bool = False


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """A customer; its projects share nothing with another's."""

    id: OrganizationId
    name: Name
    created_at: Time
    generation: Sequence


class Organizations(msgspec.Struct, frozen=True, kw_only=True):
    """Organizations by name."""

    items: list[Organization]
    next: str | None = None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant's models, keys, usage and footprint belong to."""

    id: ProjectId
    name: Name
    organization: Name
    organization_id: OrganizationId
    created_at: Time
    generation: Sequence


class Projects(msgspec.Struct, frozen=True, kw_only=True):
    """Projects by organization and name."""

    items: list[Project]
    next: str | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key without its secret. ``hint`` is its prefix and last four characters."""

    id: KeyId
    name: Name
    role: str
    hint: str
    created_at: Time
    generation: Sequence
    project: Name | None = None
    project_id: ProjectId | None = None
    expires_at: Time | None = None
    revoked_at: Time | None = None


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Keys, newest first."""

    items: list[Key]
    next: str | None = None


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is shown once: ``secret`` is stored nowhere.

    The same idempotency key answers the same key again, but with ``secret`` null.
    """

    key: Key
    secret: str | None

    def at_rest(self) -> "IssuedKey":
        """Return what may be stored of this reply, to be given again: never the secret."""
        return msgspec.structs.replace(self, secret=None)


class JoinToken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Lets ``uses_left`` nodes enrol until ``expires_at``; ``token`` is shown once."""

    id: str
    expires_at: Time
    uses_left: int
    token: str | None = None

    def at_rest(self) -> "JoinToken":
        """Return what may be stored of this reply, to be given again: never the token."""
        return msgspec.structs.replace(self, token=None)


class JoinTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Join tokens that still open something."""

    items: list[JoinToken]
    next: str | None = None


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """The name under which a node is known from now on."""

    node_id: NodeId


class CreateOrganization(Ask, frozen=True, kw_only=True, tag="identity.organization.create"):
    """Wish for an organization. A taken name is a problem ``name_taken``."""

    permission: ClassVar[str] = "organization.write"
    reply: ClassVar[Any] = Organization
    changes: ClassVar[bool] = True

    name: Name


class ListOrganizations(Ask, frozen=True, kw_only=True, tag="identity.organization.list"):
    """Ask for the organizations."""

    permission: ClassVar[str] = "organization.read"
    reply: ClassVar[Any] = Organizations

    page: Page = Page()


class CreateProject(Ask, frozen=True, kw_only=True, tag="identity.project.create"):
    """Wish for a project in an organization (its name or id)."""

    permission: ClassVar[str] = "project.write"
    reply: ClassVar[Any] = Project
    changes: ClassVar[bool] = True

    organization: str
    name: Name


class ListProjects(Ask, frozen=True, kw_only=True, tag="identity.project.list"):
    """Ask for the projects the principal sees."""

    permission: ClassVar[str] = "project.read"
    reply: ClassVar[Any] = Projects

    page: Page = Page()


class IssueKey(Ask, frozen=True, kw_only=True, tag="identity.key.issue"):
    """Wish for an API key: of a project (its id, its name, or ``organization/name``), or an admin's."""

    permission: ClassVar[str] = "key.write"
    reply: ClassVar[Any] = IssuedKey
    changes: ClassVar[bool] = True

    name: Name
    role: str = "project"
    project: Text | None = None
    expires_at: Time | None = None


class ListKeys(Ask, frozen=True, kw_only=True, tag="identity.key.list"):
    """Ask for the keys the principal sees."""

    permission: ClassVar[str] = "key.read"
    reply: ClassVar[Any] = Keys

    page: Page = Page()


class RevokeKey(Ask, frozen=True, kw_only=True, tag="identity.key.revoke"):
    """Wish that a key opens nothing. Answered once every gateway can know it.

    With a ``generation``: provided the key is still at it, or has ended.
    """

    permission: ClassVar[str] = "key.write"
    reply: ClassVar[Any] = Key
    changes: ClassVar[bool] = True

    key_id: KeyId
    generation: Sequence | None = None


class CreateJoinToken(Ask, frozen=True, kw_only=True, tag="identity.join-token.create"):
    """Wish for a token with which nodes enrol."""

    permission: ClassVar[str] = "node.write"
    reply: ClassVar[Any] = JoinToken
    changes: ClassVar[bool] = True

    uses: int = 1
    lifetime_s: int = 900


class ListJoinTokens(Ask, frozen=True, kw_only=True, tag="identity.join-token.list"):
    """Ask which join tokens still open something (never their text)."""

    permission: ClassVar[str] = "node.read"
    reply: ClassVar[Any] = JoinTokens

    page: Page = Page()


class EnrolNode(Ask, frozen=True, kw_only=True, tag="identity.node.enrol"):
    """A node's wish to belong: it proves a join token and names its public bus key.

    The same public key enrols once: asked again, it gets the same node id.
    """

    permission: ClassVar[str] = EVERYBODY
    reply: ClassVar[Any] = Enrolment
    changes: ClassVar[bool] = True

    join_token: str
    public_key: str
    name: Name
