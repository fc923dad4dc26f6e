"""Our side of ``mesh bench bus``: one step of the measurement, in a process of its own.

``python -m mesh_tools.bench.road STEP NATS_URL …`` prints one JSON object.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import uvloop
from mesh_contracts.fact import subject_of
from mesh_contracts.metering import UsageRecorded
from mesh_contracts.wire import encode
from meshkit import declare
from meshkit.clock import Clock, SystemClock
from meshkit.config import Secret
from meshkit.consumer import Pull
from meshkit.handled import Handled
from meshkit.hear import Lanes
from meshkit.reader import Reader
from meshkit.relay import Relay
from meshkit.store import Store, Transaction

from mesh_tools.bench.measuring import (
    MEASURED,
    STREAM,
    Count,
    at_rate,
    connect,
    consumer,
    fact,
    spread,
    until,
)


async def publish(url: str, facts: int) -> dict[str, Any]:
    """Declare the stream and store ``facts`` in it."""
    bus = await connect(url)
    await declare.declare(bus)
    now = bus.clock.now()
    for first in range(0, facts, 500):
        told = [fact(number, now) for number in range(first, min(first + 500, facts))]
        await asyncio.gather(
            *(
                bus.store(
                    subject_of(one),
                    encode(one),
                    msg_id=one.fact_id,
                    headers={"traceparent": one.traceparent or ""},
                )
                for one in told
            )
        )
    await bus.close()
    return {"stored": facts}


async def handle(url: str, facts: int, run: str) -> dict[str, Any]:
    """Handle every stored fact without a database; return the rate and CPU a fact."""
    bus = await connect(url)
    pull = await consumer(bus, f"bench_{STREAM}_{run}")
    count = Count(facts)

    async def on_usage(told: UsageRecorded) -> None:
        assert told.requests >= 0
        count.one()

    lanes = Lanes(pull.name, pull, {UsageRecorded: on_usage})
    lanes.start()
    await pull.start(lanes.heard)
    await count.done.wait()
    figures = count.figures()
    await pull.stop()
    await lanes.stop()
    await bus.close()
    return figures


async def inbox(url: str, facts: int, run: str) -> dict[str, Any]:
    """Handle every stored fact with inbox, effect and commit in Postgres; return the rate."""
    bus = await connect(url)
    store = await _store()
    async with store.transaction() as tx:
        await tx.change("DROP TABLE IF EXISTS effect")
        await tx.change("CREATE TABLE effect (fact_id text PRIMARY KEY, tokens bigint NOT NULL)")
    pull = await consumer(bus, f"inbox_{STREAM}_{run}")
    count = Count(facts)
    transactions: set[datetime] = set()

    async def on_usage(told: UsageRecorded, tx: Transaction, _clock: Clock) -> None:
        await tx.change("INSERT INTO effect VALUES ($1, $2)", told.fact_id, told.completion_tokens)
        transactions.add(tx.now)
        count.one()

    figures = await _read(store, pull, on_usage, count)
    figures["commits"] = len(transactions)
    async with store.transaction() as tx:
        kept = await tx.value("SELECT count(*) FROM effect")
    assert kept == facts, f"{kept} effects of {facts} facts"
    await store.close()
    await bus.close()
    return figures


async def _read(
    store: Store,
    pull: Pull,
    on_usage: Callable[[Any, Transaction, Clock], Awaitable[None]],
    count: "Count",
) -> dict[str, Any]:
    reader = Reader(Handled(pull.name, store, {UsageRecorded: on_usage}), pull)
    await reader.begin()
    running = asyncio.create_task(reader.run())
    await pull.start(reader.heard)
    await count.done.wait()
    while reader.backlog:  # noqa: ASYNC110 the last transaction commits
        await asyncio.sleep(0.001)
    figures = count.figures()
    await pull.stop()
    reader.stop()
    await running
    return figures


async def published(url: str) -> dict[str, Any]:
    """Return how long a published fact takes until its handler is entered, at ``RATE_PER_S``."""
    bus = await connect(url)
    entered: list[float] = []
    sent: dict[str, float] = {}

    async def on_usage(told: UsageRecorded) -> None:
        if told.fact_id in sent:
            entered.append(time.perf_counter() - sent[told.fact_id])

    pull = await consumer(bus, f"published_{STREAM}_0", new=True)
    lanes = Lanes(pull.name, pull, {UsageRecorded: on_usage})
    lanes.start()
    await pull.start(lanes.heard)

    async def tell(number: int) -> None:
        one = fact(number, bus.clock.now())
        sent[one.fact_id] = time.perf_counter()
        await bus.store(subject_of(one), encode(one), msg_id=one.fact_id)

    await at_rate(tell)
    await until(lambda: len(entered) >= MEASURED)
    await pull.stop()
    await lanes.stop()
    await bus.close()
    return spread(entered)


async def committed(url: str) -> dict[str, Any]:
    """Return how long a committed fact takes through the outbox until its handler is entered."""
    bus = await connect(url)
    store = await _store()
    relay = Relay(store, bus)
    relaying = asyncio.create_task(relay.run())
    entered: list[float] = []
    sent: dict[str, float] = {}
    heard: dict[str, float] = {}

    async def on_usage(told: UsageRecorded) -> None:
        heard[told.fact_id] = time.perf_counter()

    pull = await consumer(bus, f"committed_{STREAM}_0", new=True)
    lanes = Lanes(pull.name, pull, {UsageRecorded: on_usage})
    lanes.start()
    await pull.start(lanes.heard)

    async def tell(number: int) -> None:
        one = fact(number, bus.clock.now())
        async with store.transaction() as tx:
            await tx.tell(one)
        sent[one.fact_id] = time.perf_counter()

    await at_rate(tell)
    await until(lambda: len(heard) >= len(sent) >= MEASURED)
    # The relay may be quicker than the return of our own commit: that is zero, not less.
    entered = [max(0.0, heard[fact_id] - at) for fact_id, at in sent.items()]
    await pull.stop()
    await lanes.stop()
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    await store.close()
    await bus.close()
    return spread(entered)


async def _store() -> Store:
    dsn = Secret(os.environ["BENCH_POSTGRES_DSN"])
    return await Store.connect(dsn, owner="metering", clock=SystemClock())


STEPS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "publish": lambda url, facts: publish(url, int(facts)),
    "handle": lambda url, facts, run: handle(url, int(facts), run),
    "inbox": lambda url, facts, run: inbox(url, int(facts), run),
    "published": published,
    "committed": committed,
}


async def _main() -> None:
    print(json.dumps(await STEPS[sys.argv[1]](*sys.argv[2:])))


if __name__ == "__main__":
    uvloop.run(_main())
