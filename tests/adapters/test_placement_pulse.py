"""Heartbeats and time, with a real Postgres and a clock that moves when told to."""

from datetime import timedelta
from typing import Any

import pytest
from mesh_contracts.node import WorkloadStatus
from mesh_contracts.placement import CreateEndpoint, Model
from meshkit.testing import wish
from placement import asks, reading, store, turns
from placement.domain.show import show_node
from placement.heartbeats import ABSENT_AFTER_S
from placement.intents import all_intents
from placement.pulse import COMPARE_EVERY
from placement.settle import settle

from tests.adapters.fleet import ADMIN, PROJECT
from tests.adapters.watched import SITE, Hall

pytestmark = pytest.mark.slow


async def test_a_silent_node_is_lost_and_its_replica_placed_elsewhere_at_once(hall: Hall) -> None:
    await hall.join("n1", "n2", "n3")
    first = await hall.create()
    await hall.pass_(13, but=(first.node,))
    assert (await hall.states())[first.node] == "lost"
    old, new = await hall.workloads(first.endpoint_id)
    assert (old.state, old.reasons[0].code) == ("failed", "node_lost")
    assert (new.state, new.replaces) == ("assigned", old.workload_id)
    assert new.node != first.node
    assert await hall.told("placement.node.lost") == 1


async def test_nobody_is_lost_while_the_bus_is_away_for_thirty_seconds(hall: Hall) -> None:
    await hall.join("n1", "n2", "n3")
    placed = await hall.create()
    await hall.pass_(5)
    hall.whole_since = None
    await hall.pass_(30, but=("n1", "n2", "n3"))
    hall.whole_since = hall.clock.monotonic()
    await hall.pass_(6, but=("n1", "n2", "n3"))
    await hall.pass_(20)
    assert set((await hall.states()).values()) == {"ready"}
    assert [item.workload_id for item in await hall.workloads(placed.endpoint_id)] == [
        placed.workload_id
    ]
    assert await hall.told("placement.silence.suspected") == 0


async def test_many_silent_at_once_are_suspected_and_told_not_lost(hall: Hall) -> None:
    await hall.join("n1", "n2", "n3")
    await hall.pass_(3)
    await hall.pass_(12, but=("n1", "n2"))
    assert set((await hall.states()).values()) == {"ready"}
    assert await hall.told("placement.silence.suspected") == 1


async def test_what_is_new_goes_to_nodes_that_are_heard_and_says_so_where_there_are_none(
    hall: Hall,
) -> None:
    await hall.join("n1", "n2", "n3")
    await hall.pass_(3)
    await hall.pass_(12, but=("n1", "n2"))
    assert [(await hall.create(name)).node for name in ("one", "two", "three")] == ["n3"] * 3
    async with hall.store.transaction() as tx:
        servers = {server.name: server for server in await reading.load_fleet(tx, SITE)}
    shown = {
        name: [reason.code for reason in show_node(server, None, hall.clock.now()).reasons]
        for name, server in servers.items()
    }
    assert shown == {"n1": ["silent_with_others"], "n2": ["silent_with_others"], "n3": []}

    await hall.pass_(12, but=("n1", "n2", "n3"))
    async with hall.store.transaction() as tx:
        ask = CreateEndpoint(**wish(), name="four", project=PROJECT, model=Model(id="tiny"))
        made: Any = await asks.create_endpoint(ask, ADMIN, tx, hall.clock)
    assert made.reasons[0].code == "no_node_heard"
    await hall.pass_(2, but=("n1", "n2"))
    assert [item.node for item in await hall.workloads(made.id)] == ["n3"]


async def test_a_lost_node_that_is_heard_again_is_checked_before_it_takes_work(hall: Hall) -> None:
    await hall.join("n1", "n2")
    await hall.pass_(13, but=("n1",))
    assert (await hall.states())["n1"] == "lost"
    await hall.pass_(2)
    assert (await hall.states())["n1"] == "validating"
    async with hall.store.transaction() as tx:
        server = await reading.find_server(tx, SITE, "n1")
        assert server is not None
        intent = (await all_intents(tx))[server.node_id]
    assert (server.check_wished, server.check_needed) == (1, 1)
    assert (intent.check, intent.asked) == (1, 0), "nobody asked for it"


