"""What workloads printed: wished for through the intent, told by the node, read by whose it is and nobody else."""

from typing import Any

import pytest
from mesh_contracts.ask import Problem
from mesh_contracts.node import LogTail
from mesh_contracts.placement import Intent, Log, LogWished, ReadLog, WishLog
from mesh_contracts.units import new_id
from meshkit.testing import wish
from placement import log_asks
from placement.domain.fleet import Placed
from placement.forgetting import forget
from placement.intents import all_intents
from placement.logs import KEPT_S, WAITING_MAX, Tails

from tests.adapters.fleet import ADMIN, TENANT, principal
from tests.adapters.watched import Hall

pytestmark = pytest.mark.slow

OTHER = principal("project", new_id("project"))


def tail(hall: Hall, item: Placed, number: int, text: str, **fields: Any) -> LogTail:
    base = {"node_id": item.node_id, "at": hall.clock.now(), "workload_id": item.workload_id}
    return LogTail(**base | {"number": number, "text": text} | fields)


async def wished(hall: Hall, item: Placed, who: Any = TENANT) -> LogWished | Problem:
    async with hall.store.transaction() as tx:
        ask = WishLog(**wish(), workload=item.workload_id)
        return await log_asks.wish_log(ask, who, tx, hall.clock)


async def read(hall: Hall, item: Placed, who: Any = TENANT) -> Log | Problem:
    async with hall.store.transaction() as tx:
        ask = ReadLog(**wish(), workload=item.workload_id)
        return await log_asks.read_log(ask, who, tx, hall.clock)


async def intent(hall: Hall, item: Placed) -> Intent:
    async with hall.store.transaction() as tx:
        return (await all_intents(tx))[item.node_id]


async def test_a_wish_stands_in_the_intent_and_its_answer_is_read(hall: Hall) -> None:
    await hall.join("n1")
    item = await hall.create()
    nothing = await read(hall, item)
    assert isinstance(nothing, Log)
    assert (nothing.text, nothing.number, nothing.ended) == ("", None, False)
    made = await wished(hall, item)
    assert isinstance(made, LogWished)
    assert made.number == 1
    assert [one.log for one in (await intent(hall, item)).workloads] == [1]
    hall.pulse.tails.on_log(tail(hall, item, 1, "model loaded\n", cut=True))
    await hall.pass_(1)
    found = await read(hall, item)
    assert isinstance(found, Log)
    assert (found.text, found.number, found.cut, found.node) == ("model loaded\n", 1, True, "n1")
    again = await wished(hall, item)
    assert isinstance(again, LogWished)
    assert again.number == 2


async def test_only_whose_it_is_and_operators_read_it(hall: Hall) -> None:
    await hall.join("n1")
    item = await hall.create()
    for door in (wished, read):
        refused = await door(hall, item, OTHER)
        assert isinstance(refused, Problem)
        assert (refused.status, refused.code) == (404, "workload_not_found")
        assert not isinstance(await door(hall, item, ADMIN), Problem)


async def test_what_another_node_tells_of_it_is_not_believed(hall: Hall) -> None:
    await hall.join("n1")
    item = await hall.create()
    hall.pulse.tails.on_log(tail(hall, item, 9, "forged", node_id=new_id("node")))
    hall.pulse.tails.on_log(tail(hall, item, 9, "of nobody", workload_id=new_id("workload")))
    await hall.pass_(1)
    found = await read(hall, item)
    assert isinstance(found, Log)
    assert found.text == ""


async def test_a_text_that_no_table_holds_is_written_without_what_it_cannot(hall: Hall) -> None:
    await hall.join("n1")
    item = await hall.create()
    hall.pulse.tails.on_log(tail(hall, item, 0, "a\0b"))
    await hall.pass_(1)
    found = await read(hall, item)
    assert isinstance(found, Log)
    assert found.text == "ab"


async def test_logs_that_wait_are_bounded_and_old_ones_forgotten(hall: Hall) -> None:
    await hall.join("n1")
    item = await hall.create()
    tails = Tails()
    for _ in range(2 * WAITING_MAX):
        tails.on_log(tail(hall, item, 0, "x", workload_id=new_id("workload")))
    assert len(tails._waiting) == WAITING_MAX
    hall.pulse.tails.on_log(tail(hall, item, 0, "old"))
    await hall.pass_(1)
    hall.clock.move(KEPT_S + 1)
    async with hall.store.transaction() as tx:
        await forget(tx, hall.clock.now())
    found = await read(hall, item)
    assert isinstance(found, Log)
    assert found.number is None
