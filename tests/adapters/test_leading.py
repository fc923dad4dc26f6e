"""Who leads, against a real Postgres: one at a time, and whoever was taken over from commits nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from meshkit import leading
from meshkit.errors import Deposed, Unavailable
from meshkit.leading import Lead, take_turn
from meshkit.store import Store

from tests.adapters.roads import opened, until
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

Join = Callable[[], Awaitable["Process"]]


class Process:
    """A store and its turn to lead."""

    def __init__(self, store: Store) -> None:
        self.store, self.lead = store, Lead(store)
        self.taking = asyncio.create_task(self.lead.take())
        self.holding: asyncio.Task[None] | None = None

    async def leads(self, within_s: float = 5.0) -> None:
        async with asyncio.timeout(within_s):
            await self.taking
        self.holding = asyncio.create_task(self.lead.hold())

    def freeze(self) -> None:
        """Do nothing any more; what is open stays open."""
        assert self.holding is not None
        self.holding.cancel()

    async def note(self, text: str) -> None:
        async with self.store.transaction() as tx:
            await tx.change("INSERT INTO note VALUES ($1)", text)


@pytest.fixture
async def join(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Join]:
    monkeypatch.setattr(leading, "LOST_AFTER_S", 0.8)
    monkeypatch.setattr(leading, "BEAT_EVERY_S", 0.1)
    monkeypatch.setattr(leading, "LOOK_EVERY_S", 0.05)
    dsn, made = postgres.dsn("metering"), []
    store = await opened(dsn)
    async with store.transaction() as tx:
        await tx.change("CREATE TABLE note (text text)")
    await store.close()

    async def joining() -> Process:
        made.append(Process(await opened(dsn)))
        return made[-1]

    yield joining
    for process in made:
        tasks = [task for task in (process.taking, process.holding) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await process.lead.let_go()
        await process.store.close()


async def notes(process: Process) -> list[str]:
    async with process.store.transaction() as tx:
        return [row["text"] for row in await tx.rows("SELECT text FROM note ORDER BY text")]


async def test_one_leads_and_the_next_does_once_it_lets_go(join: Join) -> None:
    first, second = await join(), await join()
    await until(lambda: first.lead.epoch or second.lead.epoch)
    leader, other = (first, second) if first.lead.epoch else (second, first)
    await leader.leads()
    await leader.note("a")
    await asyncio.sleep(1.5)
    assert not other.taking.done()
    assert other.lead.looked.is_set()
    leader.freeze()
    await leader.lead.let_go()
    await other.leads()
    assert (other.lead.epoch, other.store.epoch) == (leader.lead.epoch + 1,) * 2
    with suppress(Unavailable):
        # Whoever leads now ends the sessions of who led before: one may be found ended first.
        await leader.note("too late")
    with pytest.raises(Deposed):
        await leader.note("too late")
    await other.note("b")
    assert await notes(other) == ["a", "b"]


async def test_one_that_is_frozen_within_a_transaction_holds_nobody_up_and_commits_nothing(
    join: Join,
) -> None:
    first = await join()
    await first.leads()
    second = await join()
    begun, wake = asyncio.Event(), asyncio.Event()

    async def half_done() -> None:
        async with first.store.transaction() as tx:
            await tx.change("INSERT INTO note VALUES ('half done')")
            await tx.change("LOCK TABLE note IN EXCLUSIVE MODE")
            begun.set()
            await wake.wait()

    working = asyncio.create_task(half_done())
    await begun.wait()
    first.freeze()
    await second.leads(3)
    await second.note("after")
    wake.set()
    with pytest.raises(Unavailable):
        await working
    with pytest.raises(Deposed):
        await first.note("too late")
    assert await notes(second) == ["after"]
    # Awake again, it learns that it does not lead.
    async with asyncio.timeout(2):
        await first.lead.hold()


async def test_a_commit_that_is_under_way_is_waited_for_or_refused_never_half(join: Join) -> None:
    first = await join()
    await first.leads()
    seen: list[str] = []

    async def go_on() -> None:
        for number in range(10_000):
            try:
                await first.note(f"{number:05}")
            except Unavailable:
                return
            seen.append(f"{number:05}")

    writing = asyncio.create_task(go_on())
    await until(lambda: len(seen) > 50)
    second = await join()
    first.freeze()
    await first.lead.let_go()
    await second.leads()
    at_takeover = await notes(second)
    await writing
    assert await notes(second) == at_takeover
    assert set(seen) <= set(at_takeover)


async def test_one_whose_database_was_away_goes_on_leading_where_nobody_took_over(
    join: Join, postgres: PostgresServer
) -> None:
    first = await join()
    await first.leads()
    epoch = first.lead.epoch
    postgres.kill()
    with pytest.raises(Unavailable):
        await first.note("nobody there")
    await asyncio.to_thread(postgres.start)
    await asyncio.sleep(0.5)
    assert first.holding is not None
    assert not first.holding.done()
    await first.note("back")
    second = await join()
    await asyncio.sleep(1.5)
    assert not second.taking.done()
    assert first.lead.epoch == epoch


async def test_of_many_that_stand_by_one_takes_over(join: Join) -> None:
    first = await join()
    await first.leads()
    others = [await join() for _ in range(4)]
    await until(lambda: all(other.lead.looked.is_set() for other in others))
    first.freeze()
    await until(lambda: any(other.lead.epoch for other in others))
    await asyncio.sleep(0.5)
    leaders = [other for other in others if other.lead.epoch]
    assert [one.lead.epoch for one in leaders] == [first.lead.epoch + 1]


async def test_of_two_that_stand_by_the_one_that_knows_everything_is_first(join: Join) -> None:
    first = await join()
    await first.leads()
    caught_up, led = asyncio.Event(), list[str]()

    async def nothing() -> None:
        pass

    async def stand_by(name: str, follow: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
        process = await join()
        process.taking.cancel()

        async def serve() -> None:
            led.append(name)

        return asyncio.create_task(take_turn(process.lead, follow, nothing, serve))

    # The one that is behind came first.
    turns = [await stand_by("behind", caught_up.wait)]
    await asyncio.sleep(0.3)
    turns.append(await stand_by("level", nothing))
    await asyncio.sleep(0.3)
    first.freeze()
    await first.lead.let_go()
    await until(lambda: led)
    caught_up.set()
    await asyncio.sleep(0.5)
    assert led == ["level"]
    for turn in turns:
        turn.cancel()
    await asyncio.gather(*turns, return_exceptions=True)
