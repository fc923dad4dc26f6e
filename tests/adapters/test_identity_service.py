"""Identity on a closed bus: asks from the gateway, the bucket it watches, nodes through the callout."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.identity import (
    AccessEntry,
    CreateJoinToken,
    CreateOrganization,
    Enrolment,
    EnrolNode,
    IssuedKey,
    IssueKey,
    Key,
    ListKeys,
    ListOrganizations,
    RevokeKey,
)
from mesh_contracts.keytext import access_key_of, digest_of, key_text
from mesh_contracts.units import DEFAULT_SITE
from meshkit import usertoken
from meshkit.bucket import Watched
from meshkit.errors import PermissionsViolation
from meshkit.telemetry import METRICS
from meshkit.testing import test_id

from tests.adapters.houses import ADMIN_KEY, DEMO_KEY, JOIN, House, asked
from tests.adapters.roads import until
from tests.adapters.services import FAR, connected
from tests.closed_bus import closed_bus
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def house(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[House]:
    async with closed_bus() as bus:
        house = House(bus, tmp_path, postgres.dsn("identity"))
        await house.start()
        house.gateway = await connected(bus, tmp_path, "inference-gateway")
        try:
            yield house
        finally:
            await house.gateway.close()
            await house.service.stop()


async def test_a_mesh_begins_with_what_its_bootstrap_says(house: House) -> None:
    access: Watched[AccessEntry] = await Watched.open(house.gateway, "access")
    await until(lambda: len(access.values) == 2)
    demo = access.values[access_key_of(digest_of(DEMO_KEY))]
    assert (demo.role, demo.project_name) == ("project", "demo")
    assert access.values[access_key_of(digest_of(ADMIN_KEY))].role == "admin"
    assert [one.name for one in (await asked(house, ListOrganizations)).items] == ["demo"]
    await access.close()


async def test_a_key_is_issued_answered_once_with_its_secret_and_revoked_before_the_answer(
    house: House,
) -> None:
    access: Watched[AccessEntry] = await Watched.open(house.gateway, "access")
    issued = await asked(house, IssueKey, key="once", name="ci", project="demo")
    assert isinstance(issued, IssuedKey)
    assert issued.secret is not None
    again = await asked(house, IssueKey, key="once", name="ci", project="demo")
    assert again == IssuedKey(key=issued.key, secret=None)
    other = await asked(house, IssueKey, key="once", name="other", project="demo")
    assert isinstance(other, Problem)
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    at = access_key_of(digest_of(issued.secret))
    await until(lambda: at in access.values)
    revoked = await asked(house, RevokeKey, key_id=issued.key.id)
    assert isinstance(revoked, Key)
    # The put was acknowledged before the answer: a fresh read of the bucket shows it.
    kept = await house.service.bus.last("KV_access", f"$KV.access.{at}")
    assert kept is not None
    assert json.loads(kept.data)["value"]["revoked"] is True
    await until(lambda: access.values[at].revoked)
    await access.close()


async def test_a_secret_rests_nowhere_in_the_database_or_on_the_bus(house: House) -> None:
    issued = await asked(house, IssueKey, key="k1", name="ci", project="demo")
    token = await asked(house, CreateJoinToken, key="k2", uses=1)
    secrets = [issued.secret.rpartition("_")[2], token.token.rpartition("_")[2]]
    async with house.service.store.transaction() as tx:
        tables = await tx.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        found = [str(await tx.rows(f"SELECT * FROM {one['tablename']}")) for one in tables]

    def kept() -> bytes:
        return b"".join(path.read_bytes() for path in (house.bus.folder / "jetstream").rglob("*.blk"))

    await until(lambda: issued.key.id.encode() in kept())
    for secret in secrets:
        assert not any(secret in text for text in found)
        assert secret.encode() not in kept()


async def test_identity_started_again_tells_and_changes_nothing_by_its_bootstrap(house: House) -> None:
    before = (await asked(house, ListKeys)).items
    await house.service.stop()
    await house.start()
    assert (await asked(house, ListKeys)).items == before


async def test_a_node_joins_by_its_token_and_then_comes_by_its_key_alone(house: House) -> None:
    seed = usertoken.new_seed("user")
    public_key = usertoken.public_key(seed)
    async with house.node(seed, JOIN) as joining:
        wish = {"join_token": JOIN, "public_key": public_key, "name": "n01"}
        enrolled = await joining.ask(EnrolNode(**joining.wish(""), **wish))
        assert isinstance(enrolled, Enrolment)
        with pytest.raises(PermissionsViolation):
            await joining.subscribe(f"intent.{enrolled.node_id}", lambda _: None)
    async with house.node(seed) as node:
        heard: list[bytes] = []
        await node.subscribe(f"intent.{enrolled.node_id}", lambda message: heard.append(message.data))
        with pytest.raises(PermissionsViolation):
            await node.subscribe("intent.another", lambda _: None)
        subject = f"agent.node.joined.{DEFAULT_SITE}.00.{enrolled.node_id}"
        assert await node.store(subject, b"{}") == 1
        again = await node.ask(EnrolNode(**node.wish(""), **wish))
        assert again == enrolled


async def test_a_stranger_with_a_wrong_token_a_used_one_or_no_key_is_refused_and_counted(
    house: House,
) -> None:
    async def refused(reason: str) -> float:
        return METRICS.value("mesh_callouts_total", verdict="refused", reason=reason)

    unknown = await refused("unknown")
    for token in (None, "mesh_join_invented", key_text("join", "z" * 30)):
        with pytest.raises(PermissionsViolation):
            async with house.node(usertoken.new_seed("user"), token):
                pass
    assert await refused("unknown") >= unknown + 3
    over = await refused("token-over")
    one_use = (await asked(house, CreateJoinToken, uses=1)).token
    seed = usertoken.new_seed("user")
    async with house.node(seed, one_use) as joining:
        wish = {"join_token": one_use, "public_key": usertoken.public_key(seed), "name": "n01"}
        assert isinstance(await joining.ask(EnrolNode(**joining.wish(""), **wish)), Enrolment)
    with pytest.raises(PermissionsViolation):
        async with house.node(usertoken.new_seed("user"), one_use):
            pass
    assert await refused("token-over") > over


async def test_who_claims_a_nodes_key_without_its_seed_is_refused(house: House) -> None:
    seed = usertoken.new_seed("user")
    public_key = usertoken.public_key(seed)
    async with house.node(seed, JOIN) as joining:
        wish = {"join_token": JOIN, "public_key": public_key, "name": "n01"}
        assert isinstance(await joining.ask(EnrolNode(**joining.wish(""), **wish)), Enrolment)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.bus.server.port)
    nonce = json.loads((await reader.readline()).removeprefix(b"INFO "))["nonce"]
    forger = usertoken.key_pair(usertoken.new_seed("user"))
    signature = base64.urlsafe_b64encode(forger.sign(nonce.encode())).decode().rstrip("=")
    said = json.dumps({"nkey": public_key, "sig": signature, "verbose": False, "pedantic": False})
    writer.write(f"CONNECT {said}\r\nPING\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.readline()
    writer.close()
    assert answer.startswith(b"-ERR 'Authorization Violation'")


async def test_many_nodes_that_come_at_once_all_get_in(house: House) -> None:
    token = (await asked(house, CreateJoinToken, uses=30)).token
    seeds = [usertoken.new_seed("user") for _ in range(30)]

    async def join(seed: str) -> str:
        async with house.node(seed, token) as joining:
            wish = {"join_token": token, "public_key": usertoken.public_key(seed), "name": "n"}
            enrolled = await joining.ask(EnrolNode(**joining.wish(""), **wish))
            assert isinstance(enrolled, Enrolment)
            return enrolled.node_id

    async def come(seed: str) -> None:
        async with house.node(seed) as node:
            assert node.connected

    assert len(set(await asyncio.gather(*(join(seed) for seed in seeds)))) == 30
    await asyncio.gather(*(come(seed) for seed in seeds))


async def test_a_nodes_right_ends_after_its_life_and_identity_is_asked_again(house: House) -> None:
    await house.service.stop()
    await house.start(identity_node_life_s=1)
    seed = usertoken.new_seed("user")
    async with house.node(seed, JOIN) as joining:
        wish = {"join_token": JOIN, "public_key": usertoken.public_key(seed), "name": "n01"}
        assert isinstance(await joining.ask(EnrolNode(**joining.wish(""), **wish)), Enrolment)
    renewed = asyncio.Event()

    async def note() -> None:
        renewed.set()

    async with house.node(seed) as node:
        admitted = METRICS.value("mesh_callouts_total", verdict="node", reason="")
        node.on_reconnect(note)
        async with asyncio.timeout(10):
            await renewed.wait()
        assert METRICS.value("mesh_callouts_total", verdict="node", reason="") > admitted


async def test_a_known_node_comes_back_while_the_database_is_away(
    house: House, postgres: PostgresServer
) -> None:
    seed = usertoken.new_seed("user")
    async with house.node(seed, JOIN) as joining:
        wish = {"join_token": JOIN, "public_key": usertoken.public_key(seed), "name": "n01"}
        await joining.ask(EnrolNode(**joining.wish(""), **wish))
    async with house.node(seed):
        pass
    postgres.kill()
    try:
        async with house.node(seed) as node:
            assert node.connected
        with pytest.raises(PermissionsViolation):
            async with house.node(usertoken.new_seed("user"), JOIN):
                pass
    finally:
        postgres.start()


async def test_nobody_asks_without_a_seal_and_a_tenant_makes_no_organization(house: House) -> None:
    unsealed = CreateOrganization(**house.gateway.wish("p1.forged"), name="x")
    answer = await house.gateway.ask(unsealed)
    assert isinstance(answer, Problem)
    assert answer.status == 401
    tenant = Principal(principal_id="key_t", role="project", project=test_id("project"), expires_at=FAR)
    answer = await house.gateway.ask(CreateOrganization(**house.gateway.wish(tenant), name="x"))
    assert isinstance(answer, Problem) and answer.code == "forbidden"  # noqa: PT018
