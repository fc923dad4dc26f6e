"""Identity's doors on a real Postgres: nodes, the bootstrap, what is let go."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from identity import asks, bootstrap
from identity.callout import Callout
from identity.domain.joining import TurnAway
from identity.tidying import tidy
from mesh_contracts.ask import Problem
from mesh_contracts.identity import (
    CreateJoinToken,
    Enrolment,
    EnrolNode,
    JoinToken,
    ListJoinTokens,
    RevokeKey,
)
from mesh_contracts.keytext import access_key_of, digest_of, hint_of, key_text
from meshkit import usertoken
from meshkit.bus import Bus
from meshkit.errors import ConfigError
from meshkit.store import Store
from meshkit.testing import NOW, FrozenClock, wish

from tests.adapters.identities import NOBODY, SITE, access, ask, issued, opened, outbox
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def house(postgres: PostgresServer) -> AsyncIterator[Store]:
    store = await opened(postgres.dsn("identity"))
    yield store
    await store.close()


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


def at_the_door(seed: str) -> usertoken.Request:
    pair = usertoken.key_pair(seed)
    return usertoken.Request(
        user_nkey=usertoken.public_key(seed),
        server_id="N",
        public_key=usertoken.public_key(seed),
        signature=base64.urlsafe_b64encode(pair.sign(b"nonce")).decode(),
        nonce="nonce",
        token="",
        host="127.0.0.1",
    )


async def test_a_known_node_is_let_in_while_the_database_hangs(house: Store, bus: Bus) -> None:
    token = await ask(house, asks.create_join_token, CreateJoinToken(**wish(), uses=1))
    seed, stranger = usertoken.new_seed("user"), usertoken.new_seed("user")
    enrolled = await ask(
        house, asks.enrol_node, node_asks(token.token, usertoken.public_key(seed)), NOBODY
    )
    signer = usertoken.key_pair(usertoken.new_seed("account"))
    callout = Callout(bus, house, signer=signer, site=SITE, life_s=60, clock=house.clock)
    both = [at_the_door(seed), at_the_door(stranger)]

    async def verdicts() -> list[Any]:
        found = await callout._verdicts(both)
        return [found[one.user_nkey] for one in both]

    known, unknown = await verdicts()
    assert known.node.node_id == enrolled.node_id
    assert unknown == TurnAway("unknown")
    database = await house.connection()
    try:
        async with database.transaction():
            await database.execute("LOCK TABLE node")
            for _ in range(2):
                async with asyncio.timeout(5):
                    assert await verdicts() == [known, TurnAway("database-away")]
    finally:
        await database.close()
    async with asyncio.timeout(5):
        while await verdicts() != [known, TurnAway("unknown")]:  # noqa: ASYNC110 - nothing to wait on
            await asyncio.sleep(0.02)


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


async def test_a_token_that_is_over_is_forgotten_unless_a_node_or_the_bootstrap_names_it(
    house: Store, tmp_path: Path
) -> None:
    clock = house.clock
    assert isinstance(clock, FrozenClock)
    unused = await ask(house, asks.create_join_token, CreateJoinToken(**wish()))
    used = await ask(house, asks.create_join_token, CreateJoinToken(**wish()))
    assert isinstance(await ask(house, asks.enrol_node, node_asks(used.token), NOBODY), Enrolment)
    await bootstrap.apply(wanted(tmp_path), house, clock, SITE)

    async def kept() -> set[str]:
        async with house.transaction() as tx:
            return {row["token_id"] for row in await tx.rows("SELECT token_id FROM join_token")}

    assert await tidy(house, clock.now()) == 0
    assert len(await kept()) == 3
    clock.move(32 * 24 * 3600)
    assert await tidy(house, clock.now()) == 1
    assert unused.id not in await kept()
    await bootstrap.apply(wanted(tmp_path), house, clock, SITE)
    late = await ask(house, asks.enrol_node, node_asks(key_text("join", "c" * 30)), NOBODY)
    assert isinstance(late, Problem)
    assert late.code == "join_token_invalid"


async def test_a_key_that_ended_long_ago_leaves_the_bucket_once(house: Store) -> None:
    clock = house.clock
    assert isinstance(clock, FrozenClock)
    stays = await issued(house, role="admin")
    revoked = await issued(house, role="admin")
    expired = await issued(house, role="admin", expires_at=NOW + timedelta(days=1))
    await ask(house, asks.revoke_key, RevokeKey(**wish(), key_id=revoked.key.id))
    assert await tidy(house, clock.now()) == 0
    assert len(await access(house)) == 3
    clock.move(32 * 24 * 3600)
    assert await tidy(house, clock.now()) == 2
    assert [one.key_id for one in (await access(house)).values()] == [stays.key.id]
    assert len({row["key"] for row in await outbox(house, "drop")}) == 2
    assert await tidy(house, clock.now()) == 0
    puts = len(await outbox(house, "put"))
    for ended in (revoked, expired):
        await ask(house, asks.revoke_key, RevokeKey(**wish(), key_id=ended.key.id))
    assert len(await outbox(house, "put")) == puts
    assert len(await access(house)) == 1
