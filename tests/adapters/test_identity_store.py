"""Identity's doors on a real Postgres: organizations, projects, keys."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from identity import asks
from mesh_contracts import wire
from mesh_contracts.ask import Page, Problem
from mesh_contracts.identity import (
    AccessEntry,
    CreateOrganization,
    CreateProject,
    IssueKey,
    Key,
    ListKeys,
    ListOrganizations,
    ListProjects,
    RevokeKey,
)
from mesh_contracts.keytext import access_key_of, digest_of, hint_of, role_in
from meshkit.store import Store
from meshkit.testing import NOW, wish

from tests.adapters.identities import SITE, access, admitted, ask, found, issued, opened, outbox, tenant
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def house(postgres: PostgresServer) -> AsyncIterator[Store]:
    store = await opened(postgres.dsn("identity"))
    yield store
    await store.close()


async def test_a_name_is_given_once(house: Store) -> None:
    await found(house, "acme")
    await admitted(house, "acme", "web")
    again = await ask(house, asks.create_organization, CreateOrganization(**wish(), name="acme"))
    assert isinstance(again, Problem)
    assert (again.status, again.code) == (409, "name_taken")
    question = CreateProject(**wish(), organization="acme", name="web")
    twice = await ask(house, asks.create_project, question)
    assert isinstance(twice, Problem)
    assert twice.code == "name_taken"
    await found(house, "globex")
    await admitted(house, "globex", "web")
    subjects = [one["subject"] for one in await outbox(house, "fact")]
    assert len(subjects) == 2
    assert all(one.startswith(f"identity.project.admitted.{SITE}.") for one in subjects)


async def test_a_project_in_an_organization_that_nobody_knows_is_refused(house: Store) -> None:
    question = CreateProject(**wish(), organization="nowhere", name="web")
    answer = await ask(house, asks.create_project, question)
    assert isinstance(answer, Problem)
    assert answer.code == "organization_not_found"


async def test_a_key_is_shown_once_and_nothing_that_rests_or_travels_holds_it(house: Store) -> None:
    await found(house, "acme")
    project = await admitted(house, "acme", "web")
    made = await issued(house, project="acme/web")
    assert made.secret is not None
    assert role_in(made.secret) == "project"
    assert made.key.hint == hint_of(made.secret)
    assert made.at_rest().secret is None
    body = made.secret.encode().rpartition(b"_")[2]
    async with house.transaction() as tx:
        for table in ("api_key", "outbox", "reply"):
            for one in await tx.rows(f"SELECT * FROM {table}"):  # a table of this list
                assert body not in repr(one).encode()
    entry = (await access(house))[access_key_of(digest_of(made.secret))]
    assert (entry.project, entry.project_name, entry.role) == (project.id, "web", "project")
    (put,) = await outbox(house, "put")
    assert (put["subject"], put["key"]) == ("access", access_key_of(digest_of(made.secret)))
    assert wire.decode(put["payload"], AccessEntry) == entry


async def test_a_project_is_meant_by_id_by_name_and_by_organization_and_name(house: Store) -> None:
    for organization in ("acme", "globex"):
        await found(house, organization)
        await admitted(house, organization, "web")
    only = await admitted(house, "acme", "only")
    assert (await issued(house, project=only.id)).key.project_id == only.id
    assert (await issued(house, project="only")).key.project_id == only.id
    assert (await issued(house, project="globex/web")).key.project == "web"
    answer = await ask(house, asks.issue_key, IssueKey(**wish(), name="ci", project="web"))
    assert isinstance(answer, Problem)
    assert (answer.status, answer.code) == (409, "ambiguous_project")


async def test_a_revoked_key_opens_nothing_and_is_shown_so_each_time_somebody_asks(
    house: Store,
) -> None:
    made = await issued(house, role="admin")
    assert made.secret is not None
    at = access_key_of(digest_of(made.secret))
    stale = await ask(house, asks.revoke_key, RevokeKey(**wish(), key_id=made.key.id, generation=7))
    assert (stale.status, stale.code) == (412, "generation_mismatch")
    first = await ask(house, asks.revoke_key, RevokeKey(**wish(), key_id=made.key.id, generation=1))
    assert isinstance(first, Key)
    assert first.revoked_at == NOW
    assert (await access(house))[at].revoked
    puts = len(await outbox(house, "put"))
    facts = len(await outbox(house, "fact"))
    again = await ask(house, asks.revoke_key, RevokeKey(**wish(), key_id=made.key.id, generation=1))
    assert again == first
    assert len(await outbox(house, "put")) == puts + 1
    assert len(await outbox(house, "fact")) == facts


async def test_a_tenant_lists_its_own_and_can_neither_see_nor_end_anothers_key(house: Store) -> None:
    await found(house, "acme")
    mine, theirs = await admitted(house, "acme", "mine"), await admitted(house, "acme", "theirs")
    await issued(house, project=mine.id)
    other = await issued(house, project=theirs.id)
    await issued(house, role="admin")
    principal = tenant(mine)
    keys = await ask(house, asks.list_keys, ListKeys(**wish()), principal)
    assert [one.project_id for one in keys.items] == [mine.id]
    projects = await ask(house, asks.list_projects, ListProjects(**wish()), principal)
    assert [one.id for one in projects.items] == [mine.id]
    refused = await ask(house, asks.revoke_key, RevokeKey(**wish(), key_id=other.key.id), principal)
    assert isinstance(refused, Problem)
    assert refused.code == "key_not_found"


async def test_lists_are_paged_without_loss_or_repeats(house: Store) -> None:
    for organization in ("c", "a", "b"):
        await found(house, organization)
        for name in ("y", "x"):
            await admitted(house, organization, name)
            await issued(house, project=f"{organization}/{name}")

    async def all_of(handler: Any, kind: Any) -> list[Any]:
        items, cursor = [], None
        for _ in range(20):
            page = await ask(house, handler, kind(**wish(), page=Page(limit=2, cursor=cursor)))
            items += page.items
            cursor = page.next
            if cursor is None:
                break
        return items

    assert [one.name for one in await all_of(asks.list_organizations, ListOrganizations)] == [
        "a",
        "b",
        "c",
    ]
    assert [(one.organization, one.name) for one in await all_of(asks.list_projects, ListProjects)] == [
        (organization, name) for organization in "abc" for name in "xy"
    ]
    keys = await all_of(asks.list_keys, ListKeys)
    assert len({one.id for one in keys}) == len(keys) == 6
    assert [one.id for one in keys] == sorted((one.id for one in keys), reverse=True)
