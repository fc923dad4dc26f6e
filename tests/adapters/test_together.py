"""Asks decided together, against a real nats-server and a real Postgres: one commit, an answer each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.fact import born_of
from mesh_contracts.identity import CreateProject, Project, ProjectAdmitted
from meshkit import together
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.declare import declare
from meshkit.errors import NotHeardYet
from meshkit.service import Service
from meshkit.store import Transaction
from meshkit.testing import test_id
from meshkit.together import Asked

from tests.adapters.roads import connected, opened, settings
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

ADMIN = Principal(
    principal_id="key_admin", role="admin", expires_at=datetime.now(UTC) + timedelta(hours=1)
)
TAKEN = Problem(title="Taken", status=409, code="name_taken", detail="choose another name")


class Registry:
    """Projects in a table; what it does on a name is said by the name."""

    def __init__(self, service: Service) -> None:
        self.batches: list[list[str]] = []
        self.heard = False
        self.slow_s = 0.0
        self.service = service
        service.answers_together(CreateProject, self.create)

    async def create(self, asked: Sequence[Asked], tx: Transaction, clock: Clock) -> list[Any]:
        names = [one.ask.name for one in asked]
        self.batches.append(names)
        answers: list[Any] = []
        facts = []
        for one in asked:
            ask, name = one.ask, one.ask.name
            if name == "taken":
                answers.append(TAKEN)
                continue
            if name == "late" and not self.heard:
                answers.append(NotHeardYet(TAKEN))
                continue
            if name == "broken":
                raise RuntimeError
            project = test_id("project", name)
            await tx.change("INSERT INTO project (id, name) VALUES ($1, $2)", project, name)
            born = born_of(ask, clock.now(), ProjectAdmitted, key=project)
            facts.append(ProjectAdmitted(**born, name=name, organization_name="demo"))
            answers.append(
                Project(
                    id=project,
                    name=name,
                    organization="demo",
                    organization_id=test_id("organization", "demo"),
                    created_at=clock.now(),
                    generation=1,
                )
            )
        await tx.tell_all(facts)
        await asyncio.sleep(self.slow_s)
        return answers


@pytest.fixture
async def registry(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[Registry]:
    dsn = postgres.dsn("identity")
    store = await opened(dsn, "identity")
    async with store.transaction() as tx:
        await tx.change("CREATE TABLE project (id text PRIMARY KEY, name text)")
    await store.close()
    bus = await connected(tmp_path, nats_server.url, "inference-gateway")
    await declare(bus)
    await bus.close()
    service = Service("identity", settings(tmp_path, nats_server.url, dsn))
    built = Registry(service)
    await service.start()
    yield built
    await service.stop()


@pytest.fixture
async def bus(registry: Registry, nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Bus]:
    connection = await connected(tmp_path, nats_server.url, "inference-gateway")
    yield connection
    await connection.close()


async def create(bus: Bus, name: str, **envelope: Any) -> Any:
    return await bus.ask(CreateProject(**bus.wish(ADMIN, **envelope), name=name, organization="demo"))


async def create_all(bus: Bus, names: Sequence[str]) -> list[Any]:
    return await asyncio.gather(
        *(create(bus, name, idempotency_key=f"key of {name}") for name in names)
    )


async def stored(registry: Registry, what: str = "project") -> int:
    async with registry.service.store.transaction() as tx:
        return int(await tx.value(f"SELECT count(*) FROM {what}"))


async def test_asks_that_come_together_share_a_transaction_and_each_is_answered(
    bus: Bus, registry: Registry
) -> None:
    names = [f"p{number}" for number in range(100)]
    replies = await create_all(bus, names)
    assert [reply.name for reply in replies] == names
    assert len(registry.batches) < 25
    assert max(map(len, registry.batches)) <= together.TOGETHER_MAX
    assert (await stored(registry), await stored(registry, "reply")) == (100, 100)
    facts = [await bus.at("IDENTITY", number) for number in range(1, 101)]
    keys = [fact.subject.rpartition(".")[2] for fact in facts if fact is not None]
    assert sorted(keys) == sorted(reply.id for reply in replies)


async def test_who_comes_until_a_transaction_has_its_turn_is_decided_on_in_it(
    bus: Bus, registry: Registry
) -> None:
    store = registry.service.store
    store.take_turns()
    async with store.transaction(changes=True):
        asking = []
        for name in ("a", "b", "c"):
            asking.append(asyncio.create_task(create(bus, name)))
            await asyncio.sleep(0.05)
    assert [(await one).name for one in asking] == ["a", "b", "c"]
    assert registry.batches == [["a", "b", "c"]]


async def test_one_that_is_refused_leaves_nothing_behind_and_holds_nobody_up(
    bus: Bus, registry: Registry
) -> None:
    replies = await create_all(bus, ["a", "taken", "b"])
    assert [getattr(reply, "code", "") for reply in replies] == ["", "name_taken", ""]
    assert (await stored(registry), await stored(registry, "reply")) == (2, 2)


async def test_where_one_fails_only_that_one_is_told_so(bus: Bus, registry: Registry) -> None:
    replies = await create_all(bus, ["a", "broken", "b", "c"])
    assert [getattr(reply, "code", "") for reply in replies] == ["", "internal", "", ""]
    assert await stored(registry) == 3
    assert ["broken"] in registry.batches


async def test_a_key_used_twice_is_decided_once_and_with_another_body_refused(
    bus: Bus, registry: Registry
) -> None:
    one, twin, other = await asyncio.gather(
        create(bus, "one", idempotency_key="k"),
        create(bus, "one", idempotency_key="k"),
        create(bus, "two", idempotency_key="k"),
    )
    assert one == twin
    assert other.code == "idempotency_key_reused"
    assert await create(bus, "one", idempotency_key="k") == one
    assert (await create(bus, "two", idempotency_key="k")).code == "idempotency_key_reused"
    assert sum(batch.count("one") for batch in registry.batches) == 1
    assert await stored(registry) == 1


async def test_two_processes_that_are_asked_under_one_key_decide_it_once(
    bus: Bus, registry: Registry, nats_server: NatsServer, tmp_path: Path
) -> None:
    told: Any = registry.service.settings
    dsn = told.postgres_dsn.reveal()
    other = Registry(Service("identity", settings(tmp_path, nats_server.url, dsn)))
    await other.service.start()
    try:
        for number in range(10):
            name = f"n{number}"
            asked = [create(bus, name, idempotency_key=name) for _ in range(6)]
            replies = await asyncio.gather(*asked)
            assert len({reply.id for reply in replies}) == 1
        assert await stored(registry) == 10
        assert registry.batches
        assert other.batches
    finally:
        await other.service.stop()


async def test_a_commit_that_fails_refuses_all_of_its_asks_and_leaves_nothing(
    bus: Bus, registry: Registry, postgres: PostgresServer
) -> None:
    registry.slow_s = 0.5
    asking = asyncio.create_task(create_all(bus, ["a", "b", "c"]))
    while not registry.batches:  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.01)
    postgres.kill()
    replies = await asking
    assert {(reply.status, reply.code) for reply in replies} == {(503, "unavailable")}
    await asyncio.to_thread(postgres.start)
    registry.slow_s = 0.0
    assert await stored(registry) == 0
    assert isinstance(await create(bus, "a"), Project)


async def test_what_is_not_heard_of_yet_is_waited_for_while_others_are_answered(
    bus: Bus, registry: Registry
) -> None:
    late = asyncio.create_task(create(bus, "late"))
    await asyncio.sleep(0.2)
    assert isinstance(await create(bus, "a"), Project)
    assert not late.done()
    registry.heard = True
    assert isinstance(await late, Project)
    registry.heard = False
    assert (await create(bus, "late", idempotency_key="again")).code == "name_taken"


async def test_more_than_may_wait_are_told_to_come_again(
    bus: Bus, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "TOGETHER_WAITING_MAX", 5)
    registry.slow_s = 0.3
    replies = await create_all(bus, [f"p{number}" for number in range(20)])
    busy = [reply for reply in replies if isinstance(reply, Problem)]
    assert {(reply.status, reply.code) for reply in busy} == {(503, "busy")}
    assert len(busy) == 20 - await stored(registry)
    assert busy


async def test_one_whose_time_is_over_before_its_turn_is_not_decided(
    bus: Bus, registry: Registry
) -> None:
    registry.slow_s = 0.8
    first = asyncio.create_task(create(bus, "first"))
    await asyncio.sleep(0.1)
    late = await create(bus, "late-one", timeout_s=0.4)
    assert (late.status, late.code) == (503, "unavailable")
    assert isinstance(await first, Project)
    await asyncio.sleep(0.2)
    assert registry.batches == [["first"]]
