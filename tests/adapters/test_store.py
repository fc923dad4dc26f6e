"""A service's database: migrated forward once, kept apart from others', tidied of what is past."""

import asyncio
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from meshkit.clock import SystemClock
from meshkit.config import Secret
from meshkit.errors import MigrationMismatch, StaleSnapshot, Unavailable
from meshkit.keeping import INBOX_KEPT, tidy
from meshkit.store import Store
from meshkit.testing import NOW, FrozenClock

from tests.adapters.roads import admitted, opened
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow


async def connect(dsn: str, migrations: Path) -> Store:
    return await Store.connect(
        Secret(dsn), owner="metering", clock=SystemClock(), migrations=migrations
    )


async def names(store: Store) -> list[str]:
    async with store.transaction() as tx:
        return [row["name"] for row in await tx.rows("SELECT name FROM migration ORDER BY name")]


async def test_migrations_go_forward_once_though_processes_race(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "0001_first.sql").write_text(
        "CREATE TABLE first (id int); INSERT INTO first VALUES (1);"
    )
    dsn = postgres.dsn("metering")
    stores = await asyncio.gather(*(connect(dsn, tmp_path) for _ in range(4)))
    (tmp_path / "0002_second.sql").write_text("ALTER TABLE first ADD COLUMN more text;")
    stores.append(await connect(dsn, tmp_path))
    assert await names(stores[0]) == [
        "0001_first",
        "0002_second",
        "meshkit/0001_roads",
        "meshkit/0002_who_leads",
    ]
    async with stores[0].transaction() as tx:
        assert await tx.rows("SELECT * FROM first") == [{"id": 1, "more": None}]
    for store in stores:
        await store.close()


async def test_an_edited_migration_and_a_database_that_is_ahead_are_refused(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    dsn, file = postgres.dsn("metering"), tmp_path / "0001_first.sql"
    file.write_text("CREATE TABLE first (id int)")
    await (await connect(dsn, tmp_path)).close()
    file.write_text("CREATE TABLE first (id bigint)")
    with pytest.raises(MigrationMismatch, match="edited"):
        await connect(dsn, tmp_path)
    file.unlink()
    with pytest.raises(MigrationMismatch, match="newer program"):
        await connect(dsn, tmp_path)


async def test_a_migration_that_fails_leaves_nothing_behind(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    dsn, file = postgres.dsn("metering"), tmp_path / "0001_first.sql"
    file.write_text("CREATE TABLE first (id int); SELECT no_such_thing();")
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await connect(dsn, tmp_path)
    file.write_text("CREATE TABLE first (id int)")
    store = await connect(dsn, tmp_path)
    assert await names(store) == ["0001_first", "meshkit/0001_roads", "meshkit/0002_who_leads"]
    await store.close()


async def test_a_service_cannot_enter_anothers_database(postgres: PostgresServer) -> None:
    mine, other = postgres.dsn("metering"), postgres.dsn("identity")
    trespass = f"{mine.rpartition('/')[0]}/{other.rpartition('/')[2]}"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(trespass)


async def test_two_transactions_in_each_others_way_are_a_stale_snapshot_not_a_fault(
    postgres: PostgresServer,
) -> None:
    store = await opened(postgres.dsn("metering"))
    async with store.transaction() as tx:
        await tx.tell(admitted("a"))
        await tx.tell(admitted("b"))
    met = asyncio.Barrier(2)

    async def both(first: str, second: str) -> None:
        async with store.transaction() as tx:
            await tx.tell(admitted(first))
            await met.wait()
            await tx.tell(admitted(second))

    ends = await asyncio.gather(both("a", "b"), both("b", "a"), return_exceptions=True)
    assert [type(end) for end in ends if end is not None] == [StaleSnapshot]
    await store.close()


@pytest.mark.parametrize("state", ["53100", "53200", "53300", "25006", "57P01"])
async def test_a_database_that_has_no_room_or_may_not_write_is_away_not_at_fault(
    postgres: PostgresServer, state: str
) -> None:
    store = await opened(postgres.dsn("metering"))
    with pytest.raises(Unavailable):
        async with store.transaction() as tx:
            await tx.change(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
    async with store.transaction() as tx:
        assert await tx.value("SELECT 1") == 1
    await store.close()


async def test_what_the_roads_no_longer_need_goes_and_the_rest_stays(postgres: PostgresServer) -> None:
    clock = FrozenClock()
    store = await Store.connect(Secret(postgres.dsn("metering")), owner="metering", clock=clock)
    async with store.transaction() as tx:
        for age in (timedelta(0), INBOX_KEPT + timedelta(hours=1)):
            await tx.change("INSERT INTO inbox VALUES ('r', $1, $2)", str(age), NOW - age)
    assert await tidy(store) == 1
    async with store.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM inbox") == 1
    await store.close()


async def test_after_commit_never_runs_for_what_was_rolled_back(postgres: PostgresServer) -> None:
    store = await opened(postgres.dsn("metering"))
    done: list[str] = []
    with pytest.raises(ValueError, match="no"):  # noqa: PT012 - the block is the transaction
        async with store.transaction() as tx:
            tx.after_commit(lambda: done.append("rolled back"))
            raise ValueError("no")
    async with store.transaction() as tx:
        tx.after_commit(lambda: done.append("committed"))
        assert done == []
    assert done == ["committed"]
    await store.close()


async def test_those_who_wait_for_their_turn_hold_no_connection(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    store = await connect(postgres.dsn("metering"), tmp_path)
    store.take_turns()
    under_way, most, goes_on = 0, 0, asyncio.Event()

    async def change() -> None:
        nonlocal under_way, most
        async with store.transaction(changes=True):
            under_way += 1
            most = max(most, under_way)
            await goes_on.wait()
            under_way -= 1

    changing = [asyncio.create_task(change()) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert under_way == 1
    # More than there are connections wait, and whoever only looks is not held up.
    assert await names(store) == ["meshkit/0001_roads", "meshkit/0002_who_leads"]
    given_up = changing.pop()
    given_up.cancel()
    goes_on.set()
    await asyncio.gather(*changing)
    assert most == 1
    await store.close()
