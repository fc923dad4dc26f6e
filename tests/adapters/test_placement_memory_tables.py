"""Placement's memory and its tables say the same: where it begins, and whatever happens to nodes."""

from typing import Any

import pytest
from mesh_contracts.node import Device, NodeJoined
from mesh_contracts.placement import CreateEndpoint, Model, Resources
from meshkit.testing import envelope, test_id, wish
from placement import asks, handlers, memory, nodes, reading
from placement.domain.engine.wish import Released

from tests.adapters.fleet import ADMIN, PROJECT, Site
from tests.adapters.test_placement_memory import SITE, held
from tests.adapters.watched import Hall

pytestmark = pytest.mark.slow


def where(one: memory.Memory) -> dict[str, Any]:
    return {name: one.engine.seats(kept.parts) for name, kept in one.engine.holdings.items()}


async def test_a_database_without_a_log_is_taken_as_it_stands(hall: Hall) -> None:
    await hall.join("n1", "n2", "n3")
    for name in ("a", "b", "c", "d"):
        await hall.create(name)
    async with hall.store.transaction() as tx:
        before = where(await memory.hold(tx, SITE))
        await tx.change("DELETE FROM decision")
    hall.store.beside.clear()
    after = await held(hall.store)
    assert where(after) == before
    assert len(before) == 4
    async with hall.store.transaction() as tx:
        assert await memory.apply(tx, SITE, Released(workload=next(iter(before)), at=0))
    assert len(where(await held(hall.store))) == 3


async def test_tables_and_memory_say_the_same_whatever_happens_to_nodes(hall: Hall) -> None:
    await hall.join("n1", "n2", "n3", "n4")
    placed = [await hall.create(name) for name in ("a", "b", "c")]
    await hall.pass_(13, but=(placed[0].node,))
    await hall.pass_(3)
    async with hall.store.transaction() as tx:
        running = {item.workload_id: item for item in await reading.load_running(tx)}
        servers = await reading.load_fleet(tx, SITE)
        one = await memory.hold(tx, SITE)
        engine, seats = one.engine, where(one)
    assert {name: item.node_id for name, item in running.items()} == {
        name: seat.node for name, [seat] in seats.items()
    }
    for server in servers:
        row = engine.site.row_of[server.node_id]
        assert engine.site.memory[row] == server.memory_free_mib
        assert engine.site.free[row].sum() == server.free_milli
        assert bool(engine.site.closed[row]) == (server.state != "ready")
        assert 256 - engine.site.slots[row] == server.workloads


async def test_a_device_that_is_gone_leaves_its_position_to_the_next_one(hall: Hall) -> None:
    clock, store, node_id = hall.clock, hall.store, test_id("node", "n1")

    async def join(*devices: str) -> None:
        fact = NodeJoined(
            **envelope(node_id),
            node_id=node_id,
            name="n1",
            jurisdiction="FR",
            devices=[
                Device(device_id=name, index=n, model="r", memory_mib=1, rehearsal=True)
                for n, name in enumerate(devices)
            ],
            memory_mib=2_048,
            cpus=2,
            address="127.0.0.1",
            agent_version="test",
        )
        async with store.transaction() as tx:
            await handlers.on_node_joined(fact, tx, clock)

    async def create(name: str) -> Any:
        async with store.transaction() as tx:
            await handlers.on_project_admitted(Site.admitted(PROJECT, "demo"), tx, clock)
            ask = CreateEndpoint(
                **wish(),
                name=name,
                project=PROJECT,
                model=Model(id="tiny"),
                resources=Resources(gpus=1),
            )
            made: Any = await asks.create_endpoint(ask, ADMIN, tx, clock)
            return await reading.load_workloads(tx, made.id)

    async def open_again() -> None:
        async with store.transaction() as tx:
            await tx.change("UPDATE node SET state = 'ready'")
            [server] = await reading.load_servers(tx, [node_id])
            await nodes.know(tx, server)

    await join("one", "two", "three")
    await open_again()
    [first], [second] = await create("a"), await create("b")
    assert [item.devices[0].device_id for item in (first, second)] == ["one", "two"]

    await join("two", "three")
    await open_again()
    async with store.transaction() as tx:
        engine = (await memory.hold(tx, SITE)).engine
        assert first.workload_id not in engine.holdings
        assert engine.site.free[0].tolist()[:3] == [0, 0, 1_000]
    await join("two", "three", "four", "five")
    async with store.transaction() as tx:
        cards = await tx.rows("SELECT device_id, card FROM device ORDER BY card")
    assert [row["device_id"] for row in cards] == ["four", "two", "three", "five"]
    assert (await held(store)).engine.site.free[0].tolist()[:4] == [1_000, 0, 1_000, 1_000]
