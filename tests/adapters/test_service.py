"""A whole service, assembled, against a real nats-server and a real Postgres."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.fact import born_of
from mesh_contracts.identity import (
    AccessEntry,
    CreateProject,
    ListProjects,
    Project,
    ProjectAdmitted,
    Projects,
)
from meshkit.bucket import Watched
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.declare import declare
from meshkit.service import Service
from meshkit.store import Transaction
from meshkit.testing import test_id

from tests.adapters.roads import connected, opened, settings, until
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

ADMIN = Principal(
    principal_id="key_admin", role="admin", expires_at=datetime.now(UTC) + timedelta(hours=1)
)
STRANGER = msgspec.structs.replace(ADMIN, role="stranger")


class Registry:
    """A small identity: projects in a table, one access entry each."""

    def __init__(self, service: Service) -> None:
        self.created = 0
        service.answers(CreateProject, self.create, after_puts=True)
        service.answers(ListProjects, self.listed)
        service.writes("access", self.snapshot)

    async def create(
        self, ask: CreateProject, _principal: Principal, tx: Transaction, clock: Clock
    ) -> Project | Problem:
        if ask.name == "taken":
            await tx.change("INSERT INTO project (id, name) VALUES ('gone', 'gone')")
            return Problem(title="Taken", status=409, code="name_taken", detail="choose another name")
        self.created += 1
        project = test_id("project", f"{ask.name}{self.created}")
        await tx.change("INSERT INTO project (id, name) VALUES ($1, $2)", project, ask.name)
        await tx.tell(
            ProjectAdmitted(
                **born_of(ask, clock.now(), ProjectAdmitted, key=project),
                name=ask.name,
                organization_name=ask.organization,
            )
        )
        await tx.put("access", f"key.{ask.name}", entry(ask.name))
        return Project(
            id=project,
            name=ask.name,
            organization=ask.organization,
            organization_id=test_id("organization", "demo"),
            created_at=clock.now(),
            generation=1,
        )

    async def listed(
        self, _ask: ListProjects, _principal: Principal, _tx: Transaction, _clock: Clock
    ) -> Projects:
        return Projects(items=[])

    async def snapshot(self, tx: Transaction) -> Mapping[str, msgspec.Struct]:
        return {
            f"key.{row['name']}": entry(row["name"])
            for row in await tx.rows("SELECT name FROM project")
        }


def entry(name: str) -> AccessEntry:
    return AccessEntry(key_id=test_id("key", name), role="project")


class Town:
    """A bus, a database, and the services a test starts on them."""

    def __init__(self, folder: Path, url: str, dsn: str) -> None:
        self.settings: Any = settings(folder, url, dsn)
        self.dsn = dsn
        self.services: list[Service] = []

    async def service(self) -> tuple[Service, Registry]:
        service = Service("identity", self.settings)
        registry = Registry(service)
        self.services.append(service)
        await service.start()
        return service, registry


@pytest.fixture
async def bus(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Bus]:
    connection = await connected(tmp_path, nats_server.url, "inference-gateway")
    await declare(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def town(
    bus: Bus, nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[Town]:
    dsn = postgres.dsn("identity")
    store = await opened(dsn, "identity")
    async with store.transaction() as tx:
        await tx.change("CREATE TABLE project (id text PRIMARY KEY, name text)")
    await store.close()
    built = Town(tmp_path, nats_server.url, dsn)
    yield built
    for service in built.services:
        await service.stop()


async def create(bus: Bus, name: str, **envelope: Any) -> Any:
    return await bus.ask(CreateProject(**bus.wish(ADMIN, **envelope), name=name, organization="demo"))


async def test_a_wish_is_answered_once_its_put_stands_in_the_bucket(bus: Bus, town: Town) -> None:
    await town.service()
    watched: Watched[AccessEntry] = await Watched.open(bus, "access")
    reply = await create(bus, "one")
    assert isinstance(reply, Project)
    stored = await bus.last("KV_access", "$KV.access.key.one")
    assert stored is not None
    await until(lambda: watched.values.get("key.one") == entry("one"))
    told = await bus.at("IDENTITY", 1)
    assert told is not None
    assert told.subject == f"identity.project.admitted.fr-idf-1.00.{reply.id}"
    await watched.close()


async def test_the_same_key_gives_the_same_answer_and_another_body_is_refused(
    bus: Bus, town: Town
) -> None:
    _, registry = await town.service()
    first = await create(bus, "one", idempotency_key="k")
    again = await create(bus, "one", idempotency_key="k")
    other = await create(bus, "two", idempotency_key="k")
    assert first == again
    assert registry.created == 1
    assert isinstance(other, Problem)
    assert (other.status, other.code) == (422, "idempotency_key_reused")


async def test_racing_wishes_with_one_key_have_one_effect(bus: Bus, town: Town) -> None:
    _, registry = await town.service()
    replies = await asyncio.gather(*(create(bus, "one", idempotency_key="k") for _ in range(8)))
    assert len({reply.id for reply in replies}) == 1
    assert registry.created == 1


async def test_a_problem_leaves_nothing_behind(bus: Bus, town: Town) -> None:
    service, _ = await town.service()
    refused = await create(bus, "taken", idempotency_key="k")
    assert isinstance(refused, Problem)
    assert refused.code == "name_taken"
    async with service.store.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM project") == 0
        assert await tx.value("SELECT count(*) FROM reply") == 0


async def test_a_stranger_may_not_and_the_handler_never_runs(bus: Bus, town: Town) -> None:
    _, registry = await town.service()
    refused = await bus.ask(CreateProject(**bus.wish(STRANGER), name="one", organization="demo"))
    assert isinstance(refused, Problem)
    assert refused.status == 403
    assert registry.created == 0


async def test_a_start_puts_what_is_missing_and_drops_what_should_not_be(bus: Bus, town: Town) -> None:
    service, _ = await town.service()
    await create(bus, "one")
    await create(bus, "two")
    await service.stop()
    town.services.clear()
    store = await opened(town.dsn, "identity")
    async with store.transaction() as tx:
        await tx.change("DELETE FROM project WHERE name = 'one'")
        await tx.change("INSERT INTO project (id, name) VALUES ('x', 'three')")
    await store.close()
    await town.service()
    watched: Watched[AccessEntry] = await Watched.open(bus, "access")
    await until(lambda: set(watched.values) == {"key.two", "key.three"})
    await watched.close()


async def test_a_second_process_stands_by_and_takes_over_the_bucket_with_a_later_epoch(
    bus: Bus, town: Town
) -> None:
    first, _ = await town.service()
    await create(bus, "one")
    epoch = first.store.epoch
    second, _ = await town.service()
    await first.stop()
    town.services.remove(first)
    assert isinstance(await create(bus, "two"), Project)
    assert second.store.epoch > epoch


async def test_a_bucket_that_the_bus_lost_or_holds_an_older_copy_of_is_put_right(
    bus: Bus, town: Town
) -> None:
    service, _ = await town.service()
    for name in ("one", "two"):
        await create(bus, name)
    older = await bus.last("KV_access", "$KV.access.key.one")
    assert older is not None
    # The server starts again from an older copy of its disk: one key is gone, one is as it was.
    await bus.request("$JS.API.STREAM.DELETE.KV_access", b"", within_s=5)
    await declare(bus)
    await bus.store("$KV.access.key.gone", older.data)
    await bus.store("$KV.access.key.one", older.data.replace(b"project", b"stranger"))
    service.bus.connection.abort()
    watched: Watched[AccessEntry] = await Watched.open(bus, "access")
    await until(lambda: watched.values == {f"key.{name}": entry(name) for name in ("one", "two")})
    assert isinstance(await create(bus, "three"), Project)
    await until(lambda: "key.three" in watched.values)
    await watched.close()


async def test_a_wish_waits_for_nothing_while_the_database_is_away(
    bus: Bus, town: Town, postgres: PostgresServer
) -> None:
    service, _ = await town.service()
    postgres.kill()
    refused = await create(bus, "one")
    assert isinstance(refused, Problem)
    assert (refused.status, refused.code) == (503, "unavailable")
    await until(lambda: any("database" in text for text in service._missing()))
    await asyncio.to_thread(postgres.start)
    await until(lambda: service._missing() == [])
    assert isinstance(await create(bus, "one"), Project)


async def test_a_stop_takes_less_than_its_bound_with_the_bus_away(
    bus: Bus, town: Town, nats_server: NatsServer
) -> None:
    service, _ = await town.service()
    nats_server.kill()
    began = asyncio.get_running_loop().time()
    await service.stop()
    town.services.clear()
    assert asyncio.get_running_loop().time() - began < 5
    nats_server.start()
