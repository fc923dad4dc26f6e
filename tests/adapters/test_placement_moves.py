"""Moves are made as they were shown: a successor on the node that was named, and nobody is without an answer meanwhile."""

import pytest
from mesh_contracts.ask import Problem
from mesh_contracts.placement import (
    ListMoves,
    MakeMoves,
    MoveTo,
    Movings,
    Resources,
)
from meshkit.testing import wish
from placement import move_asks, reading, turns
from placement.domain.fleet import Occasion, Placed
from placement.domain.moves import ASKED_FOR, TRIED_FOR_S
from placement.pulse import COMPARE_EVERY
from placement.settle import settle

from tests.adapters.fleet import ADMIN
from tests.adapters.watched import Hall

pytestmark = pytest.mark.slow
WHOLE = Resources(gpus=1, memory_mib=1)


async def serving(hall: Hall, name: str, resources: Resources = WHOLE) -> Placed:
    """Have an endpoint with one replica that answers; return the replica."""
    item = await hall.create(name, resources)
    await answers(hall, item)
    return (await hall.workloads(item.endpoint_id))[0]


async def answers(hall: Hall, item: Placed) -> None:
    async with hall.store.transaction() as tx:
        occasion = Occasion(fact_id="occasion", occurred_at=hall.clock.now(), site=item.site)
        await turns.now_ready(
            tx, occasion, hall.clock.now(), item, scheme="http", address="127.0.0.1:9"
        )


async def move(hall: Hall, *moves: tuple[str, str]) -> Movings | Problem:
    hall.clock.move(1)
    async with hall.store.transaction() as tx:
        ask = MakeMoves(**wish(), moves=[MoveTo(id=one, to_node=node) for one, node in moves])
        return await move_asks.make_moves(ask, ADMIN, tx, hall.clock)


async def open_moves(hall: Hall) -> list[tuple[str, str]]:
    async with hall.store.transaction() as tx:
        found = await move_asks.list_moves(ListMoves(**wish()), ADMIN, tx, hall.clock)
        return [(one.id, one.state) for one in found.items]


async def test_a_replica_serves_until_its_successor_on_the_node_that_was_named_does(hall: Hall) -> None:
    await hall.join("n1", "n2", "n3")
    old = await serving(hall, "story")
    there = next(name for name in ("n1", "n2", "n3") if name != old.node)
    made = await move(hall, (old.workload_id, there))
    assert isinstance(made, Movings)
    assert [(one.to_node, one.state) for one in made.items] == [(there, "starting")]
    _, heir = await hall.workloads(old.endpoint_id)
    assert (heir.node, heir.replaces, heir.state) == (there, old.workload_id, "assigned")
    still, _ = await hall.workloads(old.endpoint_id)
    assert (still.state, still.reasons[0].code) == ("ready", "move_asked_for")

    await answers(hall, heir)
    ending, serves = await hall.workloads(old.endpoint_id)
    assert (ending.state, ending.draining, serves.state) == ("stopping", True, "ready")
    assert await open_moves(hall) == []
    assert await hall.told("placement.workload.moved") == 1


async def test_a_move_waits_for_room_preempts_nobody_and_is_given_up_in_time(hall: Hall) -> None:
    await hall.join("n1", "n2")
    one, other = await serving(hall, "one"), await serving(hall, "other")
    assert one.node != other.node
    made = await move(hall, (one.workload_id, other.node))
    assert isinstance(made, Movings)
    assert [(item.state, item.reasons[0].code) for item in made.items] == [("waiting", "no_room_there")]
    await hall.pass_(COMPARE_EVERY)
    assert await open_moves(hall) == [(one.workload_id, "waiting")]
    assert (
        len(await hall.workloads(one.endpoint_id)) == len(await hall.workloads(other.endpoint_id)) == 1
    )

    hall.clock.move(TRIED_FOR_S)
    # Heartbeats were heard all the while.
    hall.pulse.beats.counted_from = hall.clock.monotonic()
    await hall.pass_(COMPARE_EVERY)
    assert await open_moves(hall) == []
    [stays] = await hall.workloads(one.endpoint_id)
    assert (stays.state, stays.reasons) == ("ready", ())
    assert await hall.told("placement.workload.refused") == 1


async def test_a_move_begins_once_there_is_room(hall: Hall) -> None:
    await hall.join("n1", "n2")
    one, other = await serving(hall, "one"), await serving(hall, "other")
    await move(hall, (one.workload_id, other.node))
    async with hall.store.transaction() as tx:
        occasion = Occasion(fact_id="occasion", occurred_at=hall.clock.now(), site=other.site)
        await tx.change("UPDATE endpoint SET deleted = true WHERE endpoint_id = $1", other.endpoint_id)
        await settle(tx, occasion, hall.clock.now(), endpoints=[other.endpoint_id])
        [ending] = await reading.load_workloads(tx, other.endpoint_id)
        await turns.now_ended(tx, occasion, hall.clock.now(), ending, ASKED_FOR)
    await hall.pass_(COMPARE_EVERY)
    assert await open_moves(hall) == [(one.workload_id, "starting")]
    _, heir = await hall.workloads(one.endpoint_id)
    assert heir.node == other.node


async def test_of_moves_of_which_one_cannot_be_none_is_made(hall: Hall) -> None:
    await hall.join("n1", "n2")
    one = await serving(hall, "one")
    there = "n2" if one.node == "n1" else "n1"
    faults = {
        ("workload_nobody", there): "replica_not_found",
        (one.workload_id, "n9"): "node_not_found",
        (one.workload_id, one.node): "already_there",
    }
    for wrong, code in faults.items():
        refused = await move(hall, wrong)
        assert isinstance(refused, Problem)
        assert refused.code == code
    refused = await move(hall, (one.workload_id, there), (one.workload_id, there))
    assert isinstance(refused, Problem)
    assert await open_moves(hall) == []
    await move(hall, (one.workload_id, there))
    again = await move(hall, (one.workload_id, there))
    assert isinstance(again, Problem)
    assert again.code == "moves_already"