async def test_a_workload_that_its_node_never_lists_has_failed(hall: Hall) -> None:
    await hall.join("n1")
    placed = await hall.create()
    await hall.pass_(int(ABSENT_AFTER_S) - COMPARE_EVERY)
    assert [item.state for item in await hall.workloads(placed.endpoint_id)] == ["assigned"]
    await hall.pass_(2 * COMPARE_EVERY)
    old, new = await hall.workloads(placed.endpoint_id)
    assert (old.state, old.reasons[0].code, old.api_key) == ("failed", "engine_absent", "")
    assert new.state == "assigned"
    assert new.api_key


async def test_what_another_node_lists_does_not_make_a_workload_be_there(hall: Hall) -> None:
    await hall.join("n1", "n2")
    placed = await hall.create()
    other = next(node_id for node_id in hall.speaking if node_id != placed.node_id)
    status = WorkloadStatus(workload_id=placed.workload_id, state="ready", address="127.0.0.1:7")
    hall.speaking[other] = [status]
    await hall.pass_(int(ABSENT_AFTER_S) + COMPARE_EVERY)
    old, new = await hall.workloads(placed.endpoint_id)
    assert (old.state, old.reasons[0].code, new.state) == ("failed", "engine_absent", "assigned")


async def test_an_engine_that_answers_is_believed_where_its_fact_is_missing(hall: Hall) -> None:
    await hall.join("n1")
    placed = await hall.create()
    status = WorkloadStatus(workload_id=placed.workload_id, state="ready", address="127.0.0.1:7")
    hall.speaking[placed.node_id] = [status]
    await hall.pass_(int(ABSENT_AFTER_S) + 2 * COMPARE_EVERY)
    [item] = await hall.workloads(placed.endpoint_id)
    assert (item.state, item.address) == ("ready", "127.0.0.1:7")


async def test_an_engine_that_has_ended_is_replaced_where_its_fact_is_missing(hall: Hall) -> None:
    await hall.join("n1")
    placed = await hall.create()
    status = WorkloadStatus(workload_id=placed.workload_id, state="failed")
    hall.speaking[placed.node_id] = [status]
    await hall.pass_(int(ABSENT_AFTER_S) - COMPARE_EVERY)
    assert [item.state for item in await hall.workloads(placed.endpoint_id)] == ["assigned"]
    await hall.pass_(2 * COMPARE_EVERY)
    old, new = await hall.workloads(placed.endpoint_id)
    assert (old.state, old.reasons[0].code, new.state) == ("failed", "engine_absent", "assigned")


async def test_a_pause_after_failures_ends_by_itself(hall: Hall) -> None:
    await hall.join("n1")
    placed = await hall.create()
    for _ in range(2):
        async with hall.store.transaction() as tx:
            [living] = [item for item in await reading.load_running(tx) if item.living]
            reason = reading.Reason(code="engine_failed", detail="test")
            await turns.now_ended(tx, hall.pulse._occasion(), hall.clock.now(), living, reason)
    assert not [item for item in await hall.workloads(placed.endpoint_id) if item.living]
    await hall.pass_(2)
    assert [item.state for item in await hall.workloads(placed.endpoint_id) if item.living] == [
        "assigned"
    ]


async def test_an_endpoint_that_stopped_long_ago_is_forgotten_with_its_workloads(hall: Hall) -> None:
    await hall.join("n1")
    placed = await hall.create()
    async with hall.store.transaction() as tx:
        wanted = await reading.load_wanted(tx, placed.endpoint_id)
        assert wanted is not None
        await store.wish(tx, wanted, deleted=True)
        occasion = hall.pulse._occasion()
        await settle(tx, occasion, hall.clock.now(), endpoints=[placed.endpoint_id])
        [stopping] = await reading.load_workloads(tx, placed.endpoint_id)
        reason = reading.Reason(code="engine_stopped", detail="test")
        await turns.now_ended(tx, hall.pulse._occasion(), hall.clock.now(), stopping, reason)
    hall.clock.move(store.ENDED_KEPT_S - 10)
    for kept in (1, 0):
        async with hall.store.transaction() as tx:
            before = hall.clock.now() - timedelta(seconds=store.ENDED_KEPT_S)
            await store.forget_ended(tx, before, 10)
            await store.forget_stopped(tx, before, 10)
            assert await tx.value("SELECT count(*) FROM endpoint") == kept
        hall.clock.move(20)
