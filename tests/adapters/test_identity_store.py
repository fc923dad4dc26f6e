"""Identity's doors on a real Postgres."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from identity import asks, bootstrap
from identity import store as sql
from identity.app import MIGRATIONS
from mesh_contracts import wire
from mesh_contracts.ask import Page, Principal, Problem
from mesh_contracts.identity import (
    AccessEntry,
    CreateJoinToken,
    CreateOrganization,
    CreateProject,
    Enrolment,
    EnrolNode,
    IssuedKey,
    IssueKey,
    JoinToken,
    Key,
    ListJoinTokens,
    ListKeys,
    ListOrganizations,
    ListProjects,
    Organization,
    Project,
    RevokeKey,
)
from mesh_contracts.keytext import access_key_of, digest_of, hint_of, key_text, role_in
from meshkit import usertoken
from meshkit.config import Secret
from meshkit.doors import AskDoor
from meshkit.errors import ConfigError
from meshkit.store import Store
from meshkit.testing import NOW, FrozenClock, wish

from tests.servers_postgres import PostgresServer

ADMIN = Principal(principal_id="key_a", role="admin", expires_at=NOW + timedelta(days=1))
NOBODY = Principal(principal_id="nobody", role="nobody", expires_at=NOW + timedelta(days=1))
SITE = "fr-idf-1"


@pytest.fixture
async def house(postgres: PostgresServer) -> AsyncIterator[Store]:
    dsn = Secret(postgres.dsn("identity"))
    store = await Store.connect(dsn, owner="identity", clock=FrozenClock(), migrations=MIGRATIONS)
    yield store
    await store.close()


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
    first = await ask(house, asks.revoke_key, RevokeKey(**wish(), key_id=made.key.id))
    assert isinstance(first, Key)
    assert first.revoked_at == NOW
    assert (await access(house))[at].revoked
    puts = len(await outbox(house, "put"))
    facts = len(await outbox(house, "fact"))
    again = await ask(house, asks.revoke_key, RevokeKey(**wish(), key_id=made.key.id))
    assert again == first
    assert len(await outbox(house, "put")) == puts + 1
    assert len(await outbox(house, "fact")) == facts


async def test_a_key_that_ended_long_ago_leaves_the_bucket(house: Store) -> None:
    clock = house.clock
    assert isinstance(clock, FrozenClock)
    stays = await issued(house, role="admin")
    revoked = await issued(house, role="admin")
    await issued(house, role="admin", expires_at=NOW + timedelta(days=1))
    await ask(house, asks.revoke_key, RevokeKey(**wish(), key_id=revoked.key.id))
    assert len(await access(house)) == 3
    clock.move(32 * 24 * 3600)
    assert [one.key_id for one in (await access(house)).values()] == [stays.key.id]


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


def node_asks(token: str, key: str | None = None) -> EnrolNode:
    public_key = key or usertoken.public_key(usertoken.new_seed("user"))
    return EnrolNode(**wish(), join_token=token, public_key=public_key, name="n01")


async def test_a_token_enrols_as_many_nodes_as_it_has_uses_and_each_node_once(house: Store) -> None:
    token = await ask(house, asks.create_join_token, CreateJoinToken(**wish(), uses=2))
    assert isinstance(token, JoinToken)
    assert token.token is not None
    first = node_asks(token.token)
    node = await ask(house, asks.enrol_node, first, NOBODY)
    assert isinstance(node, Enrolment)
    assert await ask(house, asks.enrol_node, node_asks(token.token, first.public_key), NOBODY) == node
    listed = await ask(house, asks.list_join_tokens, ListJoinTokens(**wish()))
    assert [(one.uses_left, one.token) for one in listed.items] == [(1, None)]
    assert isinstance(await ask(house, asks.enrol_node, node_asks(token.token), NOBODY), Enrolment)
    third = await ask(house, asks.enrol_node, node_asks(token.token), NOBODY)
    assert isinstance(third, Problem)
    assert third.code == "join_token_invalid"
    assert await ask(house, asks.enrol_node, node_asks("gone", first.public_key), NOBODY) == node
    assert (await ask(house, asks.list_join_tokens, ListJoinTokens(**wish()))).items == []


async def test_many_nodes_racing_for_the_last_use_enrol_one(house: Store) -> None:
    token = await ask(house, asks.create_join_token, CreateJoinToken(**wish(), uses=1))

    asked = [node_asks(token.token) for _ in range(6)]
    answers = await asyncio.gather(*(ask(house, asks.enrol_node, one, NOBODY) for one in asked))
    assert sum(isinstance(one, Enrolment) for one in answers) == 1
    assert {one.code for one in answers if isinstance(one, Problem)} == {"join_token_invalid"}


async def test_one_node_asking_twice_at_once_is_enrolled_once(house: Store) -> None:
    token = await ask(house, asks.create_join_token, CreateJoinToken(**wish(), uses=5))
    asked = [node_asks(token.token)]
    asked += [node_asks(token.token, asked[0].public_key) for _ in range(4)]
    answers = await asyncio.gather(*(ask(house, asks.enrol_node, one, NOBODY) for one in asked))
    assert len({one.node_id for one in answers}) == 1
    listed = await ask(house, asks.list_join_tokens, ListJoinTokens(**wish()))
    assert listed.items[0].uses_left == 4


def wanted(tmp_path: Path, **fields: Any) -> bootstrap.Bootstrap:
    admin, demo = key_text("admin", "a" * 30), key_text("project", "b" * 30)
    path = tmp_path / "bootstrap.json"
    content = {
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
        "join_tokens": [{"digest": digest_of(key_text("join", "c" * 30)), "uses": 2, "lifetime_s": 60}],
        "callout_seed_file": str(tmp_path / "callout.nk"),
        **fields,
    }
    path.write_text(json.dumps(content))
    return bootstrap.read(path)


async def test_a_bootstrap_applied_twice_makes_and_tells_once(house: Store, tmp_path: Path) -> None:
    await bootstrap.apply(wanted(tmp_path), house, house.clock, SITE)
    facts = [one["subject"].rsplit(".", 3)[0] for one in await outbox(house, "fact")]
    assert facts == ["identity.project.admitted", "identity.key.issued", "identity.key.issued"]
    held = await access(house)
    assert {(one.role, one.project_name) for one in held.values()} == {
        ("admin", None),
        ("project", "demo"),
    }
    await ask(
        house,
        asks.revoke_key,
        RevokeKey(**wish(), key_id=held[access_key_of(digest_of(key_text("admin", "a" * 30)))].key_id),
    )
    told = len(await outbox(house, "fact"))
    await bootstrap.apply(wanted(tmp_path), house, house.clock, SITE)
    assert len(await outbox(house, "fact")) == told
    assert (await access(house))[access_key_of(digest_of(key_text("admin", "a" * 30)))].revoked
    node = await ask(house, asks.enrol_node, node_asks(key_text("join", "c" * 30)), NOBODY)
    assert isinstance(node, Enrolment)


async def test_a_bootstrap_that_no_ask_would_be_granted_changes_nothing(
    house: Store, tmp_path: Path
) -> None:
    keys = [{"name": "x", "role": "root", "digest": "0" * 64, "hint": "x"}]
    with pytest.raises(ConfigError, match="'x' cannot be issued"):
        await bootstrap.apply(wanted(tmp_path, keys=keys), house, house.clock, SITE)
    assert await outbox(house, "fact") == []


def test_a_bootstrap_file_with_an_unknown_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="surprise"):
        wanted(tmp_path, surprise=1)
