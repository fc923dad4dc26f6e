"""Identity's doors on a database, without a bus: what its tests share."""

from datetime import timedelta
from typing import Any

import msgspec
from identity import asks
from identity import store as sql
from identity.app import MIGRATIONS
from mesh_contracts.ask import Principal
from mesh_contracts.identity import (
    AccessEntry,
    CreateOrganization,
    CreateProject,
    IssuedKey,
    IssueKey,
    Organization,
    Project,
)
from meshkit.config import Secret
from meshkit.doors import AskDoor
from meshkit.store import Store
from meshkit.testing import NOW, FrozenClock, wish

ADMIN = Principal(principal_id="key_a", role="admin", expires_at=NOW + timedelta(days=1))
NOBODY = Principal(principal_id="nobody", role="nobody", expires_at=NOW + timedelta(days=1))
SITE = "fr-idf-1"


async def opened(dsn: str) -> Store:
    """Return identity's database, migrated, with a clock that stands still."""
    return await Store.connect(
        Secret(dsn), owner="identity", clock=FrozenClock(), migrations=MIGRATIONS
    )


async def ask(house: Store, handler: Any, question: Any, principal: Principal = ADMIN) -> Any:
    """Answer as the service does: a problem rolls back."""
    return await AskDoor(handler, clock=house.clock, store=house)(question, principal)


async def found(house: Store, name: str) -> Organization:
    made = await ask(house, asks.create_organization, CreateOrganization(**wish(), name=name))
    assert isinstance(made, Organization)
    return made


async def admitted(house: Store, organization: str, name: str) -> Project:
    question = CreateProject(**wish(), organization=organization, name=name)
    made = await ask(house, asks.create_project, question)
    assert isinstance(made, Project)
    return made


async def issued(house: Store, **fields: Any) -> IssuedKey:
    made = await ask(house, asks.issue_key, IssueKey(**wish(), name="ci", **fields))
    assert isinstance(made, IssuedKey)
    return made


async def outbox(house: Store, kind: str) -> list[dict[str, Any]]:
    async with house.transaction() as tx:
        return await tx.rows("SELECT * FROM outbox WHERE kind = $1 ORDER BY id", kind)


async def access(house: Store) -> dict[str, AccessEntry]:
    async with house.transaction() as tx:
        held = await sql.access(tx)
    return {
        key: msgspec.convert(value, AccessEntry, from_attributes=True) for key, value in held.items()
    }


def tenant(project: Project) -> Principal:
    return Principal(
        principal_id="key_t",
        role="project",
        project=project.id,
        organization=project.organization_id,
        expires_at=NOW + timedelta(days=1),
    )
