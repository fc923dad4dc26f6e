"""What placement's memory keeps: snapshots, a log that ends, turns for others; against a real Postgres."""

import asyncio
from datetime import timedelta
from random import Random

import pytest
from placement import memory, remembering, rollback, sitememory
from placement.domain.engine.wish import Input, Placed, Released

from tests.adapters.memories import SITE, Open, Unwell, ask, give, give_up, held, node, rows
from tests.domain.engines import Inputs

pytestmark = pytest.mark.slow


async def test_what_took_long_to_decide_is_kept_before_it_is_much(
    start: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitememory, "SNAPSHOT_WORTH_S", 0.0)
    store = await start()
    await give(store, node("n1"), ask("a", 8))
    await remembering.keep_due(store, SITE)
    async with store.transaction() as tx:
        assert [row["seq"] for row in await tx.rows("SELECT seq FROM snapshot")] == [
            (await held(store)).seq
        ]


async def test_who_decides_much_again_lets_others_have_their_turn(
    start: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await start()
    await give(store, node("n1"), *(ask(f"w{number}") for number in range(40)))
    monkeypatch.setattr(sitememory, "TURN_S", 0.0)
    again, turns = await start(), []

    async def beats() -> None:
        while True:
            found = memory.of(again.beside).at(SITE).seq
            turns.append(found)
            await asyncio.sleep(0)

    beating = asyncio.create_task(beats())
    await remembering.follow(lambda: again, SITE)
    beating.cancel()
    # Each decision is one that somebody else could see.
    assert set(range(1, 42)) <= set(turns)


async def test_snapshots_bound_what_a_start_decides_again_and_what_the_log_keeps(
    start: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitememory, "SNAPSHOT_EVERY", 50)
    monkeypatch.setattr(rollback, "INPUTS_MAX", 20)
    monkeypatch.setattr(remembering, "PRUNE_BATCH", 7)
    chance, store = Random(3), await start()
    await give(store, *(node(f"n{number}") for number in range(4)))
    living: list[str] = []
    for number in range(230):
        given: Input = ask(f"w{number}")
        if living and chance.random() < 0.45:
            given = Released(workload=living.pop(chance.randrange(len(living))), at=0)
        [outcome] = await give(store, given)
        if isinstance(outcome, Placed):
            living.append(outcome.workload)
        await remembering.keep_due(store, SITE)
    monkeypatch.setattr(remembering, "KEPT", timedelta(0))
    await remembering.prune(store, SITE)
    async with store.transaction() as tx:
        kept = await tx.rows("SELECT seq FROM snapshot ORDER BY seq")
    assert [row["seq"] for row in kept] == [150, 200]
    assert [row.seq for row in await rows(store)] == list(range(200, 235))
    again = await held(await start())
    assert again.engine.snapshot() == (await held(store)).engine.snapshot()
    assert sorted(again.engine.holdings) == sorted(living)


async def test_a_rollback_long_after_a_start_goes_back_to_what_is_committed(
    start: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "INPUTS_MAX", 10)
    chance, store, twin = Random(11), await start(), await start()
    inputs, rolled_back = Inputs(5), 0
    for _ in range(60):
        batch = [inputs.next() for _ in range(chance.randrange(1, 4))]
        try:
            await (give_up if chance.random() < 0.3 else give)(store, *batch)
        except (Unwell, ValueError):
            rolled_back += 1
    assert rolled_back > 10
    assert (await held(store)).engine.snapshot() == (await held(twin)).engine.snapshot()
