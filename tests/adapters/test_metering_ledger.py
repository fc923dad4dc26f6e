"""The ledger in a real Postgres: each request once, gaps seen and healed, sums that agree."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from mesh_contracts import wire
from mesh_contracts.ask import Page, Principal, Problem
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.inference import UsageMetered, UsageRow
from mesh_contracts.metering import (
    GetRequest,
    ListPrices,
    ListUsage,
    ProducerMark,
    RequestRecord,
    UsageRated,
    Usages,
)
from meshkit.config import Secret
from meshkit.errors import StaleSnapshot
from meshkit.store import Store
from meshkit.telemetry import METRICS
from meshkit.testing import NOW, FrozenClock, envelope, test_id, wish
from metering import asks, handlers
from metering import store as sql
from metering.app import MIGRATIONS

from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

PRODUCER = test_id("gateway", "g1")
PROJECT, OTHER = test_id("project", "demo"), test_id("project", "other")
ADMIN = Principal(principal_id="key_a", role="admin", expires_at=NOW + timedelta(minutes=1))
TENANT = Principal(
    principal_id="key_t", role="project", project=PROJECT, expires_at=NOW + timedelta(minutes=1)
)


@pytest.fixture
async def ledger(postgres: PostgresServer) -> AsyncIterator[Store]:
    dsn = Secret(postgres.dsn("metering"))
    store = await Store.connect(dsn, owner="metering", clock=FrozenClock(), migrations=MIGRATIONS)
    yield store
    await store.close()


def row(name: str, **fields: Any) -> UsageRow:
    given = {
        "request_id": test_id("request", name),
        "organization": test_id("org", "o"),
        "project": PROJECT,
        "key_id": test_id("key", "k"),
        "endpoint_id": test_id("endpoint", "e"),
        "model": "tiny",
        "route": "chat",
        "streamed": True,
        "started_at": NOW,
        "ended_at": NOW + timedelta(seconds=1),
        "state": "completed",
        "status": 200,
        "tokens_from": "engine",
        "prompt_tokens": 10,
        "completion_tokens": 20,
    }
    return UsageRow(**{**given, **fields})


def batch(sequence: int, *rows: UsageRow, epoch: int = 1, fact: str = "") -> UsageMetered:
    fact_id = test_id("fact", fact or f"{epoch}/{sequence}")
    told = envelope(PRODUCER, fact_id=fact_id, traceparent=None)
    return UsageMetered(
        **told, producer=PRODUCER, epoch=epoch, sequence=sequence, rows=list(rows) or [row(fact_id)]
    )


async def hear(ledger: Store, *batches: UsageMetered) -> None:
    for one in batches:
        async with ledger.transaction() as tx:
            await handlers.on_usage_metered(one, tx, ledger.clock)


async def mark(ledger: Store) -> ProducerMark:
    async with ledger.transaction() as tx:
        raw = await tx.value("SELECT payload FROM outbox WHERE kind = 'put' ORDER BY id DESC LIMIT 1")
        snapshot = await sql.marks(tx)
    shown = wire.decode(raw, ProducerMark)
    assert snapshot == {f"producer.{PRODUCER}": shown}
    return shown


async def lines(ledger: Store) -> list[str]:
    async with ledger.transaction() as tx:
        return [
            one["request_id"] for one in await tx.rows("SELECT request_id FROM usage_row ORDER BY 1")
        ]


async def usage(ledger: Store, principal: Principal = ADMIN, **fields: Any) -> Usages:
    async with ledger.transaction() as tx:
        answer = await asks.list_usage(ListUsage(**wish(), **fields), principal, tx, ledger.clock)
    assert isinstance(answer, Usages)
    return answer


async def told(ledger: Store) -> list[Any]:
    async with ledger.transaction() as tx:
        return await tx.rows("SELECT subject, payload FROM outbox WHERE kind = 'fact' ORDER BY id")


async def test_a_line_keeps_the_whole_row_and_what_it_cost(ledger: Store) -> None:
    whole = row(
        "whole",
        cached_tokens=3,
        workload_id=test_id("workload", "w"),
        node_id=test_id("node", "n"),
        attempts=2,
        queue_us=5,
        first_token_us=900,
        reason="client_gone",
        state="aborted",
        tokens_from="counted",
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
    )
    await hear(ledger, batch(1, whole, row("bare", prompt_tokens=None, completion_tokens=None)))
    async with ledger.transaction() as tx:
        record = await sql.request(tx, whole.request_id)
        bare = await sql.request(tx, test_id("request", "bare"))
    assert record is not None
    assert record.usage == whole
    assert (record.price_id, record.trace_id) == ("tiny-1", "a" * 32)
    # 10 tokens in at 0.05 and 20 out at 0.15 micro-euros each make 3.5 micro-euros.
    assert record.cost_microeur == 3
    assert bare is not None
    assert (bare.usage.prompt_tokens, bare.cost_microeur, bare.trace_id) == (None, 0, None)


async def test_the_same_numbers_again_write_and_tell_nothing_twice(ledger: Store) -> None:
    await hear(ledger, batch(1, row("a"), row("b")))
    before = await told(ledger), await usage(ledger)
    await hear(ledger, batch(1, row("a"), row("b"), fact="told again"))
    assert (await told(ledger), await usage(ledger)) == before


async def test_a_request_in_a_second_batch_gets_no_second_line(ledger: Store) -> None:
    await hear(ledger, batch(1, row("a"), row("b")), batch(2, row("b"), row("c"), row("c")))
    assert len(await lines(ledger)) == 3
    (sums,) = (await usage(ledger)).items
    assert sums.requests == 3
    rated = [
        wire.decode(one["payload"], UsageRated)
        for one in await told(ledger)
        if ".rated." in one["subject"]
    ]
    assert [[line.usage.request_id for line in one.rows] for one in rated] == [
        [test_id("request", "a"), test_id("request", "b")],
        [test_id("request", "c")],
    ]


async def test_the_sums_are_the_lines_and_rounding_is_carried_from_batch_to_batch(
    ledger: Store,
) -> None:
    await hear(ledger, *(batch(n, row(f"r{n}"), row(f"s{n}", project=OTHER)) for n in range(1, 9)))
    sums = {one.project_id: one for one in (await usage(ledger)).items}
    # 3.5 micro-euros each: eight of them are 28, not eight times 3.
    assert {(one.requests, one.cost_microeur) for one in sums.values()} == {(8, 28)}
    assert set(sums) == {PROJECT, OTHER}
    between = await usage(ledger, since=NOW - timedelta(hours=1), until=NOW + timedelta(hours=1))
    assert between == await usage(ledger)
    assert (await usage(ledger, since=NOW + timedelta(seconds=1))).items == []


async def test_a_gap_is_seen_wished_for_again_and_healed_when_the_batch_comes_late(
    ledger: Store,
) -> None:
    await hear(ledger, batch(1), batch(2), batch(5))
    gapped = await mark(ledger)
    assert (gapped.epoch, gapped.sequence) == (1, 2)
    assert gapped.missing == [(1, 3), (1, 4)]
    assert METRICS.value("mesh_usage_batches_missing", producer=PRODUCER) == 2
    await hear(ledger, batch(4), batch(3))
    healed = await mark(ledger)
    assert (healed.sequence, healed.missing) == (5, [])
    assert METRICS.value("mesh_usage_batches_missing", producer=PRODUCER) == 0
    assert len(await lines(ledger)) == 5


async def test_an_epoch_begins_at_one_and_the_lost_end_of_the_last_stays_owed_until_it_comes(
    ledger: Store,
) -> None:
    await hear(ledger, batch(1), batch(2), batch(1, epoch=2))
    begun = await mark(ledger)
    assert (begun.epoch, begun.sequence, begun.earlier) == (2, 1, [(1, 2)])
    assert not begun.covers(1, 3)
    await hear(ledger, batch(3))
    assert (await mark(ledger)).covers(1, 3)
    await hear(ledger, batch(3, epoch=2))
    assert (await mark(ledger)).missing == [(2, 2)]


async def test_a_transaction_that_fails_leaves_no_line_no_mark_and_no_fact(ledger: Store) -> None:
    async def die() -> None:
        async with ledger.transaction() as tx:
            await handlers.on_usage_metered(batch(1), tx, ledger.clock)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await die()
    assert await lines(ledger) == []
    assert await told(ledger) == []
    await hear(ledger, batch(1))
    assert len(await lines(ledger)) == 1


async def test_a_request_that_another_transaction_wrote_meanwhile_is_decided_again(
    ledger: Store,
) -> None:
    one = batch(1, row("raced"))
    await hear(ledger, one)
    (rated,) = [
        wire.decode(f["payload"], UsageRated) for f in await told(ledger) if ".rated." in f["subject"]
    ]

    async def write_again() -> None:
        async with ledger.transaction() as tx:
            await sql.record(tx, one, rated.rows, {})

    with pytest.raises(StaleSnapshot):
        await write_again()


async def test_a_tenant_sees_its_own_usage_and_requests_only(ledger: Store) -> None:
    await hear(ledger, batch(1, row("mine"), row("theirs", project=OTHER)))
    assert [one.project_id for one in (await usage(ledger, TENANT)).items] == [PROJECT]

    async def get(request_id: str, principal: Principal) -> RequestRecord | Problem:
        async with ledger.transaction() as tx:
            ask = GetRequest(**wish(), request_id=request_id)
            return await asks.get_request(ask, principal, tx, ledger.clock)

    mine = await get(test_id("request", "mine"), TENANT)
    assert isinstance(mine, RequestRecord)
    theirs = await get(test_id("request", "theirs"), TENANT)
    assert isinstance(theirs, Problem)
    assert (theirs.status, theirs.code) == (404, "request_not_found")
    assert theirs.retry_after_s
    assert isinstance(await get(test_id("request", "theirs"), ADMIN), RequestRecord)


async def test_usage_bears_the_projects_name_once_it_is_known_and_its_id_before(ledger: Store) -> None:
    await hear(ledger, batch(1))
    assert (await usage(ledger)).items[0].project == PROJECT
    for version, name in ((2, "demo"), (1, "older")):
        admitted = ProjectAdmitted(
            **envelope(PROJECT, version=version, organization=test_id("org", "o")),
            name=name,
            organization_name="acme",
        )
        async with ledger.transaction() as tx:
            await handlers.on_project_admitted(admitted, tx, ledger.clock)
    assert (await usage(ledger)).items[0].project == "demo"


async def test_usage_is_paged_by_project_and_model_without_loss(ledger: Store) -> None:
    models = [f"m{n}" for n in range(5)]
    await hear(
        ledger,
        batch(1, *(row(f"{p}{m}", project=p, model=m) for p in (PROJECT, OTHER) for m in models)),
    )
    for extra in ({}, {"since": NOW}):
        seen, cursor = [], None
        while True:
            page = await usage(ledger, page=Page(limit=3, cursor=cursor), **extra)
            seen += [(one.project_id, one.model) for one in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert len(page.items) == 1
        assert sorted(seen) == sorted((p, m) for p in (PROJECT, OTHER) for m in models)
        assert len(set(seen)) == 10


async def test_aborted_and_failed_requests_are_counted_and_paid(ledger: Store) -> None:
    first = batch(1, row("a", state="aborted"), row("b", state="failed"), row("c"))
    await hear(ledger, first, batch(2, row("d")))
    (sums,) = (await usage(ledger)).items
    assert (sums.requests, sums.aborted, sums.failed, sums.cost_microeur) == (4, 1, 1, 14)


async def test_the_price_book_holds_a_default_and_what_ships(ledger: Store) -> None:
    async with ledger.transaction() as tx:
        book = await asks.list_prices(ListPrices(**wish()), TENANT, tx, ledger.clock)
    assert {one.model for one in book.items} == {"*", "tiny", "all-minilm-l6-v2"}
