"""Placement's memory and its log, against a real Postgres: what is decided stands there, or has not been."""

import asyncio

import pytest
from meshkit.store import Transaction
from meshkit.telemetry import METRICS
from placement import memory, remembering
from placement.domain.engine.wish import (
    Advanced,
    NodesLost,
    Placed,
    Refused,
    Released,
    Reseated,
    Reserved,
)

from tests.adapters.memories import SITE, Open, Unwell, ask, decide, give, give_up, held, node, rows
from tests.domain.engines import Inputs

pytestmark = pytest.mark.slow


async def test_a_start_decides_all_again_and_comes_to_the_same(start: Open) -> None:
    seed = 7
    inputs, store = Inputs(seed), await start()
    for _ in range(40):
        async with store.transaction() as tx:
            for _ in range(5):
                try:
                    await decide(tx, inputs.next())
                except ValueError:
                    continue
    before, again = await held(store), await held(await start())
    assert again.seq == before.seq > 150
    assert again.engine.snapshot() == before.engine.snapshot()
    assert again.differs is None


async def test_what_was_rolled_back_has_not_been(start: Open) -> None:
    store = await start()
    await give(store, node("n1"), node("n2"), ask("a", 3))
    before = (await held(store)).engine.snapshot()
    with pytest.raises(Unwell):
        await give_up(store, node("n3"), ask("b", 8), Released(workload="a", at=0), ask("c", 2))
    after = await held(store)
    assert after.engine.snapshot() == before
    assert (after.seq, len(await rows(store))) == (3, 3)
    [placed] = await give(store, ask("b", 8))
    assert placed.seats[0].node == "n2"
    assert (await held(await start())).engine.snapshot() == (await held(store)).engine.snapshot()


async def test_decisions_are_counted_once_they_are_committed(start: Open) -> None:
    # How many a second there were could not be told from anything (volcano-sh/volcano 4930).
    store = await start()
    before = METRICS.value("mesh_placement_decisions_total")
    await give(store, node("n1", gpus=1), ask("a"), ask("b"))
    with pytest.raises(Unwell):
        await give_up(store, ask("c"), Released(workload="a", at=0))
    assert METRICS.value("mesh_placement_decisions_total") == before + 3


async def test_what_cannot_be_changes_nothing_and_what_came_before_it_stays(start: Open) -> None:
    store = await start()
    async with store.transaction() as tx:
        await decide(tx, node("n1"))
        await decide(tx, ask("a", 2))
        for impossible in (ask("a"), node("n1", gpus=1), node("n1", gpus=40)):
            with pytest.raises(ValueError, match=r"n1|a has"):
                await decide(tx, impossible)
        await decide(tx, ask("b"))
    assert len(await rows(store)) == 3
    assert (await held(await start())).engine.snapshot() == (await held(store)).engine.snapshot()


async def test_a_commit_of_which_nobody_knows_the_end_is_found_in_the_table(
    start: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await start()
    await give(store, node("n1", gpus=2))
    heard = Transaction.ended
    monkeypatch.setattr(Transaction, "ended", lambda self, **_: heard(self, committed=False))
    await give(store, ask("a"))
    monkeypatch.undo()
    first, second = await give(store, ask("b"), ask("c"))
    assert isinstance(first, Placed)
    assert first.seats[0].cards == (1,)
    assert isinstance(second, Refused)


async def test_a_database_that_came_back_without_its_last_commits_is_what_counts(start: Open) -> None:
    store = await start()
    await give(store, node("n1", gpus=2), ask("a"), ask("b"))
    async with store.transaction() as tx:
        await tx.change("DELETE FROM decision WHERE seq = 3")
    [placed] = await give(store, ask("c"))
    assert placed.seats[0].cards == (1,)


async def test_two_processes_that_both_decide_never_give_a_gpu_twice(start: Open) -> None:
    one, two = await start(), await start()
    await give(one, node("n1", gpus=4))
    outcomes = await asyncio.gather(
        *(give((one, two)[number % 2], ask(f"w{number}")) for number in range(12))
    )
    placed = [outcome.seats[0].cards for [outcome] in outcomes if isinstance(outcome, Placed)]
    assert sorted(placed) == [(0,), (1,), (2,), (3,)]
    assert [row.seq for row in await rows(one)] == list(range(1, 14))


async def test_a_decision_that_comes_out_otherwise_is_said_and_what_was_decided_holds(
    start: Open,
) -> None:
    store = await start()
    await give(store, node("n1"), node("n2"), ask("a", 8), ask("b", 2))
    async with store.transaction() as tx:
        await tx.change(
            "UPDATE decision SET outcome = replace(outcome, '\"n1\"', '\"n2\"') WHERE seq = 3"
        )
        await tx.change(
            "UPDATE decision SET outcome = replace(outcome, '\"n2\"', '\"n1\"') WHERE seq = 4"
        )
    again = await start()
    engine = (await held(again)).engine
    seats = {name: engine.seats(kept.parts)[0].node for name, kept in engine.holdings.items()}
    assert seats == {"a": "n2", "b": "n1"}
    assert "decision 3" in str(memory.of(again.beside).trouble())
    assert memory.of(store.beside).trouble() is None
    # It is said once: the state is kept, and the next start begins with it.
    await remembering.keep_due(again, SITE)
    last = await start()
    assert (await held(last)).engine.snapshot() == engine.snapshot()
    assert memory.of(last.beside).trouble() is None


async def test_an_outcome_written_before_it_had_all_its_fields_is_the_same(start: Open) -> None:
    store = await start()
    owner = {"organization": "o1", "project": "p1"}
    booked = Reserved(reservation="r", **owner, start=5, end=9, nodes=("n1",), at=0)
    await give(store, node("n1"), booked)
    async with store.transaction() as tx:
        await tx.change("UPDATE decision SET outcome = replace(outcome, ',\"clears\":false', '')")
        assert await tx.value("SELECT outcome NOT LIKE '%clears%' FROM decision WHERE seq = 2")
    assert (await held(await start())).differs is None


async def test_what_was_decided_for_those_on_lost_nodes_holds_where_it_comes_out_otherwise(
    start: Open,
) -> None:
    store = await start()
    given = (node("n1"), node("n2"), node("n3"), ask("a", 8))
    *_, lost = await give(store, *given, NodesLost(nodes=("n1",), at=9))
    assert isinstance(lost, Advanced)
    assert isinstance(lost.outcomes[0], Reseated)
    assert [seat.node for seat in lost.outcomes[0].seats] == ["n2"]
    async with store.transaction() as tx:
        await tx.change(
            "UPDATE decision SET outcome = replace(outcome, '\"n2\"', '\"n3\"') WHERE seq = 5"
        )
    again = await start()
    engine = (await held(again)).engine
    assert engine.seats(engine.holdings["a"].parts)[0].node == "n3"
    assert engine.site.closed[:3].tolist() == [1, 0, 0]
    assert "decision 5" in str(memory.of(again.beside).trouble())
